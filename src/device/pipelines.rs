//! Compiled pipelines, looked up by kernel, variant and constants.

use std::collections::HashMap;
use std::sync::Arc;

use super::kernel::{Binding, Kernel};
use super::pipeline_cache::Kept;
use super::source::{Source, Variant};
use crate::error::{Error, Result};

/// A pipeline with the layouts that its bind groups follow.
#[derive(Clone)]
pub(super) struct Compiled {
    pub(super) id: u64,
    pub(super) kernel: &'static str,
    /// Overrides and parts in words.
    pub(super) variant: Arc<str>,
    /// Whether parameters travel in the command.
    pub(super) immediates: bool,
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) groups: Arc<[wgpu::BindGroupLayout]>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    kernel: &'static str,
    variant: Variant,
    constants: Vec<(&'static str, u64)>,
}

/// Bytes of one slot of the uniform ring, and the most that a parameter struct may take of it.
pub(super) const PARAMS_BYTES: u32 = 128;

pub(super) struct Pipelines {
    compiled: HashMap<Key, Compiled>,
    checks: bool,
    /// What the driver is asked to reuse and to fill, once the caller wants pipelines kept.
    pub(super) kept: Option<Kept>,
    /// A planted fault: kernel, text to find, text to put there.
    pub(super) fault: Option<(String, String, String)>,
}

impl Pipelines {
    pub(super) fn new(checks: bool) -> Self {
        Self { compiled: HashMap::new(), checks, kept: None, fault: None }
    }

    pub(super) fn len(&self) -> usize {
        self.compiled.len()
    }

    pub(super) fn clear(&mut self) {
        self.compiled.clear();
    }

    pub(super) fn get(
        &mut self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        variant: Variant,
        constants: &[(&'static str, f64)],
    ) -> Result<Compiled> {
        let constants_key = constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        let key = Key { kernel: kernel.name, variant, constants: constants_key };
        if let Some(found) = self.compiled.get(&key) {
            return Ok(found.clone());
        }
        let fault = self.fault.as_ref().filter(|f| f.0 == kernel.name).map(|f| (f.1.as_str(), f.2.as_str()));
        let source = Source::join(kernel, variant, fault);
        let id = self.compiled.len() as u64;
        let compiled = self.compile(device, kernel, variant, constants, &source, id)?;
        self.compiled.insert(key, compiled.clone());
        Ok(compiled)
    }

    fn compile(
        &self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        variant: Variant,
        constants: &[(&'static str, f64)],
        source: &Source,
        id: u64,
    ) -> Result<Compiled> {
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let checks = wgpu::ShaderRuntimeChecks {
            ..if self.checks { wgpu::ShaderRuntimeChecks::checked() } else { wgpu::ShaderRuntimeChecks::unchecked() }
        };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.text.as_str().into()),
        };
        // SAFETY: the crate's own kernels guard their bounds and end their loops; tests run them with all checks on.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let mut groups = vec![layout(device, kernel.name, kernel.bindings)];
        if !variant.epilogue.bindings().is_empty() || !variant.immediates {
            groups.push(layout(device, kernel.name, variant.epilogue.bindings()));
        }
        if !variant.immediates {
            groups.push(uniform_layout(device));
        }
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &groups.iter().map(Some).collect::<Vec<_>>(),
            immediate_size: if variant.immediates { PARAMS_BYTES } else { 0 },
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: self.kept.as_ref().map(|kept| &kept.cache),
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(explain(kernel, source, &error.to_string())),
            None => {
                let overrides = constants.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>();
                let words = format!("{overrides}{} {}", variant.epilogue.name(), variant.storage.name());
                let immediates = variant.immediates;
                Ok(Compiled {
                    id,
                    kernel: kernel.name,
                    variant: words.into(),
                    immediates,
                    pipeline,
                    groups: groups.into(),
                })
            }
        }
    }
}

/// A compile error with the line of the file that the reader has open.
fn explain(kernel: &Kernel, source: &Source, message: &str) -> Error {
    let joined = message.split("wgsl:").nth(1).and_then(|rest| rest.split(':').next()).and_then(|n| n.parse().ok());
    let (file, line) = source.locate(joined.unwrap_or(0));
    Error::Kernel { name: kernel.name.into(), file, line, message: message.into() }
}

fn layout(device: &wgpu::Device, label: &str, bindings: &[Binding]) -> wgpu::BindGroupLayout {
    let entries = bindings
        .iter()
        .zip(0..)
        .map(|(binding, index)| wgpu::BindGroupLayoutEntry {
            binding: index,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: !binding.write },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect::<Vec<_>>();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
}

fn uniform_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entry = wgpu::BindGroupLayoutEntry {
        binding: 0,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: true,
            min_binding_size: None,
        },
        count: None,
    };
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("params"), entries: &[entry] })
}
