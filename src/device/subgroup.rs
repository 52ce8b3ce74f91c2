//! How many invocations share a cooperative matrix, where subgroups have no one size.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::capabilities::Capabilities;
use super::choices::Lanes;
use super::context::{Context, Executor};
use super::kernel::{Binding, EpilogueKind, Kernel, Part, Storage};
use super::pipelines::{Compiler, Need};
use super::source::Variant;
use super::twin::Twin;
use crate::error::Result;
use crate::shape::DType;

static KERNEL: Kernel = Kernel {
    name: "bench/subgroup_size",
    source: include_str!("../../shaders/bench/subgroup_size.wgsl"),
    parts: &[Part::Matrix],
    bindings: &[Binding::u32_mut("size")],
    epilogues: false,
    twin,
};

/// A processor has no subgroups: its matrices are one invocation's own.
fn twin(t: &mut Twin<'_>) -> Result<()> {
    t.put_u32(0, &[1]);
    Ok(())
}

impl Context {
    /// Invocations of the subgroups in which this device runs kernels with cooperative matrices, asked of such a kernel. `None`
    /// without matrices, or when the kernel cannot be run.
    #[must_use]
    pub fn matrix_subgroup(&self) -> Option<u32> {
        let Executor::Gpu { device, queue, .. } = &self.0.executor else { return None };
        measured(device, queue, &self.0.capabilities)
    }
}

/// [`Context::matrix_subgroup`] before there is a context. wgpu's matrices are experimental: a panic on the way counts as no answer.
pub(super) fn measured(device: &wgpu::Device, queue: &wgpu::Queue, has: &Capabilities) -> Option<u32> {
    catch_unwind(AssertUnwindSafe(|| ask(device, queue, has))).ok().flatten()
}

/// Parameters must travel in the command, as on every driver that has such matrices.
fn ask(device: &wgpu::Device, queue: &wgpu::Queue, has: &Capabilities) -> Option<u32> {
    let variant = Variant {
        storage: Storage::F16Native,
        output: DType::F32,
        epilogue: EpilogueKind::None,
        matrix: has.matrix?,
        lanes: Lanes::Any,
        immediates: has.immediates,
    };
    if !has.immediates {
        return None;
    }
    let need = Need { kernel: &KERNEL, variant, constants: Vec::new() };
    let compiler = Compiler { device: device.clone(), checks: false, cache: None, fault: None };
    let compiled = compiler.compile(&need).ok()?;
    let buffer = |usage| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(KERNEL.name),
            size: 16,
            usage,
            mapped_at_creation: false,
        })
    };
    let size = buffer(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let entries = [wgpu::BindGroupEntry { binding: 0, resource: size.as_entire_binding() }];
    let layout = compiled.groups.first()?;
    let group =
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(KERNEL.name), layout, entries: &entries });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&compiled.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    encoder.copy_buffer_to_buffer(&size, 0, &read, 0, 16);
    queue.submit([encoder.finish()]);
    read.slice(..).map_async(wgpu::MapMode::Read, |_| {});
    device.poll(wgpu::PollType::wait_indefinitely()).ok()?;
    let bytes = read.slice(..4).get_mapped_range().ok()?.to_vec();
    let found = u32::from_le_bytes(bytes.try_into().ok()?);
    found.is_power_of_two().then_some(found)
}
