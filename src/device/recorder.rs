//! Recording launches on the GPU: one compute pass stays open, work is submitted by count or by estimated cost.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::capabilities::Capabilities;
use super::idle::Idle;
use super::launch::Launch;
use super::pipelines::{Compiled, Compiler, Need, PARAMS_BYTES, Pipelines};
use super::profile::{LaunchTime, Profile};
use super::replay::{Command, Dispatch, Draft};
use super::staging::StagingPool;
use super::view::View;
use crate::error::{Error, Result};

/// Launches in one submission at most.
const MOST_LAUNCHES: usize = 256;
/// Submissions that may wait on the device.
const IN_FLIGHT: usize = 3;
/// Cached bind groups before the cache starts anew.
const MOST_BIND_GROUPS: usize = 8192;
/// Slots of the uniform ring: one per launch of a submission.
const SLOT_BYTES: u32 = 256;

type BindKey = (u64, usize, Vec<(u64, u64, u64)>);

/// The GPU executor's state between submissions.
pub(super) struct Recorder {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Pipelines,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Uniform ring and the parameters recorded since the last submission (devices without immediates).
    ring: Option<wgpu::Buffer>,
    ring_groups: HashMap<u64, wgpu::BindGroup>,
    params: Vec<u8>,
    launches: usize,
    flops: f64,
    most_flops: f64,
    pub(super) in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// When the device had nothing to do.
    pub(super) idle: Arc<Mutex<Idle>>,
    /// How long the host has waited for the device.
    pub(super) waited: Duration,
    whole_bindings: bool,
    /// Recording into an encoder of the application: nothing may be submitted.
    pub(super) borrowed: bool,
    /// While set, every launch has a pass of its own.
    pub(super) profile: Option<Profile>,
    /// The recording being made.
    pub(super) draft: Option<Draft>,
    /// Where buffers of uploads come from and go back to; those of the submission being recorded.
    staging: Arc<StagingPool>,
    pub(super) staged: Vec<wgpu::Buffer>,
    /// Buffers that results were read back through, to be used again.
    pub(super) readbacks: Vec<wgpu::Buffer>,
}

/// Arithmetic and bytes of one submission at most, so that no watchdog fires (after two seconds, on some systems) and the host
/// stays ahead: 50 ms for a processor that plays GPU, and for graphics inside a processor 0.2 s at 1 TFLOP/s. A card that slow
/// would take 0.5 s; on a fast one a training step is one to three submissions, which cost the host some 50 us each.
const fn most_flops(has: &Capabilities) -> f64 {
    match (has.software, has.discrete) {
        (true, _) => 1e9,
        (false, true) => 5e11,
        (false, false) => 2e11,
    }
}

impl Recorder {
    pub(super) fn new(
        (device, queue): (wgpu::Device, wgpu::Queue),
        staging: Arc<StagingPool>,
        capabilities: &Capabilities,
        checks: bool,
        poison: bool,
    ) -> Self {
        Self {
            device,
            queue,
            pipelines: Pipelines::new(checks),
            bind_groups: HashMap::new(),
            encoder: None,
            pass: None,
            ring: None,
            ring_groups: HashMap::new(),
            params: Vec::new(),
            launches: 0,
            flops: 0.0,
            most_flops: most_flops(capabilities),
            in_flight: VecDeque::new(),
            idle: Arc::default(),
            waited: Duration::ZERO,
            whole_bindings: poison,
            borrowed: false,
            profile: None,
            draft: None,
            staging,
            staged: Vec::new(),
            readbacks: Vec::new(),
        }
    }

    pub(super) fn compiler(&self) -> Compiler {
        self.pipelines.compiler(&self.device)
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
        let compiled = self.pipelines.get(&self.device, &Need::of(launch, capabilities, saturate))?;
        let own = launch.kernel.bindings.len();
        let group = self.bind_group(&compiled, 0, &launch.tensors[..own]);
        let epilogue = (compiled.groups.len() > 1).then(|| self.bind_group(&compiled, 1, &launch.tensors[own..]));
        let dispatch = Dispatch::new(launch, compiled, (group, epilogue));
        self.take(Command::Dispatch(dispatch), &launch.tensors)
    }

    /// Issues a command, and keeps it when a recording is being made.
    pub(super) fn take(&mut self, command: Command, views: &[&View]) -> Result<()> {
        self.issue(&command)?;
        if let Some(draft) = &mut self.draft {
            draft.push(command, views);
        }
        Ok(())
    }

    /// Puts a command behind those before it.
    pub(super) fn issue(&mut self, command: &Command) -> Result<()> {
        match command {
            Command::Dispatch(dispatch) => self.dispatch(dispatch)?,
            Command::Clear { buffer, offset, bytes } => self.between().clear_buffer(buffer, *offset, Some(*bytes)),
            Command::Copy { from, from_offset, to, to_offset, bytes } => {
                self.between().copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, d: &Dispatch) -> Result<()> {
        // First: by the wall it submits what was recorded before.
        let start = self.profile_next(d)?;
        let slot = if d.compiled.immediates { None } else { Some(self.push_params(&d.params, &d.compiled)) };
        let pass = self.pass();
        pass.set_pipeline(&d.compiled.pipeline);
        pass.set_bind_group(0, &d.group, &[]);
        if let Some(epilogue) = &d.epilogue {
            pass.set_bind_group(1, epilogue, &[]);
        }
        match &slot {
            Some((group, offset)) => pass.set_bind_group(2, group, &[*offset]),
            None => {
                let mut bytes = [0; PARAMS_BYTES as usize];
                bytes[..d.params.len()].copy_from_slice(&d.params);
                pass.set_immediates(0, &bytes);
            }
        }
        pass.dispatch_workgroups(d.grid.0, d.grid.1, 1);
        self.launches += 1;
        self.flops += d.flops + d.bytes as f64;
        if let Some(start) = start {
            // The device has no clock: what the host sees is the launch, its submission and the wait for it.
            self.wait()?;
            if let Some(profile) = &mut self.profile {
                profile.took(start.elapsed());
            }
        }
        if !self.borrowed && (self.launches >= MOST_LAUNCHES || self.flops > self.most_flops) {
            self.submit()?;
        }
        Ok(())
    }

    /// Begins the timed pass of one launch, when profiling; by the wall, the time at which the launch is made on an idle device.
    fn profile_next(&mut self, d: &Dispatch) -> Result<Option<Instant>> {
        let Some(mut profile) = self.profile.take() else { return Ok(None) };
        let time = LaunchTime {
            kernel: d.compiled.kernel,
            variant: d.compiled.variant.to_string(),
            groups: d.groups,
            flops: d.flops,
            bytes: d.bytes,
            written: d.written,
            time: Duration::ZERO,
        };
        if profile.by_wall() {
            profile.launch(time);
            self.profile = Some(profile);
            self.wait()?;
            return Ok(Some(Instant::now()));
        }
        let (set, first) = profile.next(&self.device, time);
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        };
        let described = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) };
        let pass = self.between().begin_compute_pass(&described).forget_lifetime();
        self.pass = Some(pass);
        self.profile = Some(profile);
        Ok(None)
    }

    fn pass(&mut self) -> &mut wgpu::ComputePass<'static> {
        let encoder = self.encoder.get_or_insert_with(|| self.device.create_command_encoder(&Default::default()));
        self.pass.get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime())
    }

    /// The encoder with no pass open: for copies and clears.
    pub(super) fn between(&mut self) -> &mut wgpu::CommandEncoder {
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
        let create = || {
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
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
            })
        };
        (self.ring_groups.entry(compiled.id).or_insert_with(create).clone(), offset)
    }

    /// Sends what is recorded to the device.
    pub(super) fn submit(&mut self) -> Result<()> {
        if self.borrowed {
            let detail = "the application's encoder is not finished; only inference may stand inside encode_into";
            return Err(Error::Check { what: "submitting".into(), detail: detail.into() });
        }
        self.pass = None;
        self.launches = 0;
        self.flops = 0.0;
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let params = self.take_params()?;
        let commands = encoder.finish();
        let lost = |error: wgpu::PollError| Error::DeviceLost { reason: error.to_string() };
        // What ended before this submission is noticed before it, or the gap between them would not be seen.
        self.device.poll(wgpu::PollType::Poll).map_err(lost)?;
        self.in_flight.push_back(self.queue.submit(params.into_iter().chain([commands])));
        Idle::watch(&self.idle, &self.queue);
        self.staging.recall(self.staged.drain(..));
        self.device.poll(wgpu::PollType::Poll).map_err(lost)?;
        while self.in_flight.len() > IN_FLIGHT {
            let index = self.in_flight.pop_front();
            self.poll_until(wgpu::PollType::Wait { submission_index: index, timeout: None })?;
        }
        Ok(())
    }

    /// Waits for the device, and counts how long.
    pub(super) fn poll_until(&mut self, until: wgpu::PollType) -> Result<()> {
        let start = Instant::now();
        let polled = self.device.poll(until);
        self.waited += start.elapsed();
        polled.map(|_| ()).map_err(|error| Error::DeviceLost { reason: error.to_string() })
    }

    /// The copy that fills the uniform ring before the launches of a submission read it.
    fn take_params(&mut self) -> Result<Option<wgpu::CommandBuffer>> {
        let bytes = std::mem::take(&mut self.params);
        let (Some(ring), false) = (&self.ring, bytes.is_empty()) else { return Ok(None) };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let size = bytes.len() as u64;
        let staged = self.staging.filled(&self.device, size, true, |to| to.put(&bytes))?.buffer;
        staged.unmap();
        encoder.copy_buffer_to_buffer(&staged, 0, ring, 0, size);
        self.staged.push(staged);
        Ok(Some(encoder.finish()))
    }

    /// Submits and waits until the device is idle.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.submit()?;
        self.in_flight.clear();
        self.poll_until(wgpu::PollType::wait_indefinitely())
    }

    /// Exchanges the recorder's encoder for the application's. Call in pairs around the recording.
    pub(super) fn swap(&mut self, encoder: &mut wgpu::CommandEncoder, borrow: bool) -> Result<()> {
        if borrow {
            self.submit()?;
            self.forget_ring();
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
            self.forget_ring();
            self.launches = 0;
            // When the application submits is its business: what it copies from is not used again.
            self.staged.clear();
        }
        self.borrowed = borrow;
        Ok(())
    }

    fn forget_ring(&mut self) {
        self.ring = None;
        self.ring_groups.clear();
    }

    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}
