//! The context: one device, or its stand-ins (the CPU twins, the dry run), with its memory and its queue of work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adapter::{self, ContextOptions};
use super::capabilities::Capabilities;
use super::counters::Counters;
use super::hooks::Hooks;
use super::launch::Launch;
use super::pipelines::Need;
use super::pool::{Pool, PoolStats};
use super::prepare::PipelineList;
use super::recorder::Recorder;
use super::staging::StagingPool;
use super::subgroup;
use super::timing::Stamps;
use super::tuning::Tuned;
use super::twin::Twin;
use crate::error::{Error, Result};

pub(super) enum Executor {
    Gpu {
        recorder: Box<Mutex<Recorder>>,
        /// Outside the recorder's lock: batches are staged while the recorder waits for the device.
        staging: Arc<StagingPool>,
        device: wgpu::Device,
        queue: wgpu::Queue,
        /// None for a device that was adopted.
        adapter: Option<wgpu::Adapter>,
    },
    Cpu,
    /// The pipelines that would have been needed.
    Dry(Mutex<PipelineList>),
}

pub(super) struct Inner {
    pub(super) executor: Executor,
    pub(super) capabilities: Capabilities,
    pub(super) pool: Pool,
    counters: Mutex<Counters>,
    saturate: AtomicBool,
    pub(super) hooks: Hooks,
    pub(super) tuned: Tuned,
    pub(super) poison: bool,
    /// What the tests of cooperative matrices found, by kernel, once they ran.
    matrix_verdicts: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    /// First error that the device reported outside any scope; `true` when the device is gone.
    failure: Arc<Mutex<Option<(bool, String)>>>,
}

/// A device and its memory. Clones share it. See [`ContextOptions`] for how to choose.
#[derive(Clone)]
pub struct Context(pub(super) Arc<Inner>);

impl Context {
    /// Opens a device.
    ///
    /// `auto` takes hardware before software and falls back to the CPU twins, saying so on the log of the caller through
    /// [`Context::capabilities`].
    ///
    /// # Errors
    /// `Error::NoAdapter` when a named adapter is missing.
    pub fn new(options: &ContextOptions) -> Result<Self> {
        match options.device.as_str() {
            "cpu" => return Ok(Self::cpu_with(options.poison)),
            "auto" | "" if std::env::var_os("WGPU_ADAPTER_NAME").is_none() && adapter::adapters().is_empty() => {
                return Ok(Self::cpu_with(options.poison));
            }
            _ => {}
        }
        let opened = adapter::open(options)?;
        let failure = Arc::new(Mutex::new(None));
        let record = |lost: bool, failure: &Arc<Mutex<Option<(bool, String)>>>, text: String| {
            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() || (lost && !first.as_ref().is_some_and(|f| f.0)) {
                *first = Some((lost, text));
            }
        };
        let shared = Arc::clone(&failure);
        opened
            .device
            .on_uncaptured_error(Arc::new(move |error: wgpu::Error| record(false, &shared, error.to_string())));
        let shared = Arc::clone(&failure);
        opened.device.set_device_lost_callback(move |reason, text| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                record(true, &shared, text);
            }
        });
        let device = (opened.device, opened.queue, Some(opened.adapter));
        Ok(Self::on_gpu(device, opened.capabilities, options, failure))
    }

    /// Adopts an application's device. Reads its features and limits and makes do with them; sets no callback on it. Where it has
    /// cooperative matrices and subgroups of several sizes, one small dispatch is submitted ([`Context::matrix_subgroup`]).
    #[must_use]
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let capabilities = Capabilities::of(adapter, device.features(), &device.limits());
        let options = ContextOptions::default();
        Self::on_gpu((device.clone(), queue.clone(), None), capabilities, &options, Arc::default())
    }

    /// The CPU twins: every launch runs the kernel's formula in plain Rust. Slow, exact, needs no GPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self::cpu_with(false)
    }

    fn cpu_with(poison: bool) -> Self {
        Self::with(Executor::Cpu, Capabilities::host("cpu twins"), poison, Arc::default())
    }

    /// Runs nothing and counts: launches, FLOPs, bytes, peak memory. `capabilities` of the device to plan for.
    #[must_use]
    pub fn dry(capabilities: Option<Capabilities>) -> Self {
        let capabilities = capabilities.unwrap_or_else(|| Capabilities::host("dry run"));
        Self::with(Executor::Dry(Mutex::default()), capabilities, false, Arc::default())
    }

    fn on_gpu(
        (device, queue, adapter): (wgpu::Device, wgpu::Queue, Option<wgpu::Adapter>),
        mut capabilities: Capabilities,
        options: &ContextOptions,
        failure: Arc<Mutex<Option<(bool, String)>>>,
    ) -> Self {
        if capabilities.matrix.is_some() && capabilities.subgroup_size.is_none() {
            capabilities.matrix_subgroup = subgroup::measured(&device, &queue, &capabilities);
            capabilities.matrix = capabilities.matrices().map(|(matrix, _)| matrix);
        }
        let staging = Arc::<StagingPool>::default();
        let both = (device.clone(), queue.clone());
        let recorder = Recorder::new(both, Arc::clone(&staging), &capabilities, options.checks, options.poison);
        let executor = Executor::Gpu { recorder: Box::new(Mutex::new(recorder)), staging, device, queue, adapter };
        Self::with(executor, capabilities, options.poison, failure)
    }

    fn with(
        executor: Executor,
        capabilities: Capabilities,
        poison: bool,
        failure: Arc<Mutex<Option<(bool, String)>>>,
    ) -> Self {
        Self(Arc::new(Inner {
            executor,
            capabilities,
            pool: Pool::default(),
            counters: Mutex::default(),
            saturate: AtomicBool::new(true),
            hooks: Hooks::default(),
            tuned: Tuned::default(),
            poison,
            matrix_verdicts: Mutex::default(),
            failure,
        }))
    }

    /// What this context can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// What the test of a kernel with cooperative matrices found: `None` before its first use, or where there are none.
    #[must_use]
    pub fn matrix_verdict(&self, kernel: &str) -> Option<Result<(), String>> {
        lock(&self.0.matrix_verdicts).get(kernel).cloned()
    }

    /// Whether a kernel may use the device's cooperative matrices: `test` decides at the first call. A dry run trusts them.
    /// Inside [`Context::encode_into`] nothing can be read back: there the answer is no until it has been found outside.
    pub(crate) fn matrix_usable(&self, kernel: &'static str, test: impl FnOnce() -> Result<(), String>) -> bool {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return self.is_dry() };
        if let Some(verdict) = self.matrix_verdict(kernel) {
            return verdict.is_ok();
        }
        if lock(recorder).borrowed {
            return false;
        }
        // Two threads may both run the test: they find the same.
        let verdict = self.unrecorded(test);
        lock(&self.0.matrix_verdicts).entry(kernel).or_insert(verdict).is_ok()
    }

    /// Whether launches run on the CPU twins.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.executor, Executor::Cpu)
    }

    /// Whether launches are only counted.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        matches!(self.0.executor, Executor::Dry(_))
    }

    /// The wgpu device and queue, where there is one.
    #[must_use]
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        match &self.0.executor {
            Executor::Gpu { device, queue, .. } => Some((device, queue)),
            _ => None,
        }
    }

    /// What the buffer pool holds.
    #[must_use]
    pub fn pool(&self) -> PoolStats {
        self.0.pool.stats()
    }

    /// Returns waiting buffers, of the pool and of uploads, to the device.
    pub fn trim(&self) {
        if let Executor::Gpu { recorder, staging, .. } = &self.0.executor {
            lock(recorder).forget_bind_groups();
            staging.trim();
        }
        self.0.pool.trim();
    }

    /// Launches, FLOPs and bytes so far, and how long the host has waited for the device.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let waited = match &self.0.executor {
            Executor::Gpu { recorder, .. } => lock(recorder).waited,
            _ => Duration::ZERO,
        };
        Counters { waited, ..lock(&self.0.counters).clone() }
    }

    /// Pipelines compiled so far.
    #[must_use]
    pub fn pipelines(&self) -> usize {
        match &self.0.executor {
            Executor::Gpu { recorder, .. } => lock(recorder).pipelines.len(),
            _ => 0,
        }
    }

    /// While `f` runs, halves that overflow saturate (`true`, as in a forward pass) or become infinite (`false`: for
    /// gradients, where an overflow must reach the gradient norm).
    pub fn saturating<T>(&self, saturate: bool, f: impl FnOnce() -> T) -> T {
        let before = self.0.saturate.swap(saturate, Ordering::Relaxed);
        let result = f();
        self.0.saturate.store(before, Ordering::Relaxed);
        result
    }

    /// Replaces `find` by `with` in the text of `kernel` from now on, to see which test objects. `None` mends it.
    pub fn plant_fault(&self, fault: Option<(&str, &str, &str)>) {
        if let Executor::Gpu { recorder, .. } = &self.0.executor {
            let mut recorder = lock(recorder);
            recorder.pipelines.fault = fault.map(|(a, b, c)| (a.into(), b.into(), c.into()));
            recorder.pipelines.clear();
            recorder.forget_bind_groups();
        }
    }

    pub(super) fn count(&self, counted: &Counters) {
        lock(&self.0.counters).add(counted);
    }

    pub(super) fn execute(&self, launch: &Launch<'_>) -> Result<()> {
        let replaced = self.0.hooks.apply(launch);
        let launch = replaced.as_ref().unwrap_or(launch);
        lock(&self.0.counters).count(launch);
        let saturate = self.0.saturate.load(Ordering::Relaxed);
        match &self.0.executor {
            Executor::Gpu { recorder, .. } => {
                lock(recorder).launch(launch, &self.0.capabilities, saturate)?;
                self.check()
            }
            Executor::Cpu => {
                let mut twin = Twin::new(launch, saturate);
                (launch.kernel.twin)(&mut twin)?;
                for (i, bytes) in twin.finish() {
                    launch.tensors[i].set_host_bytes(&bytes);
                }
                Ok(())
            }
            Executor::Dry(needs) => {
                lock(needs).note(Need::of(launch, &self.0.capabilities, saturate));
                Ok(())
            }
        }
    }

    /// Sends recorded work to the device without waiting.
    ///
    /// # Errors
    /// `Error::DeviceLost`, `Error::OutOfMemory`, `Error::Kernel`: what the device has reported since.
    pub fn submit(&self) -> Result<()> {
        if let Executor::Gpu { recorder, .. } = &self.0.executor {
            lock(recorder).submit()?;
        }
        self.check()
    }

    /// Waits until all recorded work is done.
    ///
    /// # Errors
    /// As [`Context::submit`].
    pub fn wait(&self) -> Result<()> {
        if let Executor::Gpu { recorder, .. } = &self.0.executor {
            lock(recorder).wait()?;
        }
        self.check()
    }

    pub(super) fn stamp_first(&self) -> Option<Stamps> {
        match &self.0.executor {
            Executor::Gpu { recorder, .. } if self.0.capabilities.timestamps => Some(lock(recorder).stamp_first()),
            _ => None,
        }
    }

    pub(super) fn stamp_last(&self, stamps: &Stamps) -> Result<Option<Duration>> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return Ok(None) };
        lock(recorder).stamp_last(stamps)
    }

    /// Records what `f` launches into `encoder`, an application's own, instead of submitting it. Submit that encoder before
    /// using this context again.
    ///
    /// Do not train and do not read tensors inside: both submit, and the encoder is the application's to finish. So
    /// [`Context::submit`], [`Context::wait`], reading, a training step and another `encode_into` are errors inside; what was
    /// recorded before the error is in the encoder.
    ///
    /// # Errors
    /// What `f` returns; `Error::Check` for `f` that submits.
    pub fn encode_into<T>(&self, encoder: &mut wgpu::CommandEncoder, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return f() };
        lock(recorder).swap(encoder, true)?;
        let result = f();
        lock(recorder).swap(encoder, false)?;
        result
    }

    pub(super) fn check(&self) -> Result<()> {
        match lock(&self.0.failure).clone() {
            None => Ok(()),
            Some((true, reason)) => Err(Error::DeviceLost { reason }),
            Some((false, text)) if text.contains("emory") => {
                Err(Error::OutOfMemory { asked: 0, in_use: self.0.pool.stats().in_use })
            }
            Some((false, message)) => {
                Err(Error::Kernel { name: "device".into(), file: String::new(), line: 0, message })
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
