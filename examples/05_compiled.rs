//! What a driver's compiler makes of every kernel of a training step: registers, spills, workgroup memory, whatever the driver
//! tells through `VK_KHR_pipeline_executable_properties` (NVIDIA, Mesa's RADV, ANV and Turnip do; lavapipe does not).
//!
//! What it teaches: a pipeline is compiled without memory, a queue or a launch, so numbers that decide how many workgroups a
//! processor holds can be read before anything runs. Nor does the GPU have to be there: Mesa's compiler for AMD works for a
//! card that is only named (`scripts/drivers.sh --compilers`).
//!
//! Run with `cargo run --release --example 05_compiled -- [--model NAME] [--f32] [--batch N] [--text KERNEL] [--most NAME=N]`. `--text`
//! prints what the driver shows of that kernel, its machine code included. `--most "Spilled VGPRs=0"` ends with an error when a
//! figure of that name is larger; it may be repeated.

use std::error::Error;
use std::ffi::CStr;
use std::io::Write;
use std::process::ExitCode;

use ash::{khr::pipeline_executable_properties as executables, vk};
use mmae::device::{Capabilities, Matrix, Translated, Tuning};
use mmae::model::config::preset;
use mmae::train::config::{Precision, RunConfig};
use mmae::train::plan::needs;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names and values, as the driver tells them.
type Figures = Vec<(String, String)>;

struct Options {
    config: RunConfig,
    text: Option<String>,
    most: Vec<(String, f64)>,
}

fn options() -> Result<Options> {
    let mut args = std::env::args().skip(1);
    let mut read = Options { config: RunConfig::new(preset("m2ae")?), text: None, most: Vec::new() };
    read.config.train.precision = Precision::F16;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} takes a value"));
        match arg.as_str() {
            "--model" => read.config.model = preset(&value()?)?,
            "--batch" => read.config.train.batch = value()?.parse().map_err(|error| format!("--batch: {error}"))?,
            "--text" => read.text = Some(value()?),
            "--most" => {
                let limit = value()?;
                let (name, most) = limit.split_once('=').ok_or("--most takes NAME=N")?;
                let most = most.parse().map_err(|error| format!("--most {name}: {error}"))?;
                read.most.push((name.to_owned(), most));
            }
            "--f32" => read.config.train.precision = Precision::F32,
            _ => return Err(format!("{arg} is not known: --model, --batch, --f32, --text, --most").into()),
        }
    }
    Ok(read)
}

/// A device that is asked to compile, and nothing else.
struct Compiler {
    device: ash::Device,
    told: executables::Device,
    has: Capabilities,
}

/// The first device whose driver tells of its pipelines.
fn compiler(instance: &ash::Instance) -> Result<Option<Compiler>> {
    // SAFETY: the instance lives as long as the program; every structure passed outlives its call.
    unsafe {
        for physical in instance.enumerate_physical_devices()? {
            let listed = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| listed.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
            if !has(executables::NAME) {
                continue;
            }
            let matrices = has(ash::khr::cooperative_matrix::NAME);
            let mut extensions = vec![executables::NAME.as_ptr()];
            extensions.extend(matrices.then_some(ash::khr::cooperative_matrix::NAME.as_ptr()));
            let mut tells = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut cooperative = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
            let mut vulkan11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut all = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut tells)
                .push_next(&mut vulkan11)
                .push_next(&mut vulkan12);
            if matrices {
                all = all.push_next(&mut cooperative);
            }
            // All that the driver has, switched on.
            instance.get_physical_device_features2(physical, &mut all);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut all);
            let device = instance.create_device(physical, &info, None)?;
            let told = executables::Device::new(instance, &device);
            return Ok(Some(Compiler { device, told, has: capabilities(instance, physical, matrices) }));
        }
    }
    Ok(None)
}

/// What the engine would find on that device.
///
/// # Safety
/// `physical` is a device of the instance.
unsafe fn capabilities(instance: &ash::Instance, physical: vk::PhysicalDevice, matrices: bool) -> Capabilities {
    let mut subgroups = vk::PhysicalDeviceSubgroupProperties::default();
    let mut sizes = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
    let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut subgroups).push_next(&mut sizes);
    // SAFETY: as the caller says.
    unsafe { instance.get_physical_device_properties2(physical, &mut all) };
    let properties = all.properties;
    let name = properties.device_name_as_c_str().unwrap_or_default().to_string_lossy().into_owned();
    Capabilities {
        adapter: name,
        backend: "vulkan".into(),
        software: properties.device_type == vk::PhysicalDeviceType::CPU,
        discrete: properties.device_type == vk::PhysicalDeviceType::DISCRETE_GPU,
        subgroups: true,
        subgroup_size: (sizes.min_subgroup_size == sizes.max_subgroup_size).then_some(subgroups.subgroup_size),
        matrix_subgroup: Some(subgroups.subgroup_size),
        matrix: matrices.then_some(Matrix::M16),
        workgroup_bytes: properties.limits.max_compute_shared_memory_size,
        workgroup_invocations: properties.limits.max_compute_work_group_invocations,
        max_binding: u64::from(properties.limits.max_storage_buffer_range),
        ..mmae::Context::dry(None).capabilities().clone()
    }
}

impl Compiler {
    /// What the driver tells of a pipeline: names and values, and with `text` every form of it that can be read.
    fn compile(&self, pipeline: &Translated, text: bool) -> Result<(Figures, Vec<String>)> {
        let device = &self.device;
        // SAFETY: the words come from naga, which validated them; every handle was made by this device and is destroyed once.
        unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(&pipeline.spirv);
            let module = device.create_shader_module(&info, None)?;
            let mut sets = Vec::new();
            for count in pipeline.bindings {
                let binding = |index| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(index)
                        .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                };
                let bindings: Vec<_> = (0..count as u32).map(binding).collect();
                let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
                sets.push(device.create_descriptor_set_layout(&info, None)?);
            }
            let pushed = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(128)];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&pushed);
            let layout = device.create_pipeline_layout(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let mut flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
            if text {
                flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            }
            let info = vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout);
            let made =
                device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None).map_err(|(_, e)| e)?[0];
            let what = vk::PipelineExecutableInfoKHR::default().pipeline(made);
            let figures = self.told.get_pipeline_executable_statistics(&what)?.iter().map(figure).collect();
            let texts = if text { self.texts(&what)? } else { Vec::new() };
            device.destroy_pipeline(made, None);
            device.destroy_pipeline_layout(layout, None);
            sets.into_iter().for_each(|set| device.destroy_descriptor_set_layout(set, None));
            device.destroy_shader_module(module, None);
            Ok((figures, texts))
        }
    }

    /// The driver's own forms of a pipeline, from its first to its machine code.
    ///
    /// # Safety
    /// The pipeline is this device's and was made to be shown.
    unsafe fn texts(&self, what: &vk::PipelineExecutableInfoKHR<'_>) -> Result<Vec<String>> {
        // Once for the lengths, once for the texts.
        // SAFETY: as the caller says; each text gets as many bytes as the driver asked for, and they outlive the call.
        unsafe {
            let mut forms = self.told.get_pipeline_executable_internal_representations(what)?;
            let mut kept: Vec<Vec<u8>> = forms.iter().map(|form| vec![0; form.data_size]).collect();
            for (form, bytes) in forms.iter_mut().zip(&mut kept) {
                form.p_data = bytes.as_mut_ptr().cast();
            }
            let mut count = forms.len() as u32;
            let ask = self.told.fp().get_pipeline_executable_internal_representations_khr;
            ask(self.told.device(), what, &mut count, forms.as_mut_ptr()).result()?;
            Ok(kept.iter().map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()).collect())
        }
    }
}

fn figure(told: &vk::PipelineExecutableStatisticKHR<'_>) -> (String, String) {
    let name = told.name_as_c_str().unwrap_or_default().to_string_lossy().into_owned();
    // SAFETY: the format says which member of the union the driver has written.
    let value = unsafe {
        match told.format {
            vk::PipelineExecutableStatisticFormatKHR::BOOL32 => (told.value.b32 != 0).to_string(),
            vk::PipelineExecutableStatisticFormatKHR::INT64 => told.value.i64.to_string(),
            vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => told.value.f64.to_string(),
            _ => told.value.u64.to_string(),
        }
    };
    (name, value)
}

/// What is larger than it may be; a limit on a figure that the driver does not tell is too much as well.
fn beyond(figures: &[(String, String)], most: &[(String, f64)]) -> Vec<String> {
    let found = |name: &str| figures.iter().find(|figure| figure.0 == name).map(|figure| figure.1.as_str());
    most.iter()
        .filter(|(name, most)| {
            !found(name).and_then(|value| value.parse().ok()).is_some_and(|value: f64| value <= *most)
        })
        .map(|(name, most)| format!("{name} {}, at most {most} wanted", found(name).unwrap_or("not told")))
        .collect()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Options { config, text, most } = options()?;
    let mut out = std::io::stdout().lock();
    // SAFETY: the loader's library is what it says it is.
    let Ok(entry) = (unsafe { ash::Entry::load() }) else {
        writeln!(out, "no Vulkan loader on this machine")?;
        return Ok(());
    };
    let version = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
    // SAFETY: the structures outlive the call.
    let instance =
        unsafe { entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&version), None)? };
    let Some(compiler) = compiler(&instance)? else {
        let advice =
            "no driver here tells of its pipelines; scripts/drivers.sh --compilers brings one that needs no GPU";
        writeln!(out, "{advice}")?;
        return if most.is_empty() { Ok(()) } else { Err(advice.into()) };
    };
    let pipelines = needs(&config, compiler.has.clone(), Tuning::default())?.to_spirv()?;
    writeln!(out, "{}: {} pipelines", compiler.has.adapter, pipelines.len())?;
    let mut too_much = Vec::new();
    for pipeline in pipelines {
        let shown = text.as_ref().is_some_and(|name| name == pipeline.kernel);
        if text.is_some() && !shown {
            continue;
        }
        let (figures, texts) = compiler.compile(&pipeline, shown)?;
        let name = format!("{} {}", pipeline.kernel, pipeline.variant);
        too_much.extend(beyond(&figures, &most).into_iter().map(|what| format!("{name}: {what}")));
        let figures: Vec<_> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(out, "\n{name}\n  {}", figures.join(", "))?;
        for text in texts {
            writeln!(out, "{text}")?;
        }
    }
    if too_much.is_empty() { Ok(()) } else { Err(too_much.join("\n").into()) }
}
