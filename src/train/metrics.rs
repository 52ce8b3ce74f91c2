//! Metrics as lines of JSON, `{"step":10,"loss":0.5}`: one per logged step, on the disk as soon as it is written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::files;
use crate::error::{Error, Result};

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Steps done.
    pub step: u64,
    /// Names and values in their order; a value that is not finite is read as NaN.
    pub values: Vec<(String, f64)>,
}

impl Record {
    /// The value called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// Opens `path` for appending, making it when it is not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io("open", path, e))?;
        Ok(Self { file, path: path.into() })
    }

    /// Writes one line and hands it to the operating system at once. JSON has no NaN: such values are written as null.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        line.extend(values.iter().map(|(name, value)| ((*name).to_owned(), Json::from(*value))));
        let text = format!("{}\n", Json::Object(line));
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// Every whole line of a metrics file. A last line that a killed process left unfinished is passed over.
///
/// # Errors
/// [`Error::Io`], or [`Error::Data`] naming a line that is not a metrics record.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = files::read_text(path)?;
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let lines = whole.lines().enumerate();
    lines
        .map(|(at, line)| {
            parse(line).ok_or_else(|| Error::record(path, format!("line {}", at + 1), "not a metrics record"))
        })
        .collect()
}

fn parse(line: &str) -> Option<Record> {
    let object: Map<String, Json> = serde_json::from_str(line).ok()?;
    let step = object.get("step")?.as_u64()?;
    let values = object.iter().filter(|(name, _)| *name != "step");
    let values = values.map(|(name, value)| (name.clone(), value.as_f64().unwrap_or(f64::NAN))).collect();
    Some(Record { step, values })
}

/// Removes the lines of steps after `step`, and an unfinished last line. A file that is not there is left so.
///
/// # Errors
/// As [`read`].
pub fn truncate(path: &Path, step: u64) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let records = read(path)?;
    let text = files::read_text(path)?;
    let kept = text.lines().zip(records).filter(|(_, record)| record.step <= step);
    files::write(path, kept.map(|(line, _)| format!("{line}\n")).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = Writer::append(&path).unwrap();
        writer.write(1, &[("loss", 0.5), ("lr", 1e-8)]).unwrap();
        writer.write(2, &[("loss", f64::NAN)]).unwrap();
        assert_eq!(
            files::read_text(&path).unwrap(),
            "{\"step\":1,\"loss\":0.5,\"lr\":1e-8}\n{\"step\":2,\"loss\":null}\n"
        );
        let records = read(&path).unwrap();
        assert_eq!(records[0].get("lr"), Some(1e-8));
        assert!(records[1].get("loss").unwrap().is_nan());
        assert_eq!(records[1].get("lr"), None);
    }

    #[test]
    fn truncation_keeps_whole_lines_up_to_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        truncate(&path, 3).unwrap();
        assert!(!path.exists());
        let line = |step: u64| format!("{{\"step\":{step},\"loss\":1.25}}\n");
        let cases = [
            (format!("{}{}{}", line(1), line(2), line(3)), 2, format!("{}{}", line(1), line(2))),
            (format!("{}{{\"step\":2,\"lo", line(1)), 9, line(1)),
            (format!("{}{}", line(5), line(6)), 4, String::new()),
            (String::new(), 4, String::new()),
        ];
        for (text, step, want) in cases {
            std::fs::write(&path, &text).unwrap();
            truncate(&path, step).unwrap();
            assert_eq!(files::read_text(&path).unwrap(), want, "{text:?} to {step}");
        }
        std::fs::write(&path, "{\"step\":1}\nrubbish\n{\"step\":2}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("line 2: not a metrics record"));
    }
}
