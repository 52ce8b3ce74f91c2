//! Tar shards in the WebDataset form, indexed once and then read by seek.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::sample::{Blob, MAX_CAPTION_BYTES, Record, captions_of};
use crate::error::{Error, Result};

const IMAGE_EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// A class label longer than this is not one.
const MAX_LABEL_BYTES: u64 = 64;

/// The samples of all shards, in the order of the shards and of the first entry of each.
#[derive(Debug)]
pub(super) struct WebDataset {
    samples: Vec<Sample>,
    dropped: usize,
}

#[derive(Debug)]
struct Sample {
    id: String,
    image: Option<Blob>,
    text: Option<Blob>,
    label: Option<String>,
}

impl WebDataset {
    pub(super) fn open(shards: &[PathBuf]) -> Result<Self> {
        let mut samples = Vec::new();
        for shard in shards {
            samples.extend(index(shard)?);
        }
        // Labels 0 and 1 on captioned samples, and no third value, mark captions as false or true of their image. With
        // one value only there is nothing to tell apart, and with more (digits, classes) they are not truth values.
        let labels: BTreeSet<&str> = samples.iter().filter_map(|sample| sample.label.as_deref()).collect();
        let truth = labels.iter().eq(["0", "1"].iter());
        let before = samples.len();
        if truth {
            samples.retain(|sample| sample.text.is_none() || sample.label.as_deref() != Some("0"));
        }
        let dropped = before - samples.len();
        Ok(Self { samples, dropped })
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn dropped(&self) -> usize {
        self.dropped
    }

    pub(super) fn record(&self, index: usize) -> Option<Result<Record>> {
        let sample = self.samples.get(index)?;
        let captions = match &sample.text {
            None => Ok(Vec::new()),
            Some(blob) => blob.read(MAX_CAPTION_BYTES).and_then(|bytes| {
                std::str::from_utf8(&bytes).map(captions_of).map_err(|_| blob.error("the caption is not UTF-8 text"))
            }),
        };
        Some(captions.and_then(|captions| match &sample.text {
            Some(blob) if captions.is_empty() && sample.image.is_none() => {
                Err(blob.error("neither an image nor a caption"))
            }
            _ => Ok(Record { id: sample.id.clone(), image: sample.image.clone(), captions }),
        }))
    }
}

/// Read the headers of one shard and group its entries. Samples without an image and a caption are left out.
fn index(shard: &Path) -> Result<Vec<Sample>> {
    let file = File::open(shard).map_err(|e| Error::io("open", shard, e))?;
    let length = file.metadata().map_err(|e| Error::io("read", shard, e))?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let entries = archive.entries_with_seek().map_err(|e| Error::data(shard, e))?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::data(shard, format_args!("not a readable tar archive: {e}")))?;
        let raw = entry.path_bytes();
        let Ok(name) = std::str::from_utf8(&raw) else {
            return Err(Error::record(shard, String::from_utf8_lossy(&raw), "the entry's name is not UTF-8"));
        };
        if let Some(reason) = unsafe_name(name) {
            return Err(Error::record(shard, name, reason));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() {
            return Err(Error::record(shard, name, "links and special entries are refused"));
        }
        let (start, size) = (entry.raw_file_position(), entry.size());
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(Error::record(shard, name, "the archive ends inside this entry; copy it again"));
        }
        let Some((key, extension)) = split_name(name) else { continue };
        let index = *place.entry(key.to_owned()).or_insert(samples.len());
        if index == samples.len() {
            samples.push(Sample { id: key.to_owned(), image: None, text: None, label: None });
        }
        let blob = Blob { path: shard.into(), record: name.to_owned(), span: Some((start, size)) };
        if let Some(sample) = samples.get_mut(index) {
            add(sample, &extension.to_ascii_lowercase(), blob)?;
        }
    }
    samples.retain(|sample| sample.image.is_some() || sample.text.is_some());
    Ok(samples)
}

fn add(sample: &mut Sample, extension: &str, blob: Blob) -> Result<()> {
    let slot = match extension {
        "txt" => &mut sample.text,
        "cls" => {
            sample.label = match blob.span {
                Some((_, size)) if size <= MAX_LABEL_BYTES => {
                    Some(String::from_utf8_lossy(&blob.read(MAX_LABEL_BYTES)?).trim().to_owned())
                }
                _ => Some("not a label".to_owned()),
            };
            return Ok(());
        }
        _ if IMAGE_EXTENSIONS.contains(&extension) => &mut sample.image,
        _ => return Ok(()),
    };
    if let Some(first) = slot {
        return Err(blob.error(format_args!("its sample has {} already", first.record)));
    }
    *slot = Some(blob);
    Ok(())
}

/// `a.b/key.seg.png` is key `a.b/key` and extension `seg.png`: the first dot after the folder parts them.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = file + name.get(file..)?.find('.')?;
    (dot > file).then_some((name.get(..dot)?, name.get(dot + 1..)?))
}

/// Why a name from somebody else's file is refused, if it is: it must stay below the folder it is read in.
pub(super) fn unsafe_name(name: &str) -> Option<&'static str> {
    let parts = || name.split(['/', '\\']);
    if name.starts_with(['/', '\\']) || parts().next().is_some_and(|part| part.ends_with(':')) {
        Some("absolute paths are refused")
    } else if parts().any(|part| part == "..") {
        Some("paths with `..` are refused")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{png, tar, tar_entry};
    use super::*;

    fn open(entries: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<WebDataset>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        tar(&path, entries);
        let set = WebDataset::open(&[path]);
        (dir, set)
    }

    #[test]
    fn entries_are_grouped_by_name_up_to_the_first_dot() {
        let image = png(2, 2, [1, 2, 3]);
        let (_dir, set) = open(&[
            ("x.d/b.png", &image),
            ("x.d/a.JPG", b"jpeg"),
            ("x.d/b.txt", b" caption of b\n"),
            ("x.d/a.sensor.csv", b"1,2"),
            ("x.d/c.json", b"{}"),
            ("d.txt", b"only text"),
            (".hidden.png", b""),
        ]);
        let set = set.unwrap();
        let records: Vec<_> = (0..set.len()).map(|i| set.record(i).unwrap().unwrap()).collect();
        let ids: Vec<_> = records.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["x.d/b", "x.d/a", "d"]);
        assert_eq!(records[0].captions, ["caption of b"]);
        assert_eq!(records[0].image.as_ref().unwrap().read(1 << 20).unwrap(), image);
        assert!(records[0].image.as_ref().unwrap().read(3).unwrap_err().to_string().contains("x.d/b.png"));
        assert_eq!(records[1].image.as_ref().unwrap().read(1 << 20).unwrap(), b"jpeg");
        assert!(records[2].image.is_none());
    }

    #[test]
    fn truth_labels_drop_false_captions_and_class_labels_drop_nothing() {
        let cases: [(&[&str], usize, usize); 5] = [
            (&["0", "1", "0\n"], 1, 2),
            (&["0", "0"], 2, 0),
            (&["1", "1"], 2, 0),
            (&["0", "1", "2"], 3, 0),
            (&["0", "1", "yes"], 3, 0),
        ];
        for (labels, kept, dropped) in cases {
            let names: Vec<_> = (0..labels.len()).map(|i| (format!("{i}.txt"), format!("{i}.cls"))).collect();
            let mut entries: Vec<(&str, &[u8])> = Vec::new();
            for (label, (text, cls)) in labels.iter().zip(&names) {
                entries.push((text, b"words"));
                entries.push((cls, label.as_bytes()));
            }
            let set = open(&entries).1.unwrap();
            assert_eq!((set.len(), set.dropped()), (kept, dropped), "{labels:?}");
        }
        let (_dir, set) = open(&[("a.png", b"i"), ("a.cls", b"0"), ("b.txt", b"t"), ("b.cls", b"1")]);
        assert_eq!(set.unwrap().len(), 2, "a sample without a caption is kept");
    }

    #[test]
    fn unsafe_archives_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let long = "a".repeat(MAX_CAPTION_BYTES as usize + 1);
        let cases: [(&str, u8, &[u8], &str); 5] = [
            ("../a.png", b'0', b"i", "`..`"),
            ("x/../../a.png", b'0', b"i", "`..`"),
            ("/etc/a.txt", b'0', b"i", "absolute"),
            ("a.png", b'2', b"", "links"),
            ("a.png", b'1', b"", "links"),
        ];
        for (name, kind, data, wanted) in cases {
            let path = dir.path().join("bad.tar");
            std::fs::write(
                &path,
                [tar_entry("ok.txt", b'0', b"fine"), tar_entry(name, kind, data), vec![0; 1024]].concat(),
            )
            .unwrap();
            let error = WebDataset::open(&[path]).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains(name) && error.contains("bad.tar"), "{name}: {error}");
        }
        let (_dir, set) =
            open(&[("a.txt", long.as_bytes()), ("b.txt", b"\xff\xfe"), ("c.txt", b" "), ("d.txt", b"ok")]);
        let set = set.unwrap();
        let wanted = ["a.txt: 1048577 bytes, more than", "b.txt: the caption is not UTF-8", "c.txt: neither"];
        for (i, wanted) in wanted.iter().enumerate() {
            let error = set.record(i).unwrap().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(set.record(3).unwrap().is_ok());
    }

    #[test]
    fn broken_archives_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [tar_entry("a.txt", b'0', &[b'x'; 2000]), vec![0; 1024]].concat();
        let mut garbled = whole.clone();
        garbled[3] ^= 1;
        let text = vec![b'z'; 5000];
        for (name, bytes) in [("cut.tar", &whole[..1200]), ("garbled.tar", &garbled), ("text.tar", &text)] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = WebDataset::open(&[path]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let (_dir, set) = open(&[("a.png", b"1"), ("a.jpg", b"2")]);
        assert!(set.unwrap_err().to_string().contains("has a.png already"));
    }
}
