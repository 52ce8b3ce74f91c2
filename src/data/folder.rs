//! A folder of images with a table of captions (`captions.csv`).

use std::path::{Path, PathBuf};

use super::sample::{Blob, Record, captions_of};
use crate::error::{Error, Result};

/// The rows of the table; images are located beside it.
#[derive(Debug)]
pub(super) struct Folder {
    table: PathBuf,
    rows: Vec<Row>,
}

/// A row's place in the table and its two fields, or why they cannot be used.
#[derive(Debug)]
struct Row {
    line: u64,
    fields: Result<(String, String), String>,
}

impl Folder {
    pub(super) fn open(table: &Path) -> Result<Self> {
        let file = std::fs::File::open(table).map_err(|e| Error::io("open", table, e))?;
        // Ragged rows are accepted here and judged one by one, so that one bad row does not cost the table.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(|e| unreadable(table, &e))?.clone();
        let (file_column, caption_column) = (column(table, &header, "file")?, column(table, &header, "caption")?);
        let mut rows = Vec::new();
        for record in reader.byte_records() {
            let record = record.map_err(|e| unreadable(table, &e))?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |name: &str, index: usize| match record.get(index) {
                None => Err(format!("{} fields, but column `{name}` is number {}", record.len(), index + 1)),
                Some(bytes) => std::str::from_utf8(bytes)
                    .map(|text| text.trim().to_owned())
                    .map_err(|_| format!("column `{name}` is not UTF-8 text")),
            };
            let fields = field("file", file_column).and_then(|f| Ok((f, field("caption", caption_column)?)));
            rows.push(Row { line, fields });
        }
        Ok(Self { table: table.into(), rows })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn record(&self, index: usize) -> Option<Result<Record>> {
        let row = self.rows.get(index)?;
        let place = format!("line {}", row.line);
        let (file, caption) = match &row.fields {
            Ok(fields) => fields,
            Err(reason) => return Some(Err(Error::record(&self.table, place, reason))),
        };
        let captions = captions_of(caption);
        if file.is_empty() && captions.is_empty() {
            return Some(Err(Error::record(&self.table, place, "neither a file nor a caption")));
        }
        let image = (!file.is_empty()).then(|| {
            let folder = self.table.parent().unwrap_or(Path::new(""));
            let name = self.table.file_name().unwrap_or_default().to_string_lossy();
            Blob::file(folder.join(file), format!("{place} of {name}"))
        });
        let id = if file.is_empty() { place } else { file.clone() };
        Some(Ok(Record { id, image, captions }))
    }
}

fn column(table: &Path, header: &csv::ByteRecord, name: &str) -> Result<usize> {
    let found = header.iter().position(|field| field.trim_ascii() == name.as_bytes());
    found.ok_or_else(|| {
        let have: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        Error::data(table, format_args!("no column `{name}` in the first line (it has: {})", have.join(", ")))
    })
}

fn unreadable(table: &Path, error: &csv::Error) -> Error {
    Error::data(table, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &[u8]) -> (tempfile::TempDir, Result<Folder>) {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("captions.csv");
        std::fs::write(&table, text).unwrap();
        let folder = Folder::open(&table);
        (dir, folder)
    }

    #[test]
    fn rows_may_lack_either_modality() {
        let (dir, folder) =
            open("\u{feff}label,caption,file\nx,\"a, \"\"b\"\"\",i/a.png\ny, ,b.png\nz,words,\n".as_bytes());
        let folder = folder.unwrap();
        assert_eq!(folder.len(), 3);
        let records: Vec<_> = (0..3).map(|i| folder.record(i).unwrap().unwrap()).collect();
        assert_eq!(records[0].captions, ["a, \"b\""]);
        assert_eq!(records[0].image.as_ref().unwrap().path, dir.path().join("i/a.png"));
        assert_eq!((records[1].id.as_str(), records[1].captions.len()), ("b.png", 0));
        assert_eq!((records[2].id.as_str(), records[2].image.is_none()), ("line 4", true));
        assert!(folder.record(3).is_none());
    }

    #[test]
    fn a_missing_column_names_file_and_column() {
        for (text, column) in [("file,text\na,b\n", "caption"), ("caption\nb\n", "file"), ("", "file")] {
            let error = open(text.as_bytes()).1.unwrap_err().to_string();
            assert!(error.contains("captions.csv") && error.contains(&format!("`{column}`")), "{error}");
        }
    }

    #[test]
    fn a_bad_row_is_named_and_costs_only_itself() {
        let (_dir, folder) = open(b"file,caption\na.png,one\nb.png,caf\xe9\nc.png\n,\nd.png,four\n");
        let folder = folder.unwrap();
        let texts: Vec<_> = (0..5).map(|i| folder.record(i).unwrap().map_err(|e| e.to_string())).collect();
        let wanted = [
            None,
            Some("line 3: column `caption` is not UTF-8"),
            Some("line 4: 1 fields"),
            Some("line 5: neither"),
            None,
        ];
        for (i, (got, wanted)) in texts.iter().zip(wanted).enumerate() {
            match (got, wanted) {
                (Ok(_), None) => {}
                (Err(text), Some(part)) if text.contains(part) && text.contains("captions.csv") => {}
                other => panic!("row {i}: {other:?}"),
            }
        }
    }
}
