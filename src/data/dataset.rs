//! Opening a data set from a path, whatever its form.

use std::path::{Path, PathBuf};

use super::coco::Coco;
use super::folder::Folder;
use super::sample::Record;
use super::webdataset::WebDataset;
use crate::error::{Error, Result};

/// A data set on disk, indexed: records are read one by one on request, from any thread.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    reader: Reader,
    most: usize,
}

#[derive(Debug)]
enum Reader {
    Folder(Folder),
    WebDataset(WebDataset),
    Coco(Coco),
}

impl Dataset {
    /// Open what `path` holds. In a folder the first of these decides: `*.tar` shards (WebDataset), `captions.json`
    /// (COCO), `captions.csv`. A path to one such file works too; a `.json` or `.csv` may then have any name.
    ///
    /// - `captions.csv`: columns `file` (relative to the table) and `caption`; others are ignored. Either may be empty.
    /// - shards: entries of one name up to the first dot are one sample; `.png .jpg .jpeg .webp` is the image, `.txt`
    ///   the caption, other entries are ignored. When the `.cls` labels of the whole set are exactly the two values 0 and 1,
    ///   they are read as "the caption is true of the image", and captioned samples with 0 are dropped
    ///   ([`Dataset::dropped`] counts them); class labels of any other kind are ignored.
    /// - `captions.json`: `images` and `annotations` as in COCO, the pictures in `images/` or beside it.
    ///
    /// # Errors
    /// A path without any of these, a table without its columns, an archive with unsafe entries, or no sample at all.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let reader = if path.is_dir() { open_folder(path)? } else { open_file(path)? };
        let dataset = Self { path: path.into(), reader, most: usize::MAX };
        if dataset.is_empty() {
            return Err(Error::data(path, "the data set holds no samples; check that this is the right path"));
        }
        Ok(dataset)
    }

    /// The data set of its first `most` samples.
    #[must_use]
    pub fn first(self, most: usize) -> Self {
        Self { most: most.max(1), ..self }
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of samples, unusable ones included.
    pub fn len(&self) -> usize {
        let all = match &self.reader {
            Reader::Folder(reader) => reader.len(),
            Reader::WebDataset(reader) => reader.len(),
            Reader::Coco(reader) => reader.len(),
        };
        all.min(self.most)
    }

    /// Never true for a data set that was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of samples left out because their label says that the caption is false of the image.
    pub fn dropped(&self) -> usize {
        match &self.reader {
            Reader::WebDataset(reader) => reader.dropped(),
            Reader::Folder(_) | Reader::Coco(_) => 0,
        }
    }

    /// "captions.csv", "WebDataset" or "COCO": the form that was found.
    pub fn form(&self) -> &'static str {
        match &self.reader {
            Reader::Folder(_) => "captions.csv",
            Reader::WebDataset(_) => "WebDataset",
            Reader::Coco(_) => "COCO",
        }
    }

    /// Record `index`, below [`Dataset::len`]. The image is located, not decoded.
    ///
    /// # Errors
    /// A record that cannot be used, named by file and row or entry.
    pub fn record(&self, index: usize) -> Result<Record> {
        let record = match &self.reader {
            Reader::Folder(reader) => reader.record(index),
            Reader::WebDataset(reader) => reader.record(index),
            Reader::Coco(reader) => reader.record(index),
        };
        record.filter(|_| index < self.len()).unwrap_or_else(|| {
            Err(Error::record(&self.path, index, format_args!("the data set has {} records", self.len())))
        })
    }

    /// Every caption of every usable record, in the order of the data set: what a tokenizer is trained on.
    pub fn captions(&self) -> Vec<String> {
        (0..self.len()).filter_map(|index| self.record(index).ok()).flat_map(|record| record.captions).collect()
    }
}

fn open_folder(path: &Path) -> Result<Reader> {
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| Error::io("read the folder", path, e))? {
        let file = entry.map_err(|e| Error::io("read the folder", path, e))?.path();
        if has_extension(&file, "tar") && file.is_file() {
            shards.push(file);
        }
    }
    shards.sort();
    let (json, csv) = (path.join("captions.json"), path.join("captions.csv"));
    if !shards.is_empty() {
        Ok(Reader::WebDataset(WebDataset::open(&shards)?))
    } else if json.is_file() {
        Ok(Reader::Coco(Coco::open(&json)?))
    } else if csv.is_file() {
        Ok(Reader::Folder(Folder::open(&csv)?))
    } else {
        let hint = if path.join("train").is_dir() { "; did you mean its folder `train`?" } else { "" };
        Err(Error::data(path, format_args!("no *.tar, captions.json or captions.csv in this folder{hint}")))
    }
}

fn open_file(path: &Path) -> Result<Reader> {
    if !path.exists() {
        return Err(Error::data(path, "there is no such file or folder"));
    }
    if has_extension(path, "tar") {
        Ok(Reader::WebDataset(WebDataset::open(&[path.to_owned()])?))
    } else if has_extension(path, "json") {
        Ok(Reader::Coco(Coco::open(path)?))
    } else if has_extension(path, "csv") {
        Ok(Reader::Folder(Folder::open(path)?))
    } else {
        Err(Error::data(path, "neither a folder nor a .tar, .json or .csv file"))
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{png, tar};
    use super::*;

    #[test]
    fn shards_come_before_json_and_json_before_csv() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let form = || Dataset::open(dir.path()).map(|d| d.form()).map_err(|e| e.to_string());
        assert!(form().unwrap_err().contains("no *.tar, captions.json or captions.csv"));
        std::fs::write(at("captions.csv"), "file,caption\n,a word\n").unwrap();
        assert_eq!(form().unwrap(), "captions.csv");
        std::fs::write(at("captions.json"), r#"{"images":[{"id":1,"file_name":"a.png"}],"annotations":[]}"#).unwrap();
        assert_eq!(form().unwrap(), "COCO");
        tar(&at("a.tar"), &[("k.png", &png(1, 1, [0, 0, 0]))]);
        assert_eq!(form().unwrap(), "WebDataset");
    }

    #[test]
    fn a_path_that_is_no_data_set_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("parent/train")).unwrap();
        std::fs::write(dir.path().join("notes.md"), "text").unwrap();
        std::fs::write(dir.path().join("empty.csv"), "file,caption\n").unwrap();
        tar(&dir.path().join("empty.tar"), &[]);
        std::fs::write(dir.path().join("empty.json"), r#"{"images":[],"annotations":[]}"#).unwrap();
        let cases = [
            ("parent", "did you mean its folder `train`"),
            ("missing", "no such file"),
            ("notes.md", "neither a folder"),
            ("empty.csv", "no samples"),
            ("empty.tar", "no samples"),
            ("empty.json", "no samples"),
        ];
        for (name, wanted) in cases {
            let text = Dataset::open(dir.path().join(name)).unwrap_err().to_string();
            assert!(text.contains(wanted) && text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn a_record_past_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("captions.csv"), "file,caption\n,a word\n").unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(dataset.len(), 1);
        assert!(dataset.record(1).unwrap_err().to_string().contains("has 1 records"));
    }

    #[test]
    fn the_first_samples_are_a_data_set() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("captions.csv"), "file,caption\n,a\n,b\n,c\n").unwrap();
        let open = || Dataset::open(dir.path()).unwrap();
        for (most, len) in [(0, 1), (2, 2), (9, 3)] {
            assert_eq!(open().first(most).len(), len, "first {most}");
        }
        let two = open().first(2);
        assert_eq!(two.captions(), ["a", "b"]);
        assert!(two.record(2).unwrap_err().to_string().contains("has 2 records"));
    }
}
