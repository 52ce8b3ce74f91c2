//! Memory of a context: allocation from the pool, and copies between host and device in order with the launches.

use std::sync::{Arc, Mutex};

use super::context::{Context, Executor, lock};
use super::pool::Pool;
use super::view::{Allocation, Backing, View};
use crate::error::{Error, Result};
use crate::shape::DType;

/// A NaN with a message: what poisoned memory holds.
const POISON: u32 = 0x7fc0_dead;

/// What stands in word `index` of a poisoned allocation behind its tensor. A launch that runs past the end must not write back what
/// it found there: so it is no NaN, whose bits most arithmetic hands on, nor the same number twice, which a copy or an average
/// would leave, but somewhere between -131,072 and -524,288.
fn guard_word(allocation: u64, index: usize) -> u32 {
    let mixed = (allocation << 32 ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    0xc800_0000 | mixed as u32
}

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
            self.poison(&whole, bytes)?;
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

    /// Fills the first `bytes` of an allocation with NaN and puts guard words behind them.
    fn poison(&self, view: &View, bytes: u64) -> Result<()> {
        let own = (bytes / 4) as usize;
        let word = |i: usize| if i < own { POISON } else { guard_word(view.allocation_id(), i) };
        let words: Vec<u32> = (0..(view.bytes / 4) as usize).map(word).collect();
        let staged = self.stage(view.bytes, false, |to| to.put(bytemuck::cast_slice(&words)))?;
        self.hand_over(view, staged, false)
    }

    /// Whether all is as it was behind a view up to the end of its allocation, in a context that poisons; waits for the device.
    pub(crate) fn guard_holds(&self, view: &View) -> Result<bool> {
        let first = ((view.offset + view.bytes) / 4) as usize;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&view.guard(self)?);
        Ok(words.iter().zip(first..).all(|(&word, at)| word == guard_word(view.allocation_id(), at)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_words_are_numbers_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        for (allocation, index) in (0..50).flat_map(|a| (0..64).map(move |i| (a, i))) {
            let word = guard_word(allocation, index);
            let value = f32::from_bits(word);
            assert!((-524_288.0..=-131_072.0).contains(&value), "{value}");
            seen.insert(word);
        }
        assert!(seen.len() > 3190, "{} of 3200", seen.len());
    }

    #[test]
    fn a_guard_notices_a_write() -> Result<()> {
        let ctx =
            Context::new(&crate::device::ContextOptions { device: "cpu".into(), poison: true, ..Default::default() })?;
        let view = ctx.allocate(16, DType::F32)?;
        assert!(ctx.guard_holds(&view)?);
        let behind = View { allocation: Arc::clone(&view.allocation), offset: 16, bytes: 4, dtype: DType::F32 };
        behind.set_host_bytes(&POISON.to_le_bytes());
        assert!(!ctx.guard_holds(&view)?);
        Ok(())
    }
}
