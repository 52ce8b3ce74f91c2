//! Translating a kernel's text without a device: validation, and the SPIR-V, Metal and HLSL that a driver would be given.

use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Module, ShaderStage};

use super::source::Source;
use crate::error::{Error, Result};

/// What a kernel can be translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Vulkan.
    Spirv,
    /// Metal Shading Language.
    Msl,
    /// DirectX.
    Hlsl,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Spirv, Self::Msl, Self::Hlsl];

    /// Name as in `--to`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spirv => "spirv",
            Self::Msl => "msl",
            Self::Hlsl => "hlsl",
        }
    }
}

/// A translated kernel.
#[derive(Clone, Debug)]
pub enum Translation {
    /// SPIR-V words.
    Words(Vec<u32>),
    /// MSL or HLSL.
    Text(String),
}

/// What the engine may ask of a device: nothing else passes validation.
const CAPABILITIES: Capabilities = Capabilities::IMMEDIATES
    .union(Capabilities::SHADER_FLOAT16)
    .union(Capabilities::SHADER_FLOAT16_IN_FLOAT32)
    .union(Capabilities::SUBGROUP)
    .union(Capabilities::SHADER_INT64)
    .union(Capabilities::COOPERATIVE_MATRIX);

/// Parses a joined text; its overrides are still there to be read.
///
/// # Errors
/// `Error::Kernel` with the file and line that the reader has open.
pub(crate) fn parse(source: &Source) -> Result<Module> {
    let options = naga::front::wgsl::Options { parse_doc_comments: false, capabilities: CAPABILITIES };
    naga::front::wgsl::Frontend::new_with_options(options).parse(&source.text).map_err(|error| {
        let line = error.location(&source.text).map_or(0, |place| place.line_number);
        explain(source, line, error.emit_to_string(&source.text))
    })
}

/// Parses and validates a joined text, with its overrides at their defaults.
///
/// # Errors
/// `Error::Kernel` with the file and line that the reader has open.
pub fn validate(source: &Source) -> Result<(Module, ModuleInfo)> {
    resolve(source, &PipelineConstants::default())
}

/// The same with some overrides at other values.
///
/// # Errors
/// As [`validate`].
pub fn resolve(source: &Source, constants: &PipelineConstants) -> Result<(Module, ModuleInfo)> {
    let module = parse(source)?;
    let mut validator = Validator::new(ValidationFlags::all(), CAPABILITIES);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| {
        let line = error.location(&source.text).map_or(0, |place| place.line_number);
        explain(source, line, error.emit_to_string(&source.text))
    })?;
    let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, "main")), constants)
        .map_err(|error| explain(source, 0, error.to_string()))?;
    Ok((module.into_owned(), info.into_owned()))
}

/// Translates a joined text as a release build would have a driver see it: without bounds checks, loop bounding and zero-fill.
///
/// # Errors
/// `Error::Kernel`: as [`validate`], or what the language cannot express.
pub fn translate(source: &Source, language: Language) -> Result<Translation> {
    specialise(source, &[], language)
}

/// The same with overrides at the values of a launch.
///
/// # Errors
/// As [`translate`].
pub fn specialise(source: &Source, constants: &[(&str, f64)], language: Language) -> Result<Translation> {
    let constants = constants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let (module, info) = resolve(source, &constants)?;
    let refused = |error: &dyn std::fmt::Display| explain(source, 0, format!("no {}: {error}", language.name()));
    match language {
        Language::Spirv => spirv(&module, &info).map_err(|e| refused(&e)).map(Translation::Words),
        Language::Msl => metal(&module, &info).map_err(|e| refused(&e)).map(Translation::Text),
        Language::Hlsl => direct_x(&module, &info).map_err(|e| refused(&e)).map(Translation::Text),
    }
}

fn spirv(module: &Module, info: &ModuleInfo) -> Result<Vec<u32>, spv::Error> {
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::DEBUG,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        bounds_check_policies: unchecked(),
        ..Default::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(module, info, &options, Some(&pipeline))
}

fn metal(module: &Module, info: &ModuleInfo) -> Result<String, msl::Error> {
    let options = msl::Options {
        lang_version: (2, 3),
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        bounds_check_policies: unchecked(),
        ..Default::default()
    };
    msl::write_string(module, info, &options, &Default::default()).map(|(text, _)| text)
}

fn direct_x(module: &Module, info: &ModuleInfo) -> Result<String, hlsl::Error> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        // Immediates, and the workgroup count that DirectX does not know, become root constants in spaces that no group takes.
        immediates_target: Some(hlsl::BindTarget { space: 3, ..Default::default() }),
        special_constants_binding: Some(hlsl::BindTarget { space: 4, ..Default::default() }),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default()).write(module, info, None)?;
    Ok(text)
}

fn unchecked() -> naga::proc::BoundsCheckPolicies {
    use naga::proc::BoundsCheckPolicy::Unchecked;
    naga::proc::BoundsCheckPolicies {
        index: Unchecked,
        buffer: Unchecked,
        image_load: Unchecked,
        binding_array: Unchecked,
    }
}

fn explain(source: &Source, line: u32, message: String) -> Error {
    let (file, line) = source.locate(line as usize);
    Error::Kernel { name: source.kernel().into(), file, line, message }
}
