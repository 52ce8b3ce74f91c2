//! Compiled pipelines, looked up by kernel, variant and constants.

use std::collections::HashMap;
use std::sync::Arc;

use super::capabilities::Capabilities;
use super::choices::{Lanes, Matrix};
use super::kernel::{Binding, Kernel, Part, Storage};
use super::launch::Launch;
use super::pipeline_cache::Kept;
use super::source::{Source, Variant};
use crate::error::{Error, Result};
use crate::shape::DType;

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

/// What chooses a pipeline.
#[derive(Clone)]
pub(super) struct Need {
    pub(super) kernel: &'static Kernel,
    pub(super) variant: Variant,
    pub(super) constants: Vec<(&'static str, f64)>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    kernel: &'static str,
    variant: Variant,
    constants: Vec<(&'static str, u64)>,
}

impl Need {
    /// What a launch needs on a device of these capabilities.
    pub(super) fn of(launch: &Launch<'_>, capabilities: &Capabilities, saturate: bool) -> Self {
        let (stored, output) = launch.dtypes();
        // All halves have the same bytes in memory: cooperative matrices read them as native ones.
        let half = if launch.kernel.has_matrix() { Storage::F16Native } else { capabilities.half };
        let reduces = launch.kernel.parts.contains(&Part::Reduce);
        let lanes = match capabilities.lanes() {
            Lanes::Known if !reduces => Lanes::Any,
            lanes => lanes,
        };
        let variant = Variant {
            storage: if stored == DType::F16 { half } else { Storage::F32 },
            output,
            epilogue: launch.epilogue,
            matrix: capabilities.matrix.unwrap_or(Matrix::M16),
            lanes,
            immediates: capabilities.immediates,
        };
        let mut constants = launch.constants.clone();
        let said = constants.iter().any(|(name, _)| *name == "SUBGROUP");
        if let (Lanes::Known, Some(size), false) = (lanes, capabilities.subgroup_size, said) {
            constants.push(("SUBGROUP", f64::from(size)));
        }
        if !saturate && launch.kernel.is_stored() && variant.storage != Storage::F32 {
            constants.push(("SATURATE", 0.0));
        }
        Self { kernel: launch.kernel, variant, constants }
    }

    /// Overrides, epilogue and storage.
    pub(super) fn words(&self) -> String {
        let overrides = self.constants.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>();
        format!("{overrides}{} {}", self.variant.epilogue.name(), self.variant.storage.name())
    }

    fn key(&self) -> Key {
        let constants = self.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        Key { kernel: self.kernel.name, variant: self.variant, constants }
    }
}

impl PartialEq for Need {
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |need: &Self| need.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect::<Vec<_>>();
        (self.kernel.name, self.variant) == (other.kernel.name, other.variant) && bits(self) == bits(other)
    }
}

/// Bytes of one slot of the uniform ring, and the most that a parameter struct may take of it.
pub(super) const PARAMS_BYTES: u32 = 128;

pub(super) struct Pipelines {
    compiled: HashMap<Key, Compiled>,
    checks: bool,
    /// What the driver is asked to reuse and to fill, once the caller wants pipelines kept.
    pub(super) kept: Option<Kept>,
    /// A planted fault.
    pub(super) fault: Option<PlantedFault>,
}

/// Kernel, text to find, text to put there.
pub(super) type PlantedFault = (String, String, String);

/// All that compiling takes besides the pipeline's own description, for use on any thread.
#[derive(Clone)]
pub(super) struct Compiler {
    pub(super) device: wgpu::Device,
    pub(super) checks: bool,
    pub(super) cache: Option<wgpu::PipelineCache>,
    pub(super) fault: Option<PlantedFault>,
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

    pub(super) fn compiler(&self, device: &wgpu::Device) -> Compiler {
        let cache = self.kept.as_ref().map(|kept| kept.cache.clone());
        Compiler { device: device.clone(), checks: self.checks, cache, fault: self.fault.clone() }
    }

    pub(super) fn get(&mut self, device: &wgpu::Device, need: &Need) -> Result<Compiled> {
        if let Some(found) = self.compiled.get(&need.key()) {
            return Ok(found.clone());
        }
        let compiled = self.compiler(device).compile(need)?;
        Ok(self.insert(need, compiled))
    }

    /// Keeps a pipeline, unless another thread was faster; the one to use.
    pub(super) fn insert(&mut self, need: &Need, compiled: Compiled) -> Compiled {
        let id = self.compiled.len() as u64;
        self.compiled.entry(need.key()).or_insert(Compiled { id, ..compiled }).clone()
    }
}

impl Compiler {
    pub(super) fn compile(&self, need: &Need) -> Result<Compiled> {
        let Need { kernel, variant, constants } = need;
        let (device, kernel) = (&self.device, *kernel);
        let fault = self.fault.as_ref().filter(|f| f.0 == kernel.name).map(|f| (f.1.as_str(), f.2.as_str()));
        let source = Source::join(kernel, *variant, fault);
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
            cache: self.cache.as_ref(),
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(explain(kernel, &source, &error.to_string())),
            None => {
                let immediates = variant.immediates;
                Ok(Compiled {
                    id: 0,
                    kernel: kernel.name,
                    variant: need.words().into(),
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
