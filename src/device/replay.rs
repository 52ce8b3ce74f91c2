//! A step recorded once and replayed: the same pipelines, bind groups and parameters, without running the tape again.
//!
//! What changes from step to step lies in buffers that the caller uploads before each replay, outside the recording. The
//! recording keeps every buffer that it touches: those in use stay allocated, and the temporaries, which the pool had back
//! by the end of the recorded run, are withheld from it. So no tensor made later can lie where a replay writes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::context::{Context, Executor, Inner, lock};
use super::counters::Counters;
use super::launch::Launch;
use super::pipelines::Compiled;
use super::pool::Withheld;
use super::view::{Allocation, View};
use crate::error::{Error, Result};

/// One dispatch, ready to be issued again.
pub(super) struct Dispatch {
    pub(super) compiled: Compiled,
    pub(super) group: wgpu::BindGroup,
    pub(super) epilogue: Option<wgpu::BindGroup>,
    pub(super) params: Vec<u8>,
    pub(super) grid: (u32, u32),
    pub(super) groups: u64,
    pub(super) flops: f64,
    pub(super) bytes: u64,
    pub(super) written: u64,
}

/// What a recording consists of.
pub(super) enum Command {
    Dispatch(Dispatch),
    Clear { buffer: wgpu::Buffer, offset: u64, bytes: u64 },
    Copy { from: wgpu::Buffer, from_offset: u64, to: wgpu::Buffer, to_offset: u64, bytes: u64 },
}

/// A recording being made.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) segments: Vec<Vec<Command>>,
    touched: HashMap<u64, Weak<Allocation>>,
    pub(super) paused: bool,
}

impl Draft {
    pub(super) fn push(&mut self, command: Command, views: &[&View]) {
        if self.paused {
            return;
        }
        self.touched.extend(views.iter().map(|v| (v.allocation.id, Arc::downgrade(&v.allocation))));
        if self.segments.is_empty() {
            self.segments.push(Vec::new());
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.push(command);
        }
    }
}

/// Recorded work in segments, between which the caller uploads what has changed.
pub struct Recording {
    segments: Vec<Vec<Command>>,
    counted: Counters,
    /// Buffers in use when the recording ended.
    _kept: Vec<Arc<Allocation>>,
    withheld: Vec<Withheld>,
    context: Weak<Inner>,
}

impl Recording {
    /// Number of segments: one more than the calls of [`Context::unrecorded`] that lay between launches.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of the temporaries that it withholds from the pool.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.withheld.iter().map(|w| w.class).sum()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(inner) = self.context.upgrade() {
            inner.pool.restore(std::mem::take(&mut self.withheld));
        }
    }
}

impl Context {
    /// Runs `f` and keeps what it launched, cleared and copied. `None` where nothing is recorded: on the twins, in a dry run,
    /// inside [`Context::encode_into`].
    ///
    /// # Errors
    /// [`Error::Check`] when `f` uploads or reads a tensor outside [`Context::unrecorded`]: a replay would not repeat that.
    pub fn record<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Option<Recording>)> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return Ok((f()?, None)) };
        if lock(recorder).borrowed {
            return Ok((f()?, None));
        }
        let before = self.counters();
        lock(recorder).draft = Some(Draft::default());
        let result = f();
        let draft = lock(recorder).draft.take().unwrap_or_default();
        let result = result?;
        let kept: Vec<_> = draft.touched.values().filter_map(Weak::upgrade).collect();
        let gone = draft.touched.iter().filter(|(_, a)| a.strong_count() == 0).map(|(id, _)| *id).collect();
        let recording = Recording {
            segments: draft.segments,
            counted: self.counters().since(&before),
            _kept: kept,
            withheld: self.0.pool.withhold(&gone),
            context: Arc::downgrade(&self.0),
        };
        Ok((result, Some(recording)))
    }

    /// Runs `f` outside the recording being made, if one is, and begins a new segment.
    pub fn unrecorded<T>(&self, f: impl FnOnce() -> T) -> T {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return f() };
        let pause = |paused: bool| {
            if let Some(draft) = &mut lock(recorder).draft {
                draft.paused = paused;
                if !paused && draft.segments.last().is_none_or(|last| !last.is_empty()) {
                    draft.segments.push(Vec::new());
                }
            }
        };
        pause(true);
        let result = f();
        pause(false);
        result
    }

    /// Issues segment `index` of a recording again; after the last one the counters have grown by the whole recording.
    ///
    /// # Errors
    /// [`Error::Check`] for a segment that is not there, else what the device reports.
    pub fn replay(&self, recording: &Recording, index: usize) -> Result<()> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return Ok(()) };
        let Some(segment) = recording.segments.get(index) else {
            let detail = format!("segment {index} of {}", recording.segments.len());
            return Err(Error::Check { what: "replaying a recording".into(), detail });
        };
        let mut recorder = lock(recorder);
        for command in segment {
            recorder.issue(command)?;
        }
        drop(recorder);
        if index + 1 == recording.segments.len() {
            self.count(&recording.counted);
        }
        self.check()
    }
}

impl Dispatch {
    pub(super) fn new(
        launch: &Launch<'_>,
        compiled: Compiled,
        groups: (wgpu::BindGroup, Option<wgpu::BindGroup>),
    ) -> Self {
        Self {
            compiled,
            group: groups.0,
            epilogue: groups.1,
            params: launch.params.clone(),
            grid: fold(launch.groups),
            groups: launch.groups,
            flops: launch.flops,
            bytes: launch.bytes(),
            written: launch.written(),
        }
    }
}

/// A one-dimensional grid in two dimensions where it is longer than one may be.
fn fold(groups: u64) -> (u32, u32) {
    let rows = groups.div_ceil(65_535);
    (groups.div_ceil(rows.max(1)) as u32, rows as u32)
}
