//! Compiling pipelines before their first use, on more than one thread.
//!
//! A dry run knows which pipelines a piece of work needs ([`Context::needs`]). Hardware drivers compile when a pipeline is
//! created, so threads create them side by side. Software drivers compile at the first dispatch, on their one thread, but
//! keep what they compiled in a cache on disk that all devices share: there a second device dispatches nothing with each
//! pipeline, from the last one backwards, while the first begins to work from the front.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::adapter;
use super::context::{Context, Executor, lock};
use super::pipelines::{Compiled, Compiler, Need};
use super::source::Source;
use super::translate::{self, Language, Translation};
use crate::error::{Error, Result};

/// Pipelines in the order of their first use.
#[derive(Clone, Default)]
pub struct PipelineList(Vec<Need>);

impl PipelineList {
    /// Number of pipelines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn note(&mut self, need: Need) {
        if !self.0.contains(&need) {
            self.0.push(need);
        }
    }

    /// Every pipeline as a Vulkan driver is given it, without a device.
    ///
    /// # Errors
    /// As [`translate::specialise`].
    pub fn to_spirv(&self) -> Result<Vec<Translated>> {
        let translated = |need: &Need| {
            let Need { kernel, variant, constants } = need;
            let source = Source::join(kernel, *variant, None);
            let Translation::Words(spirv) = translate::specialise(&source, constants, Language::Spirv)? else {
                return Err(Error::Check { what: kernel.name.to_owned(), detail: "no words".to_owned() });
            };
            let bindings = [kernel.bindings.len(), variant.epilogue.bindings().len()];
            Ok(Translated { kernel: kernel.name, variant: need.words(), spirv, bindings })
        };
        self.0.iter().map(translated).collect()
    }
}

/// A pipeline of a [`PipelineList`], translated.
#[derive(Clone, Debug)]
pub struct Translated {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Overrides, epilogue and storage, in words.
    pub variant: String,
    /// SPIR-V, its entry point `main`, its parameters in push constants.
    pub spirv: Vec<u32>,
    /// Storage buffers of the groups 0 and 1.
    pub bindings: [usize; 2],
}

/// Compiling that goes on beside the caller's work. Dropping it ends it after the pipeline in hand.
#[derive(Default)]
pub struct Preparation {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Preparation {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that ended badly has prepared less; whatever was wrong shows where the pipeline is used.
            let _ = thread.join();
        }
    }
}

impl Context {
    /// The pipelines that the launches so far would need. Only a dry context knows.
    #[must_use]
    pub fn needs(&self) -> PipelineList {
        match &self.0.executor {
            Executor::Dry(needs) => lock(needs).clone(),
            _ => PipelineList::default(),
        }
    }

    /// Compiles what a dry run for this device found necessary. On hardware all of it is ready when this returns; on software
    /// drivers compiling goes on in the background while the returned value lives. What cannot be compiled is left to its
    /// launch, which reports the error.
    #[must_use]
    pub fn prepare(&self, list: &PipelineList) -> Preparation {
        let Executor::Gpu { recorder, adapter, .. } = &self.0.executor else { return Preparation::default() };
        let compiler = lock(recorder).compiler();
        if !self.0.capabilities.software {
            compile_all(&compiler, &list.0, |need, compiled| drop(lock(recorder).pipelines.insert(need, compiled)));
            return Preparation::default();
        }
        let alone = thread::available_parallelism().is_ok_and(|n| n.get() == 1);
        match adapter {
            Some(adapter) if !alone && self.0.capabilities.immediates && keeps_compiled() => {
                behind(adapter, &compiler, list)
            }
            _ => Preparation::default(),
        }
    }
}

/// Whether Mesa's cache on disk is in use: without it a second device compiles for itself alone.
fn keeps_compiled() -> bool {
    !std::env::var("MESA_SHADER_CACHE_DISABLE").is_ok_and(|v| matches!(v.as_str(), "1" | "true" | "yes" | "y"))
}

/// Creates pipelines on as many threads as there are cores.
fn compile_all(compiler: &Compiler, list: &[Need], done: impl Fn(&Need, Compiled) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(need) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Ok(compiled) = compiler.compile(need) {
                done(need, compiled);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(list.len()) {
            scope.spawn(work);
        }
    });
}

/// Has a second device of the same adapter compile from the end of the list.
fn behind(adapter: &wgpu::Adapter, compiler: &Compiler, list: &PipelineList) -> Preparation {
    let stop = Arc::new(AtomicBool::new(false));
    let (adapter, compiler, list, stopped) = (adapter.clone(), compiler.clone(), list.clone(), Arc::clone(&stop));
    let work = move || {
        let Ok((device, queue)) = adapter::request(&adapter, compiler.device.features(), compiler.device.limits())
        else {
            return;
        };
        let compiler = Compiler { device, cache: None, ..compiler };
        for need in list.0.iter().rev() {
            if stopped.load(Ordering::Relaxed) || dispatch_nothing(&compiler, &queue, need).is_err() {
                return;
            }
        }
    };
    Preparation { stop, thread: thread::Builder::new().name("prepare".into()).spawn(work).ok() }
}

/// A dispatch of no workgroups: the driver compiles for it and runs nothing.
fn dispatch_nothing(compiler: &Compiler, queue: &wgpu::Queue, need: &Need) -> Result<()> {
    let compiled = compiler.compile(need)?;
    let device = &compiler.device;
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&compiled.pipeline);
        let bindings = [need.kernel.bindings, need.variant.epilogue.bindings()];
        for ((index, layout), bindings) in (0..).zip(compiled.groups.iter()).zip(bindings) {
            // Every binding has its own buffer: one that is written may not be bound twice.
            let buffers: Vec<_> = bindings.iter().map(|_| dummy(device)).collect();
            let entries: Vec<_> = (0..)
                .zip(&buffers)
                .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
            pass.set_bind_group(index, &group, &[]);
        }
        pass.set_immediates(0, &[0; super::pipelines::PARAMS_BYTES as usize]);
        pass.dispatch_workgroups(0, 1, 1);
    }
    queue.submit([encoder.finish()]);
    let _ = device.poll(wgpu::PollType::wait_indefinitely());
    Ok(())
}

fn dummy(device: &wgpu::Device) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE;
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 256, usage, mapped_at_creation: false })
}
