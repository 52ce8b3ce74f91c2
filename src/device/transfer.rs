//! The recorder's copies: between host and device, within the device, and the timestamps around work.

use std::time::Duration;

use super::profile::{LaunchTime, Profile};
use super::recorder::Recorder;
use super::replay::Command;
use super::staging::Filled;
use super::timing::{Stamps, between};
use super::view::View;
use crate::error::{Error, Result};

/// Says when a buffer is mapped, or why it is not.
type Mapped = std::sync::mpsc::Receiver<std::result::Result<(), String>>;

impl Recorder {
    /// Copies staged bytes into a view, in order with the launches around it; `counts`: results depend on them.
    pub(super) fn upload(&mut self, view: &View, staged: Filled, counts: bool) -> Result<()> {
        if counts {
            self.refuse("uploading a tensor")?;
        }
        let Some(target) = view.buffer() else { return Ok(()) };
        let (target, offset) = (target.clone(), view.offset);
        staged.buffer.unmap();
        self.between().copy_buffer_to_buffer(&staged.buffer, 0, &target, offset, staged.bytes);
        if staged.again {
            self.staged.push(staged.buffer);
        }
        Ok(())
    }

    /// Fills a view with zeros, in order with the launches around it.
    pub(super) fn clear(&mut self, view: &View) -> Result<()> {
        let Some(buffer) = view.buffer().cloned() else { return Ok(()) };
        self.take(Command::Clear { buffer, offset: view.offset, bytes: view.bytes }, &[view])
    }

    /// Copies one view over another of the same size.
    pub(super) fn copy(&mut self, from: &View, to: &View) -> Result<()> {
        let (Some(a), Some(b)) = (from.buffer().cloned(), to.buffer().cloned()) else { return Ok(()) };
        let (from_offset, to_offset, bytes) = (from.offset, to.offset, from.bytes);
        self.take(Command::Copy { from: a, from_offset, to: b, to_offset, bytes }, &[from, to])
    }

    /// What a replay would not repeat is an error while a recording is made.
    fn refuse(&self, what: &str) -> Result<()> {
        match &self.draft {
            Some(draft) if !draft.paused => {
                let detail = "not while a step is recorded: do it inside Context::unrecorded".to_owned();
                Err(Error::Check { what: what.to_owned(), detail })
            }
            _ => Ok(()),
        }
    }

    /// Reads a view back; waits for everything recorded before.
    pub(super) fn download(&mut self, view: &View) -> Result<Vec<u8>> {
        let Some(source) = view.buffer() else { return Ok(Vec::new()) };
        let source = source.clone();
        self.read(&source, view.offset, view.bytes)
    }

    fn read(&mut self, source: &wgpu::Buffer, offset: u64, size: u64) -> Result<Vec<u8>> {
        if self.borrowed {
            return Err(Error::Check { what: "reading a tensor".into(), detail: "not inside encode_into".into() });
        }
        self.refuse("reading a tensor")?;
        let target = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.between().copy_buffer_to_buffer(source, offset, &target, 0, size);
        self.submit()?;
        let (sender, receiver) = std::sync::mpsc::channel();
        target.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result.map_err(|error| error.to_string()));
        });
        let lost = |reason: String| Error::DeviceLost { reason };
        self.poll_until(wgpu::PollType::wait_indefinitely())?;
        receiver.recv().unwrap_or_else(|error| Err(error.to_string())).map_err(lost)?;
        let bytes = target.slice(..).get_mapped_range().map_err(|error| lost(error.to_string()))?.to_vec();
        Ok(bytes)
    }

    /// Copies views one behind another into a buffer that will be mapped, and submits. Buffers are used again. Returns the
    /// submission that has to be done before the buffer is mapped, too.
    pub(super) fn gather(&mut self, views: &[&View]) -> Result<(wgpu::Buffer, Mapped, Option<wgpu::SubmissionIndex>)> {
        self.refuse("reading a tensor")?;
        let size = views.iter().map(|view| view.bytes).sum();
        let waiting = self.readbacks.iter().position(|buffer| buffer.size() == size);
        let target = waiting.map(|i| self.readbacks.swap_remove(i)).unwrap_or_else(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read back"),
                size,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let mut offset = 0;
        for view in views {
            let Some(source) = view.buffer().cloned() else { continue };
            self.between().copy_buffer_to_buffer(&source, view.offset, &target, offset, view.bytes);
            offset += view.bytes;
        }
        self.submit()?;
        let (sender, receiver) = std::sync::mpsc::channel();
        target.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result.map_err(|error| error.to_string()));
        });
        Ok((target, receiver, self.in_flight.back().cloned()))
    }

    /// Writes the first of two timestamps.
    pub(super) fn stamp_first(&mut self) -> Stamps {
        let stamps = Stamps::new(&self.device);
        stamps.write(self.between(), 0);
        stamps
    }

    /// Writes the second timestamp and reads the time between the two.
    pub(super) fn stamp_last(&mut self, stamps: &Stamps) -> Result<Option<Duration>> {
        stamps.write(self.between(), 1);
        self.between().resolve_query_set(&stamps.set, 0..2, &stamps.resolved, 0);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&stamps.resolved, 0, 16)?);
        Ok(between(&ticks, self.queue.get_timestamp_period()))
    }

    /// The launches of a profile with their times. Everything recorded must be done.
    pub(super) fn read_profile(&mut self, profile: Profile) -> Result<Vec<LaunchTime>> {
        if profile.by_wall() {
            return Ok(profile.launches());
        }
        let mut ticks = Vec::<u64>::new();
        for (index, set) in profile.sets().iter().enumerate() {
            let count = profile.written(index);
            let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("profile"),
                size: 8 * u64::from(count),
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            self.between().resolve_query_set(set, 0..count, &resolved, 0);
            ticks.extend(bytemuck::pod_collect_to_vec::<u8, u64>(&self.read(&resolved, 0, 8 * u64::from(count))?));
        }
        Ok(profile.finish(&ticks, self.queue.get_timestamp_period()))
    }
}
