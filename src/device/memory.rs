//! Memory of a context: allocation from the pool, and copies between host and device in order with the launches.

use std::sync::{Arc, Mutex};

use super::context::{Context, Executor, lock};
use super::pool::Pool;
use super::view::{Allocation, Backing, View};
use crate::error::{Error, Result};
use crate::shape::DType;

/// NaN words with a message: what poisoned memory holds.
pub const POISON: u32 = 0x7fc0_dead;

impl Context {
    /// Memory for `bytes` bytes (a multiple of 4) of `dtype`, with arbitrary contents.
    ///
    /// # Errors
    /// `Error::Limit` beyond the device's largest buffer, `Error::OutOfMemory` when the device refuses.
    pub(crate) fn allocate(&self, bytes: u64, dtype: DType) -> Result<View> {
        let guard = if self.0.poison { 256 } else { 0 };
        let class = Pool::class(bytes + guard);
        let (id, backing) = self.0.pool.take(class, |stats| self.create(class, stats.in_use))?;
        let allocation = Allocation { id, bytes: class, backing: Some(backing), context: Arc::downgrade(&self.0) };
        let whole = View { allocation: Arc::new(allocation), offset: 0, bytes: class, dtype };
        if self.0.poison {
            self.poison(&whole)?;
        }
        Ok(whole.narrow(0, bytes, dtype))
    }

    fn create(&self, bytes: u64, in_use: u64) -> Result<Backing> {
        let Executor::Gpu { device, .. } = &self.0.executor else {
            return Ok(if self.is_dry() { Backing::None } else { Backing::Host(Mutex::new(vec![0; bytes as usize])) });
        };
        if bytes > self.0.capabilities.max_buffer {
            return Err(Error::Limit {
                what: "a buffer".into(),
                needed: bytes,
                available: self.0.capabilities.max_buffer,
                advice: "lower train.batch, or raise train.micro_batches",
            });
        }
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let invalid = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let invalid = pollster::block_on(invalid.pop());
        let memory = pollster::block_on(memory.pop());
        match (invalid, memory) {
            (None, None) => Ok(Backing::Gpu(buffer)),
            _ => Err(Error::OutOfMemory { asked: bytes, in_use }),
        }
    }

    fn poison(&self, view: &View) -> Result<()> {
        let words = vec![POISON; (view.bytes / 4) as usize];
        let staged = self.stage(view.bytes, false, |to| to.put(bytemuck::cast_slice(&words)))?;
        self.hand_over(view, staged, false)
    }

    /// Reads a view back; waits for all work recorded before.
    pub(crate) fn download(&self, view: &View) -> Result<Vec<u8>> {
        match &self.0.executor {
            Executor::Gpu { recorder, .. } => {
                let bytes = lock(recorder).download(view)?;
                self.check()?;
                Ok(bytes)
            }
            Executor::Cpu | Executor::Dry(_) => Ok(view.host_bytes()),
        }
    }

    /// Zero-fills a view.
    pub(crate) fn clear(&self, view: &View) -> Result<()> {
        match &self.0.executor {
            Executor::Gpu { recorder, .. } => lock(recorder).clear(view),
            Executor::Cpu => {
                view.set_host_bytes(&vec![0; view.bytes as usize]);
                Ok(())
            }
            Executor::Dry(_) => Ok(()),
        }
    }

    /// Copies a view over another of the same size in another allocation.
    pub(crate) fn copy(&self, from: &View, to: &View) -> Result<()> {
        match &self.0.executor {
            Executor::Gpu { recorder, .. } => lock(recorder).copy(from, to),
            Executor::Cpu => {
                to.set_host_bytes(&from.host_bytes());
                Ok(())
            }
            Executor::Dry(_) => Ok(()),
        }
    }
}
