//! What a reader delivers (a record) and what a model takes (a batch).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The most bytes an image file or archive entry may have.
pub const MAX_IMAGE_BYTES: u64 = 64 << 20;
/// The most bytes a caption file or archive entry may have.
pub const MAX_CAPTION_BYTES: u64 = 1 << 20;

/// Where some bytes lie: a file, or a span of an archive. Nothing is read until [`Blob::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The file, or the archive that holds the entry.
    pub path: PathBuf,
    /// What error messages add to the path: the entry's name, or the row of a table. Empty for a file that stands alone.
    pub record: String,
    /// First byte and number of bytes inside `path`; `None` for the whole file.
    pub span: Option<(u64, u64)>,
}

impl Blob {
    /// A whole file.
    pub fn file(path: impl Into<PathBuf>, record: impl Into<String>) -> Self {
        Self { path: path.into(), record: record.into(), span: None }
    }

    /// The bytes. Fails when the file cannot be read, ends early or has more than `limit` bytes.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>> {
        let mut file = File::open(&self.path).map_err(|e| self.unreadable("open", e))?;
        let (start, size) = match self.span {
            Some(span) => span,
            None => (0, file.metadata().map_err(|e| self.unreadable("read", e))?.len()),
        };
        if size > limit {
            return Err(self.error(format_args!("{size} bytes, more than the {limit} allowed")));
        }
        file.seek(SeekFrom::Start(start)).map_err(|e| self.unreadable("seek in", e))?;
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(size).read_to_end(&mut bytes).map_err(|e| self.unreadable("read", e))?;
        if (bytes.len() as u64) < size {
            return Err(self.error(format_args!("ends after {} of {size} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    /// A data error that names this file and record.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        if self.record.is_empty() {
            Error::data(&self.path, reason)
        } else {
            Error::record(&self.path, &self.record, reason)
        }
    }

    fn unreadable(&self, action: &str, source: std::io::Error) -> Error {
        self.error(format_args!("cannot {action} it: {source}"))
    }
}

/// One sample as it is stored: either modality may be absent, not both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A name that is unique in the data set: the image's path, or the key in an archive.
    pub id: String,
    /// The encoded image, not read yet.
    pub image: Option<Blob>,
    /// The captions, none empty, white space at both ends removed.
    pub captions: Vec<String>,
}

/// The absence of a modality: an empty or blank caption is no caption.
pub(crate) fn captions_of(text: &str) -> Vec<String> {
    let text = text.trim();
    if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
}

/// Samples ready for a model, in host memory. B = `size`, S = image side, L = text length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// B, the number of samples.
    pub size: usize,
    /// (B, 3, S, S), values in [0, 1]; zeros where there is no image.
    pub image: Vec<f32>,
    /// (B, L) token ids; 0 is padding, and a row without text is all padding.
    pub tokens: Vec<u32>,
    /// (B) whether the sample has an image.
    pub has_image: Vec<bool>,
    /// (B) whether the sample has a caption.
    pub has_text: Vec<bool>,
    /// (B) the caption used, empty where there is none.
    pub captions: Vec<String>,
    /// (B) the records' names.
    pub ids: Vec<String>,
    /// (B) the records' numbers in the data set.
    pub indices: Vec<usize>,
    /// Records that were needed here and could not be used, each with its reason.
    pub skipped: Vec<String>,
}
