//! How long recorded work takes: by the GPU's own clock where it has one, and by the wall.

use std::time::{Duration, Instant};

use super::context::Context;
use crate::error::Result;

/// Two readings of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two timestamps on the device; `None` without the feature.
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
