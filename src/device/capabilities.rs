//! What the device can do, and how each missing ability is replaced.

use super::kernel::Storage;

/// Features and limits in use. Nothing is required: each has a fallback.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Adapter name, or "cpu twins" / "dry run".
    pub adapter: String,
    /// Driver and its version.
    pub driver: String,
    /// "vulkan", "metal", "dx12", or "none".
    pub backend: String,
    /// Whether the adapter is a processor.
    pub software: bool,
    /// Native f16 storage (else packed halves).
    pub f16: bool,
    /// Subgroup operations (no kernel needs them).
    pub subgroups: bool,
    /// Parameters inside the command (else a uniform ring).
    pub immediates: bool,
    /// GPU timestamps (else wall time).
    pub timestamps: bool,
    /// Largest window that one binding may show, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
    /// Which part stores halves.
    pub half: Storage,
}

impl Capabilities {
    pub(super) fn of(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Self {
        Self {
            adapter: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend.to_str().to_owned(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            immediates: features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size >= 128,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            half: Storage::F16Packed,
        }
    }

    pub(super) fn host(name: &str) -> Self {
        Self {
            adapter: name.to_owned(),
            driver: format!("mmae {}", env!("CARGO_PKG_VERSION")),
            backend: "none".to_owned(),
            software: true,
            f16: true,
            subgroups: false,
            immediates: true,
            timestamps: false,
            max_binding: 1 << 31,
            max_buffer: 1 << 40,
            half: Storage::F16Packed,
        }
    }

    /// One line for logs and reports.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} ({}, {})", self.adapter, self.backend, self.driver)
    }
}
