//! Choosing an adapter and opening a device on it.

use super::capabilities::Capabilities;
use super::choices::Matrix;
use super::kernel::Storage;
use crate::error::{Error, Result};

/// Which device to open and how.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// "auto" (hardware, then software, then the twins), "cpu" (the twins), or a part of an adapter's name.
    pub device: String,
    /// Bounds checks and loop bounding in shaders: on for tests, off for speed.
    pub checks: bool,
    /// Fill fresh and recycled buffers with NaN and keep guard words behind each tensor, bound with it. For tests.
    pub poison: bool,
    /// Parameters in uniform slots even where immediates exist. For tests.
    pub no_immediates: bool,
    /// Take the variants of kernels that are meant for hardware on a software adapter too. For tests.
    pub as_hardware: bool,
    /// Do without cooperative matrices.
    pub no_matrix: bool,
    /// Do without the device's clock: everything is timed by the wall.
    pub no_timestamps: bool,
    /// Take this size of cooperative matrices though the driver does not list it. For tests: lavapipe computes 16x16x16 too.
    pub unlisted_matrix: Option<Matrix>,
    /// Storage part for halves; packed when `None`.
    pub half: Option<Storage>,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            checks: false,
            poison: false,
            no_immediates: false,
            as_hardware: false,
            no_matrix: false,
            no_timestamps: false,
            unlisted_matrix: None,
            half: None,
        }
    }
}

/// An open device.
pub(super) struct Opened {
    pub adapter: wgpu::Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) capabilities: Capabilities,
}

/// The features that the engine makes use of where they exist.
const WANTED: wgpu::Features = wgpu::Features::SHADER_F16
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::IMMEDIATES)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::TIMESTAMP_QUERY);

/// The same, of those that wgpu calls experimental.
const WANTED_EXPERIMENTAL: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

fn instance(debug: bool) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Release builds go without validation: it also caps buffers at 4 GiB.
    descriptor.flags = if debug { wgpu::InstanceFlags::debugging() } else { wgpu::InstanceFlags::empty() };
    wgpu::Instance::new(descriptor.with_env())
}

/// All adapters that a backend of this build sees, hardware first.
#[must_use]
pub fn adapters() -> Vec<wgpu::AdapterInfo> {
    sorted(&instance(false)).iter().map(wgpu::Adapter::get_info).collect()
}

fn sorted(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::from_env().unwrap_or_else(wgpu::Backends::all);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    let low_power = std::env::var("WGPU_POWER_PREF").is_ok_and(|v| v.eq_ignore_ascii_case("low"));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => {
            if low_power {
                1
            } else {
                0
            }
        }
        wgpu::DeviceType::IntegratedGpu => {
            if low_power {
                0
            } else {
                1
            }
        }
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// Opens the adapter that `options.device` (or `WGPU_ADAPTER_NAME`) names, or the best one.
///
/// # Errors
/// `Error::NoAdapter` with what was found.
pub(super) fn open(options: &ContextOptions) -> Result<Opened> {
    let instance = instance(options.poison || std::env::var_os("WGPU_VALIDATION").is_some());
    let adapters = sorted(&instance);
    let wanted = match options.device.as_str() {
        "auto" | "" => std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default(),
        name => name.to_owned(),
    };
    let lower = wanted.to_lowercase();
    let found = adapters.iter().map(|a| a.get_info().name).collect::<Vec<_>>();
    let adapter =
        adapters.into_iter().find(|a| a.get_info().name.to_lowercase().contains(&lower)).ok_or_else(|| {
            Error::NoAdapter {
                wanted: if wanted.is_empty() { "auto".into() } else { wanted.clone() },
                tried: if found.is_empty() { "none".into() } else { found.join(", ") },
            }
        })?;
    let experimental = if options.no_matrix { wgpu::Features::empty() } else { WANTED_EXPERIMENTAL };
    let clock = if options.no_timestamps { wgpu::Features::TIMESTAMP_QUERY } else { wgpu::Features::empty() };
    let features = adapter.features() & (WANTED | experimental) & !clock;
    let limits = adapter.limits();
    let (device, queue) = request(&adapter, features, limits.clone()).map_err(|error| Error::NoAdapter {
        wanted: adapter.get_info().name,
        tried: format!("{}; {error}", found.join(", ")),
    })?;
    let mut capabilities = Capabilities::of(&adapter, features, &limits);
    if capabilities.matrix.is_some() && options.unlisted_matrix.is_some() {
        capabilities.matrix = options.unlisted_matrix;
    }
    capabilities.immediates &= !options.no_immediates;
    capabilities.software &= !options.as_hardware;
    if let Some(half) = options.half {
        capabilities.half = half;
    }
    if capabilities.half == Storage::F16Native && !capabilities.f16 {
        capabilities.half = Storage::F16Packed;
    }
    Ok(Opened { adapter, device, queue, capabilities })
}

/// A device with these features and limits.
pub(super) fn request(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("mmae"),
        required_features: features,
        required_limits: limits,
        memory_hints: wgpu::MemoryHints::Performance,
        experimental_features: if features.intersects(WANTED_EXPERIMENTAL) {
            // SAFETY: the caller acknowledges that experimental features may have bugs that safe code reaches. The only one
            // asked for is cooperative matrices; their kernels stay inside their buffers by construction, run under all
            // checks in the tests, and are used only where they passed a comparison with the formula on this very adapter.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        },
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor))
}
