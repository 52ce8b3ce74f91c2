//! Reading tensors back without waiting: the copy is queued behind the work that makes them, and looked at later.

use std::sync::mpsc::{Receiver, TryRecvError};

use super::context::{Context, Executor, lock};
use super::view::View;
use crate::error::{Error, Result};

/// Tensors on their way to the host. Dropping it gives up on them.
pub struct Pending {
    context: Context,
    /// Bytes of each tensor.
    sizes: Vec<usize>,
    state: State,
}

enum State {
    /// On the device: the buffer to be mapped, what the driver says when it is, and the submission that comes before that.
    Mapping {
        buffer: wgpu::Buffer,
        mapped: Receiver<std::result::Result<(), String>>,
        submission: Option<wgpu::SubmissionIndex>,
    },
    /// On the host already.
    Here(Vec<u8>),
}

impl Context {
    /// Begins to read tensors back, as they are after all work recorded so far. Nothing waits.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read_later(&self, views: &[&View]) -> Result<Pending> {
        let sizes: Vec<usize> = views.iter().map(|view| view.bytes as usize).collect();
        let state = match &self.0.executor {
            Executor::Gpu { recorder, .. } => {
                let (buffer, mapped, submission) = lock(recorder).gather(views)?;
                State::Mapping { buffer, mapped, submission }
            }
            _ => State::Here(views.iter().flat_map(|view| view.host_bytes()).collect()),
        };
        Ok(Pending { context: self.clone(), sizes, state })
    }
}

impl Pending {
    /// Whether [`Pending::wait`] would return at once.
    #[must_use]
    pub fn is_ready(&mut self) -> bool {
        let State::Mapping { buffer, mapped, .. } = &self.state else { return true };
        // A device that is lost is reported by whoever waits.
        self.context.poll();
        match mapped.try_recv() {
            Err(TryRecvError::Empty) => false,
            Ok(Ok(())) => match bytes(buffer) {
                Ok(read) => {
                    let buffer = buffer.clone();
                    self.context.give_back(buffer);
                    self.state = State::Here(read);
                    true
                }
                Err(_) => true,
            },
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => true,
        }
    }

    /// The raw bytes of each tensor, padding included; waits for them, and for nothing submitted later, where they have not
    /// arrived.
    ///
    /// # Errors
    /// `Error::DeviceLost`.
    pub fn wait(self) -> Result<Vec<Vec<u8>>> {
        let all = match self.state {
            State::Here(bytes) => bytes,
            State::Mapping { buffer, mapped, submission } => {
                if let Some((device, _)) = self.context.wgpu() {
                    let until = wgpu::PollType::Wait { submission_index: submission, timeout: None };
                    device.poll(until).map_err(|e| lost(&e.to_string()))?;
                }
                mapped.recv().unwrap_or_else(|e| Err(e.to_string())).map_err(|e| lost(&e))?;
                let read = bytes(&buffer)?;
                self.context.give_back(buffer);
                read
            }
        };
        self.context.check()?;
        let mut rest = all.as_slice();
        let mut each = Vec::with_capacity(self.sizes.len());
        for size in self.sizes {
            let (first, after) = rest.split_at(size.min(rest.len()));
            each.push(first.to_vec());
            rest = after;
        }
        Ok(each)
    }
}

impl Context {
    fn give_back(&self, buffer: wgpu::Buffer) {
        buffer.unmap();
        if let Executor::Gpu { recorder, .. } = &self.0.executor {
            lock(recorder).readbacks.push(buffer);
        }
    }
}

fn bytes(buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
    Ok(buffer.slice(..).get_mapped_range().map_err(|e| lost(&e.to_string()))?.to_vec())
}

fn lost(reason: &str) -> Error {
    Error::DeviceLost { reason: reason.to_owned() }
}
