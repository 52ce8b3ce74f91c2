//! Host memory that the device copies from. It is filled on any thread, handed over without another copy, and used again once
//! the device has read it, so that a training step in its stride allocates nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::context::{Context, Executor, Inner, lock};
use super::view::View;
use crate::error::{Error, Result};

/// Bytes of waiting buffers beyond which more go back to the device.
const MOST_WAITING: u64 = 1 << 30;
/// Buffers below this size are always used again, and have powers of two as sizes, so that few serve all small tensors.
const SMALL: u64 = 64 << 10;

/// Bytes for one tensor, where the device of the context that staged them can read them.
pub(crate) struct Staged {
    bytes: Bytes,
    context: Weak<Inner>,
}

enum Bytes {
    Gpu(Filled),
    Host(Vec<u8>),
    None,
}

/// A mapped buffer with bytes in it.
pub(super) struct Filled {
    pub buffer: wgpu::Buffer,
    /// How many of its bytes count.
    pub bytes: u64,
    /// Whether as many will be wanted again: of batches, not of weights.
    pub again: bool,
}

/// Where the bytes of a [`Staged`] are put, front to back.
pub(crate) struct Writer<'a> {
    to: Target<'a>,
    at: usize,
}

enum Target<'a> {
    Gpu(wgpu::BufferViewMut),
    Host(&'a mut Vec<u8>),
    None,
}

impl Writer<'_> {
    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        match &mut self.to {
            Target::Gpu(range) => range.slice(self.at..self.at + bytes.len()).copy_from_slice(bytes),
            Target::Host(all) => all.extend_from_slice(bytes),
            Target::None => {}
        }
        self.at += bytes.len();
    }
}

/// Buffers that wait for bytes, mapped.
#[derive(Default)]
pub(super) struct StagingPool {
    waiting: Arc<Mutex<Vec<wgpu::Buffer>>>,
    made: AtomicU64,
}

impl StagingPool {
    fn take(&self, device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
        let size = if bytes < SMALL { bytes.next_power_of_two().max(256) } else { bytes };
        let mut waiting = lock(&self.waiting);
        if let Some(i) = waiting.iter().position(|buffer| buffer.size() == size) {
            return waiting.swap_remove(i);
        }
        drop(waiting);
        self.made.fetch_add(1, Ordering::Relaxed);
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("upload"),
            size,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE,
            mapped_at_creation: true,
        })
    }

    /// A buffer with `bytes` bytes in it.
    pub fn filled(
        &self,
        device: &wgpu::Device,
        bytes: u64,
        again: bool,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Filled> {
        let buffer = self.take(device, bytes);
        let range = buffer.get_mapped_range_mut(..bytes).map_err(|e| Error::DeviceLost { reason: e.to_string() })?;
        fill(&mut Writer { to: Target::Gpu(range), at: 0 });
        Ok(Filled { buffer, bytes, again: again || bytes < SMALL })
    }

    /// Maps buffers again, each as soon as the submission that reads it is done.
    pub fn recall(&self, used: impl Iterator<Item = wgpu::Buffer>) {
        for buffer in used {
            let (waiting, again) = (Arc::clone(&self.waiting), buffer.clone());
            buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                let mut waiting = lock(&waiting);
                let held: u64 = waiting.iter().map(wgpu::Buffer::size).sum();
                if mapped.is_ok() && held + again.size() <= MOST_WAITING {
                    waiting.push(again);
                }
            });
        }
    }

    /// Gives waiting buffers back to the device.
    pub fn trim(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        drop(waiting);
    }
}

impl Context {
    /// Has `fill` write `bytes` bytes (a multiple of 4) to where the device can read them; `again`: as many will be wanted again.
    /// On any thread; waits for nothing.
    ///
    /// # Errors
    /// `Error::DeviceLost`.
    pub(crate) fn stage(&self, bytes: u64, again: bool, fill: impl FnOnce(&mut Writer<'_>)) -> Result<Staged> {
        let bytes = match &self.0.executor {
            Executor::Gpu { device, staging, .. } => Bytes::Gpu(staging.filled(device, bytes, again, fill)?),
            Executor::Cpu => {
                let mut all = Vec::with_capacity(bytes as usize);
                fill(&mut Writer { to: Target::Host(&mut all), at: 0 });
                Bytes::Host(all)
            }
            Executor::Dry(_) => {
                fill(&mut Writer { to: Target::None, at: 0 });
                Bytes::None
            }
        };
        Ok(Staged { bytes, context: Arc::downgrade(&self.0) })
    }

    /// Copies staged bytes into a view of their size, in order with the launches around it.
    ///
    /// # Errors
    /// `Error::Check` for bytes that another context staged; what the device reports.
    pub(crate) fn upload(&self, view: &View, staged: Staged) -> Result<()> {
        self.hand_over(view, staged, true)
    }

    /// The same; `counts`: results depend on it, so that a recording must not contain it.
    pub(super) fn hand_over(&self, view: &View, staged: Staged, counts: bool) -> Result<()> {
        if !std::ptr::eq(staged.context.as_ptr(), Arc::as_ptr(&self.0)) {
            let detail = "its values were staged by another context: stage them with the tensor's own".to_owned();
            return Err(Error::Check { what: "uploading a tensor".into(), detail });
        }
        match (&self.0.executor, staged.bytes) {
            (Executor::Gpu { recorder, .. }, Bytes::Gpu(filled)) => lock(recorder).upload(view, filled, counts),
            (_, Bytes::Host(bytes)) => {
                view.set_host_bytes(&bytes);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Buffers made for uploads so far. In a training step's stride their number stays.
    #[must_use]
    pub fn upload_buffers(&self) -> u64 {
        match &self.0.executor {
            Executor::Gpu { staging, .. } => staging.made.load(Ordering::Relaxed),
            _ => 0,
        }
    }
}
