//! Event files that TensorBoard reads: protobuf messages, each framed by lengths and checksums.
//!
//! A record is `length: u64, masked CRC of the length: u32, message, masked CRC of the message: u32`, little endian. The
//! checksum is CRC-32C, rotated right by 15 and offset by a constant so that a checksum of checksums is not trivial
//! (TensorFlow, `tensorflow/core/lib/io/record_writer.h`). Message fields: `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3: RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Session {
    /// 1: start. A reader forgets what it knows of this and later steps.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Writes one event file.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Starts the event file `path`. A run that goes on from a checkpoint gives the first `step` it will do: viewers then
    /// forget what an earlier part recorded for this and later steps. A new run gives 0.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path, step: u64) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        let mut events = Self { file, path: path.into() };
        events.write(&Event { file_version: Some("brain.Event:2".into()), ..event(0) })?;
        if step > 0 {
            events.write(&Event { session: Some(Session { status: 1 }), ..event(step) })?;
        }
        Ok(events)
    }

    /// Records numbers under their names; `loss/jepa` groups under `loss`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let scalar = |(name, value): &(&str, f64)| SummaryValue {
            tag: (*name).to_owned(),
            simple_value: Some(*value as f32),
            image: None,
        };
        let value = values.iter().map(scalar).collect();
        self.write(&Event { summary: Some(Summary { value }), ..event(step) })
    }

    /// Records an encoded RGB picture (PNG) of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, step: u64, name: &str, width: u32, height: u32, png: Vec<u8>) -> Result<()> {
        let side = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
        let image = Image { height: side(height), width: side(width), colorspace: 3, encoded_image_string: png };
        let value = vec![SummaryValue { tag: name.into(), simple_value: None, image: Some(image) }];
        self.write(&Event { summary: Some(Summary { value }), ..event(step) })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// An event of now without content.
fn event(step: u64) -> Event {
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    Event { wall_time, step: i64::try_from(step).unwrap_or(i64::MAX), file_version: None, summary: None, session: None }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), message, &masked_crc(message).to_le_bytes()].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    Crc::<u32>::new(&CRC_32_ISCSI).checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file back; `None` when a checksum or a length is wrong.
    fn read(bytes: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<8>()?;
            let (crc, after) = after.split_first_chunk::<4>()?;
            let (message, after) = after.split_at_checked(u64::from_le_bytes(*length) as usize)?;
            let (message_crc, after) = after.split_first_chunk::<4>()?;
            if u32::from_le_bytes(*crc) != masked_crc(length) || u32::from_le_bytes(*message_crc) != masked_crc(message)
            {
                return None;
            }
            events.push(Event::decode(message).ok()?);
            rest = after;
        }
        Some(events)
    }

    /// The check value of CRC-32C ("123456789"), masked by hand, and the first record of every event file, whose length
    /// bytes and checksum are the same in all of them.
    #[test]
    fn checksums_are_the_published_ones() {
        let masked = 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), masked);
        let twenty_four = 24u64.to_le_bytes();
        assert_eq!(masked_crc(&twenty_four).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn events_come_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        let mut events = Events::create(&path, 20).unwrap();
        events.scalars(21, &[("loss/total", 0.5), ("lr", 3e-4)]).unwrap();
        events.image(22, "samples", 3, 2, vec![1, 2, 3]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read_back = read(&bytes).unwrap();
        assert_eq!(read_back[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((read_back[1].step, read_back[1].session.clone()), (20, Some(Session { status: 1 })));
        let values = &read_back[2].summary.as_ref().unwrap().value;
        assert_eq!((values[0].tag.as_str(), values[0].simple_value), ("loss/total", Some(0.5)));
        assert_eq!((values[1].tag.as_str(), values[1].simple_value), ("lr", Some(3e-4)));
        let image = read_back[3].summary.as_ref().unwrap().value[0].image.as_ref().unwrap();
        assert_eq!((image.height, image.width, image.encoded_image_string.as_slice()), (2, 3, &[1u8, 2, 3][..]));
        let unseen: Vec<_> = (0..bytes.len())
            .filter(|at| {
                let mut damaged = bytes.clone();
                damaged[*at] ^= 4;
                read(&damaged).is_some()
            })
            .collect();
        assert!(unseen.is_empty(), "changed bytes {unseen:?} were not noticed");
    }
}
