//! How long recorded work takes: by the GPU's own clock where it has one, and by the wall.

use std::time::{Duration, Instant};

use super::context::Context;
use crate::error::Result;

/// Two readings of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two timestamps on the device; `None` without the feature, or where they cannot be believed.
    pub gpu: Option<Duration>,
    /// From the first call to the device being idle.
    pub wall: Duration,
}

impl Context {
    /// Runs `f` and waits for the device before and after it.
    ///
    /// # Errors
    /// What `f` or the device reports.
    pub fn timed<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Timing)> {
        self.wait()?;
        let start = Instant::now();
        let stamps = self.stamp_first();
        let result = f()?;
        let gpu = match stamps {
            Some(stamps) => self.stamp_last(&stamps)?,
            None => None,
        };
        self.wait()?;
        Ok((result, Timing { gpu, wall: start.elapsed() }))
    }
}

/// The time between two timestamps, `period` nanoseconds a tick. `None` unless both were written and the second is the later one:
/// on some Metal devices a pass without a launch leaves zero (gfx-rs/wgpu-native#625), and counters of 36 bits start again.
pub(crate) fn between(ticks: &[u64], period: f32) -> Option<Duration> {
    match *ticks {
        [first, last] if first > 0 && last > first => {
            Some(Duration::from_secs_f64((last - first) as f64 * 1e-9 * f64::from(period)))
        }
        _ => None,
    }
}

/// A query set of two timestamps.
pub(super) struct Stamps {
    pub(super) set: wgpu::QuerySet,
    pub(super) resolved: wgpu::Buffer,
}

impl Stamps {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timing"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let resolved = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timing"),
            size: 16,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Self { set, resolved }
    }

    /// An empty pass that writes one of the two.
    pub(super) fn write(&self, encoder: &mut wgpu::CommandEncoder, index: u32) {
        let _ = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("timestamp"),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.set,
                beginning_of_pass_write_index: Some(index),
                end_of_pass_write_index: None,
            }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_that_make_no_sense_are_no_time() {
        let table: [(&[u64], Option<u64>); 6] =
            [(&[5, 9], Some(8)), (&[0, 9], None), (&[5, 0], None), (&[9, 5], None), (&[7, 7], None), (&[5], None)];
        for (ticks, nanoseconds) in table {
            assert_eq!(between(ticks, 2.0), nanoseconds.map(Duration::from_nanos), "{ticks:?}");
        }
    }
}
