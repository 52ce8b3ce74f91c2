//! Images with several captions each, as in COCO (`captions_*.json`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sample::{Blob, Record, captions_of};
use super::webdataset::unsafe_name;
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
}

/// The images in the order of the file, each with its captions in the order of the annotations.
#[derive(Debug)]
pub(super) struct Coco {
    file: PathBuf,
    images: Vec<(String, Vec<String>)>,
}

impl Coco {
    /// Annotations of images that are not listed are ignored: subsets of COCO often keep the whole annotation list.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let file: File = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data(path, format_args!("not COCO captions (images, annotations): {e}")))?;
        let mut images = Vec::with_capacity(file.images.len());
        let mut place = HashMap::with_capacity(file.images.len());
        for image in file.images {
            if let Some(reason) = unsafe_name(&image.file_name) {
                return Err(Error::record(path, format_args!("image {}", image.id), reason));
            }
            if place.insert(image.id, images.len()).is_some() {
                return Err(Error::record(path, format_args!("image {}", image.id), "this id is listed twice"));
            }
            images.push((image.file_name, Vec::new()));
        }
        for annotation in file.annotations {
            if let Some((_, captions)) = place.get(&annotation.image_id).and_then(|&index| images.get_mut(index)) {
                captions.extend(captions_of(&annotation.caption));
            }
        }
        Ok(Self { file: path.into(), images })
    }

    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    pub(super) fn record(&self, index: usize) -> Option<Result<Record>> {
        let (name, captions) = self.images.get(index)?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let inside = folder.join("images").join(name);
        let path = if inside.is_file() { inside } else { folder.join(name) };
        Some(Ok(Record { id: name.clone(), image: Some(Blob::file(path, "")), captions: captions.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> (tempfile::TempDir, Result<Coco>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("captions.json");
        std::fs::write(&path, text).unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        std::fs::write(dir.path().join("images/b.jpg"), "").unwrap();
        let coco = Coco::open(&path);
        (dir, coco)
    }

    #[test]
    fn captions_are_gathered_by_image() {
        let (dir, coco) = open(
            r#"{"info":{},"images":[{"id":7,"file_name":"a.jpg","width":1},{"id":3,"file_name":"b.jpg"}],
            "annotations":[{"id":1,"image_id":3,"caption":" one "},{"id":2,"image_id":9,"caption":"lost"},
            {"id":3,"image_id":3,"caption":"two"},{"id":4,"image_id":3,"caption":""}]}"#,
        );
        let coco = coco.unwrap();
        assert_eq!(coco.len(), 2);
        let [a, b] = [0, 1].map(|i| coco.record(i).unwrap().unwrap());
        assert_eq!((a.captions.len(), a.image.unwrap().path), (0, dir.path().join("a.jpg")));
        assert_eq!(b.captions, ["one", "two"]);
        assert_eq!(b.image.unwrap().path, dir.path().join("images/b.jpg"));
        assert!(coco.record(2).is_none());
    }

    #[test]
    fn a_file_of_another_kind_is_named() {
        let twice = r#"{"images":[{"id":1,"file_name":"a"},{"id":1,"file_name":"b"}],"annotations":[]}"#;
        let climbs = r#"{"images":[{"id":1,"file_name":"../a"}],"annotations":[]}"#;
        let cases = [
            ("[1]", "not COCO"),
            ("", "not COCO"),
            (r#"{"images":[]}"#, "annotations"),
            (twice, "twice"),
            (climbs, "`..`"),
        ];
        for (text, wanted) in cases {
            let error = open(text).1.unwrap_err().to_string();
            assert!(error.contains("captions.json") && error.contains(wanted), "{text}: {error}");
        }
    }
}
