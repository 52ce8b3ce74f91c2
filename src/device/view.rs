//! Device memory: an allocation from the pool, and typed windows into it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::context::{Context, Inner};
use crate::shape::DType;

/// Where the bytes of an allocation are.
pub(super) enum Backing {
    /// On the device.
    Gpu(wgpu::Buffer),
    /// In host memory, for the twins.
    Host(Mutex<Vec<u8>>),
    /// Nowhere: only counted.
    None,
}

/// A buffer of the pool. Dropping the last handle returns it for the next launch.
pub(super) struct Allocation {
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) backing: Option<Backing>,
    pub(super) context: Weak<Inner>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let (Some(inner), Some(backing)) = (self.context.upgrade(), self.backing.take()) {
            inner.pool.give_back(self.id, self.bytes, backing);
        }
    }
}

/// A typed window into an allocation: what a launch binds.
#[derive(Clone)]
pub struct View {
    pub(super) allocation: Arc<Allocation>,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) dtype: DType,
}

impl View {
    /// Element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of the window, padding included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Offset of the window in its buffer, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The same number for views of one allocation.
    #[must_use]
    pub fn allocation_id(&self) -> u64 {
        self.allocation.id
    }

    /// How many views share the allocation, this one included.
    pub(crate) fn owners(&self) -> usize {
        Arc::strong_count(&self.allocation)
    }

    /// The wgpu buffer that holds this view from [`View::offset`] on: bind it in a pass of your own.
    /// `None` on the twins.
    #[must_use]
    pub fn buffer(&self) -> Option<&wgpu::Buffer> {
        match &self.allocation.backing {
            Some(Backing::Gpu(buffer)) => Some(buffer),
            _ => None,
        }
    }

    /// A window of this window; `offset` in bytes.
    #[must_use]
    pub(crate) fn narrow(&self, offset: u64, bytes: u64, dtype: DType) -> Self {
        debug_assert!(offset + bytes <= self.bytes);
        Self { allocation: Arc::clone(&self.allocation), offset: self.offset + offset, bytes, dtype }
    }

    /// The bytes on the host; zeros where there are none.
    pub(super) fn host_bytes(&self) -> Vec<u8> {
        match &self.allocation.backing {
            Some(Backing::Host(memory)) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory[self.offset as usize..(self.offset + self.bytes) as usize].to_vec()
            }
            _ => vec![0; self.bytes as usize],
        }
    }

    /// Overwrites the bytes on the host.
    pub(super) fn set_host_bytes(&self, bytes: &[u8]) {
        if let Some(Backing::Host(memory)) = &self.allocation.backing {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let start = self.offset as usize;
            let length = bytes.len().min(self.bytes as usize);
            memory[start..start + length].copy_from_slice(&bytes[..length]);
        }
    }

    /// The guard bytes behind the view up to the end of its allocation, as the context left them when it poisons.
    pub(crate) fn guard(&self, ctx: &Context) -> crate::Result<Vec<u8>> {
        let end = self.offset + self.bytes;
        let tail = Self {
            allocation: Arc::clone(&self.allocation),
            offset: end,
            bytes: self.allocation.bytes - end,
            dtype: DType::U32,
        };
        ctx.download(&tail)
    }
}
