//! Recording launches on the GPU: one compute pass stays open, work is submitted by count or by estimated cost.

use std::collections::{HashMap, VecDeque};

use super::capabilities::Capabilities;
use super::kernel::{Matrix, Storage};
use super::launch::Launch;
use super::pipelines::{Compiled, PARAMS_BYTES, Pipelines};
use super::source::Variant;
use super::timing::Stamps;
use super::view::View;
use crate::error::{Error, Result};
use crate::shape::DType;

/// Launches in one submission at most.
const MOST_LAUNCHES: usize = 128;
/// Submissions that may wait on the device.
const IN_FLIGHT: usize = 3;
/// Cached bind groups before the cache starts anew.
const MOST_BIND_GROUPS: usize = 8192;
/// Slots of the uniform ring: one per launch of a submission.
const SLOT_BYTES: u32 = 256;

type BindKey = (u64, usize, Vec<(u64, u64, u64)>);

/// The GPU executor's state between submissions.
pub(super) struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pub(super) pipelines: Pipelines,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Uniform ring and the parameters recorded since the last submission (devices without immediates).
    ring: Option<wgpu::Buffer>,
    params: Vec<u8>,
    launches: usize,
    flops: f64,
    most_flops: f64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    whole_bindings: bool,
    /// Recording into an encoder of the application: nothing may be submitted.
    borrowed: bool,
}

impl Recorder {
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue, software: bool, checks: bool, poison: bool) -> Self {
        Self {
            device,
            queue,
            pipelines: Pipelines::new(checks),
            bind_groups: HashMap::new(),
            encoder: None,
            pass: None,
            ring: None,
            params: Vec::new(),
            launches: 0,
            flops: 0.0,
            // About 50 ms of work, so that no watchdog fires and the host stays ahead.
            most_flops: if software { 1e9 } else { 2e11 },
            in_flight: VecDeque::new(),
            whole_bindings: poison,
            borrowed: false,
        }
    }

    /// Records one launch.
    pub(super) fn launch(&mut self, launch: &Launch<'_>, capabilities: &Capabilities, saturate: bool) -> Result<()> {
        for view in &launch.tensors {
            if view.bytes > capabilities.max_binding {
                return Err(Error::Limit {
                    what: format!("binding a tensor of {} bytes in {}", view.bytes, launch.kernel.name),
                    needed: view.bytes,
                    available: capabilities.max_binding,
                    advice: "lower train.batch, or raise train.micro_batches",
                });
            }
        }
        let (stored, output) = launch.dtypes();
        // All halves have the same bytes in memory: cooperative matrices read them as native ones.
        let half = if launch.kernel.has_matrix() { Storage::F16Native } else { capabilities.half };
        let variant = Variant {
            storage: if stored == DType::F16 { half } else { Storage::F32 },
            output,
            epilogue: launch.epilogue,
            matrix: capabilities.matrix.unwrap_or(Matrix::M16),
            immediates: capabilities.immediates,
        };
        let mut constants = launch.constants.clone();
        if !saturate && launch.kernel.is_stored() && variant.storage != Storage::F32 {
            constants.push(("SATURATE", 0.0));
        }
        let compiled = self.pipelines.get(&self.device, launch.kernel, variant, &constants)?;
        let own = launch.kernel.bindings.len();
        let group = self.bind_group(&compiled, 0, &launch.tensors[..own]);
        let epilogue = (compiled.groups.len() > 1).then(|| self.bind_group(&compiled, 1, &launch.tensors[own..]));
        let slot = if capabilities.immediates { None } else { Some(self.push_params(&launch.params, &compiled)) };
        let (x, y) = fold(launch.groups);
        let pass = self.pass();
        pass.set_pipeline(&compiled.pipeline);
        pass.set_bind_group(0, &group, &[]);
        if let Some(epilogue) = &epilogue {
            pass.set_bind_group(1, epilogue, &[]);
        }
        match &slot {
            Some((group, offset)) => pass.set_bind_group(2, group, &[*offset]),
            None => {
                let mut bytes = [0; PARAMS_BYTES as usize];
                bytes[..launch.params.len()].copy_from_slice(&launch.params);
                pass.set_immediates(0, &bytes);
            }
        }
        pass.dispatch_workgroups(x, y, 1);
        self.launches += 1;
        self.flops += launch.flops + launch.bytes() as f64;
        if !self.borrowed && (self.launches >= MOST_LAUNCHES || self.flops > self.most_flops) {
            self.submit()?;
        }
        Ok(())
    }

    fn pass(&mut self) -> &mut wgpu::ComputePass<'static> {
        let encoder = self.encoder.get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
        self.pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime())
    }

    /// The encoder with no pass open: for copies and clears.
    fn between(&mut self) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| self.device.create_command_encoder(&Default::default()))
    }

    fn bind_group(&mut self, compiled: &Compiled, index: usize, views: &[&View]) -> wgpu::BindGroup {
        let ranges = views.iter().map(|v| (v.allocation.id, v.offset, v.bytes)).collect::<Vec<_>>();
        let key = (compiled.id, index, ranges);
        if let Some(group) = self.bind_groups.get(&key) {
            return group.clone();
        }
        if self.bind_groups.len() >= MOST_BIND_GROUPS {
            self.bind_groups.clear();
        }
        let entries = views
            .iter()
            .zip(0..)
            .filter_map(|(view, binding)| {
                let size = if self.whole_bindings { view.allocation.bytes - view.offset } else { view.bytes };
                Some(wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: view.buffer()?,
                        offset: view.offset,
                        size: wgpu::BufferSize::new(size),
                    }),
                })
            })
            .collect::<Vec<_>>();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &compiled.groups[index],
            entries: &entries,
        });
        self.bind_groups.insert(key, group.clone());
        group
    }

    fn push_params(&mut self, params: &[u8], compiled: &Compiled) -> (wgpu::BindGroup, u32) {
        let size = u64::from(SLOT_BYTES) * MOST_LAUNCHES as u64 * if self.borrowed { 16 } else { 1 };
        let ring = self.ring.get_or_insert_with(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let offset = self.params.len() as u32;
        self.params.extend_from_slice(params);
        self.params.resize((offset + SLOT_BYTES) as usize, 0);
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &compiled.groups[2],
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: ring,
                    offset: 0,
                    size: wgpu::BufferSize::new(u64::from(PARAMS_BYTES)),
                }),
            }],
        });
        (group, offset)
    }

    /// Copies host bytes into a view, in order with the launches around it.
    pub(super) fn upload(&mut self, view: &View, bytes: &[u8]) -> Result<()> {
        let Some(target) = view.buffer() else { return Ok(()) };
        let staging = staging(&self.device, bytes)?;
        let (target, offset) = (target.clone(), view.offset);
        self.between().copy_buffer_to_buffer(&staging, 0, &target, offset, bytes.len() as u64);
        Ok(())
    }

    /// Fills a view with zeros, in order with the launches around it.
    pub(super) fn clear(&mut self, view: &View) {
        if let Some(buffer) = view.buffer() {
            let (buffer, offset, bytes) = (buffer.clone(), view.offset, view.bytes);
            self.between().clear_buffer(&buffer, offset, Some(bytes));
        }
    }

    /// Copies one view over another of the same size.
    pub(super) fn copy(&mut self, from: &View, to: &View) {
        if let (Some(a), Some(b)) = (from.buffer(), to.buffer()) {
            let (a, b) = (a.clone(), b.clone());
            self.between().copy_buffer_to_buffer(&a, from.offset, &b, to.offset, from.bytes);
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
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| lost(error.to_string()))?;
        receiver.recv().unwrap_or_else(|error| Err(error.to_string())).map_err(lost)?;
        let bytes = target.slice(..).get_mapped_range().map_err(|error| lost(error.to_string()))?.to_vec();
        Ok(bytes)
    }

    /// Writes the first of two timestamps.
    pub(super) fn stamp_first(&mut self) -> Stamps {
        let stamps = Stamps::new(&self.device);
        stamps.write(self.between(), 0);
        stamps
    }

    /// Writes the second timestamp and reads the time between the two, in nanoseconds.
    pub(super) fn stamp_last(&mut self, stamps: &Stamps) -> Result<f64> {
        stamps.write(self.between(), 1);
        self.between().resolve_query_set(&stamps.set, 0..2, &stamps.resolved, 0);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&stamps.resolved, 0, 16)?);
        let between = ticks.get(1).zip(ticks.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
        Ok(between as f64 * f64::from(self.queue.get_timestamp_period()))
    }

    /// Sends what is recorded to the device.
    pub(super) fn submit(&mut self) -> Result<()> {
        self.pass = None;
        self.launches = 0;
        self.flops = 0.0;
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let params = self.take_params()?;
        self.in_flight.push_back(self.queue.submit(params.into_iter().chain([encoder.finish()])));
        let lost = |error: wgpu::PollError| Error::DeviceLost { reason: error.to_string() };
        self.device.poll(wgpu::PollType::Poll).map_err(lost)?;
        while self.in_flight.len() > IN_FLIGHT {
            let index = self.in_flight.pop_front();
            self.device.poll(wgpu::PollType::Wait { submission_index: index, timeout: None }).map_err(lost)?;
        }
        Ok(())
    }

    /// The copy that fills the uniform ring before the launches of a submission read it.
    fn take_params(&mut self) -> Result<Option<wgpu::CommandBuffer>> {
        let bytes = std::mem::take(&mut self.params);
        let (Some(ring), false) = (&self.ring, bytes.is_empty()) else { return Ok(None) };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&staging(&self.device, &bytes)?, 0, ring, 0, bytes.len() as u64);
        Ok(Some(encoder.finish()))
    }

    /// Submits and waits until the device is idle.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.submit()?;
        self.in_flight.clear();
        let lost = |error: wgpu::PollError| Error::DeviceLost { reason: error.to_string() };
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(lost)?;
        Ok(())
    }

    /// Exchanges the recorder's encoder for the application's. Call in pairs around the recording.
    pub(super) fn swap(&mut self, encoder: &mut wgpu::CommandEncoder, borrow: bool) -> Result<()> {
        if borrow {
            self.submit()?;
            self.ring = None;
            let empty = self.device.create_command_encoder(&Default::default());
            self.encoder = Some(std::mem::replace(encoder, empty));
        } else {
            self.pass = None;
            if let Some(recorded) = self.encoder.take() {
                *encoder = recorded;
            }
            // The application submits later: its parameters stay in a ring that no other launch will touch.
            if let Some(params) = self.take_params()? {
                self.queue.submit([params]);
            }
            self.ring = None;
            self.launches = 0;
        }
        self.borrowed = borrow;
        Ok(())
    }

    /// Whether launches go to an application's encoder, where nothing can be read back.
    pub(super) const fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}

fn staging(device: &wgpu::Device, bytes: &[u8]) -> Result<wgpu::Buffer> {
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("upload"),
        size: bytes.len() as u64,
        usage: wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    });
    let mut range =
        staging.slice(..).get_mapped_range_mut().map_err(|e| Error::DeviceLost { reason: e.to_string() })?;
    range.slice(..).copy_from_slice(bytes);
    drop(range);
    staging.unmap();
    Ok(staging)
}

/// A one-dimensional grid in two dimensions where it is longer than one may be.
fn fold(groups: u64) -> (u32, u32) {
    let rows = groups.div_ceil(65_535);
    (groups.div_ceil(rows.max(1)) as u32, rows as u32)
}
