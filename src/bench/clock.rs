//! Timing repeated work inside one submission, by the device's clock where it has one and by the wall.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::device::{Context, between};
use crate::error::{Error, Result};

/// Two readings of one piece of work, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Between two timestamps on the device; `None` without the feature, or from the first time on that they make no sense.
    pub gpu: Option<f64>,
    /// From submission to the device being idle.
    pub wall: f64,
}

impl Reading {
    /// The device's clock where there is one.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.gpu.unwrap_or(self.wall)
    }
}

/// What can time work. Tests plant clocks that lie.
pub trait Clock {
    /// Calls `work(0)` to `work(count - 1)` and reads how long their launches take together.
    ///
    /// # Errors
    /// What the work or the device reports.
    fn time(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading>;
}

/// The clocks of a device.
pub struct DeviceClock {
    context: Context,
    stamps: Option<Stamps>,
    /// Set when timestamps made no sense twice in a row: readings of two clocks are not to be mixed.
    doubted: Cell<bool>,
}

impl DeviceClock {
    /// The clocks of a context; on the twins there is only the wall.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let has = context.capabilities().timestamps;
        let stamps = context.wgpu().filter(|_| has).map(|(device, _)| Stamps::new(device));
        Self { context: context.clone(), stamps, doubted: Cell::new(false) }
    }

    /// Whether the device has a clock of its own.
    #[must_use]
    pub fn has_gpu(&self) -> bool {
        self.stamps.is_some() && !self.doubted.get()
    }

    fn once(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading> {
        self.context.wait()?;
        let Some((device, queue)) = self.context.wgpu() else {
            let start = Instant::now();
            (0..count).try_for_each(work)?;
            return Ok(Reading { gpu: None, wall: start.elapsed().as_secs_f64() });
        };
        let mut encoder = device.create_command_encoder(&Default::default());
        if let Some(stamps) = &self.stamps {
            stamps.write(&mut encoder, 0);
        }
        self.context.encode_into(&mut encoder, || (0..count).try_for_each(work))?;
        if let Some(stamps) = &self.stamps {
            stamps.write(&mut encoder, 1);
            stamps.resolve(&mut encoder);
        }
        // Recording is over: what is timed from here on is the device.
        let commands = encoder.finish();
        let start = Instant::now();
        queue.submit([commands]);
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| lost(&e))?;
        let wall = start.elapsed();
        let gpu = match &self.stamps {
            Some(stamps) => stamps.read(device, queue)?.map(|time| time.as_secs_f64()),
            None => None,
        };
        // Errors of the device come out here.
        self.context.wait()?;
        Ok(Reading { gpu, wall: wall.as_secs_f64() })
    }
}

impl Clock for DeviceClock {
    fn time(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading> {
        let mut reading = self.once(count, work)?;
        if reading.gpu.is_none() && self.has_gpu() {
            // A counter that began again has done so for long; one that is never written stays so.
            reading = self.once(count, work)?;
            self.doubted.set(reading.gpu.is_none());
        }
        if self.doubted.get() {
            reading.gpu = None;
        }
        Ok(reading)
    }
}

fn lost(error: &dyn std::fmt::Display) -> Error {
    Error::DeviceLost { reason: error.to_string() }
}

/// Two timestamps and the buffers that they travel through.
struct Stamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
}

impl Stamps {
    fn new(device: &wgpu::Device) -> Self {
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("bench"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("bench"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let readable = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        Self { set, resolved, readable }
    }

    /// An empty pass that writes one of the two.
    fn write(&self, encoder: &mut wgpu::CommandEncoder, index: u32) {
        let _ = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("timestamp"),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.set,
                beginning_of_pass_write_index: Some(index),
                end_of_pass_write_index: None,
            }),
        });
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, 16);
    }

    fn read(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Option<Duration>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.readable.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result.map_err(|error| error.to_string()));
        });
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| lost(&e))?;
        receiver.recv().unwrap_or_else(|error| Err(error.to_string())).map_err(|e| lost(&e))?;
        let ticks: Vec<u64> =
            bytemuck::pod_collect_to_vec(&self.readable.slice(..).get_mapped_range().map_err(|e| lost(&e))?);
        self.readable.unmap();
        Ok(between(&ticks, queue.get_timestamp_period()))
    }
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Rounds, each one submission.
    pub rounds: usize,
    /// Seconds that a round lasts at least.
    pub least: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { rounds: 7, least: 0.02 }
    }
}

/// Launches of one submission at most: without immediates each takes a slot of the uniform ring, which holds 2,048.
const MOST: usize = 512;

/// How many repetitions last as long as the effort asks for, found by doubling; also the warm-up. At least `least` of
/// them run, so that every buffer of a rotation has been touched.
///
/// # Errors
/// What the work or the device reports.
pub fn repetitions(
    clock: &dyn Clock,
    effort: Effort,
    least: usize,
    work: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<usize> {
    let mut count = least.clamp(1, MOST);
    clock.time(count, work)?;
    // Once more: the first time compiled pipelines and touched fresh memory.
    let mut seconds = clock.time(count, work)?.best();
    while seconds < effort.least && count < MOST {
        let wanted = (1.2 * effort.least / seconds.max(1e-9) * count as f64).ceil() as usize;
        count = wanted.clamp(count + 1, 8 * count).min(MOST);
        seconds = clock.time(count, work)?.best();
    }
    Ok(count)
}

/// The middle of some values, and what half of them lie between.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Lower quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub high: f64,
}

impl Spread {
    /// Quartiles by linear interpolation; zeros of nothing.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            let (low, high) = (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize));
            low.zip(high).map_or(0.0, |(low, high)| low + (high - low) * place.fract())
        };
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }

    /// Half the distance between the quartiles over the median.
    #[must_use]
    pub fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.high - self.low) / 2.0 / self.median } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0, 5.0, 4.0]), Spread { low: 2.0, median: 3.0, high: 4.0 });
        assert_eq!(of(&[1.0, 2.0]), Spread { low: 1.25, median: 1.5, high: 1.75 });
        assert_eq!((of(&[7.0]).median, of(&[]).median), (7.0, 0.0));
    }

    #[test]
    fn repetitions_last_long_enough() {
        struct Each(f64);
        impl Clock for Each {
            fn time(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading> {
                (0..count).try_for_each(work)?;
                Ok(Reading { gpu: None, wall: self.0 * count as f64 })
            }
        }
        let effort = Effort { rounds: 1, least: 0.02 };
        let touched = std::cell::Cell::new(0);
        let mut work = |i: usize| {
            touched.set(touched.get().max(i + 1));
            Ok(())
        };
        assert_eq!(repetitions(&Each(1.0), effort, 3, &mut work).unwrap(), 3);
        assert!(touched.get() >= 3);
        let many = repetitions(&Each(1e-3), effort, 1, &mut work).unwrap();
        assert!((20..=40).contains(&many), "{many}");
        assert_eq!(repetitions(&Each(0.0), effort, 1, &mut work).unwrap(), MOST);
    }
}
