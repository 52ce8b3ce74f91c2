//! What the device can do, and how each missing ability is replaced.

use super::choices::{Lanes, Matrix};
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
    /// Whether the adapter is a card of its own, not part of a processor.
    pub discrete: bool,
    /// Native f16 storage (else packed halves).
    pub f16: bool,
    /// Subgroup operations; no kernel needs them.
    pub subgroups: bool,
    /// Invocations of a subgroup, where all subgroups have the same number.
    pub subgroup_size: Option<u32>,
    /// Where they have not: invocations that share a cooperative matrix, which a context asks of a kernel that has one
    /// ([`Context::matrix_subgroup`](super::Context::matrix_subgroup)).
    pub matrix_subgroup: Option<u32>,
    /// Integers of 64 bits in shaders.
    pub int64: bool,
    /// Cooperative matrices of halves with sums in f32, where the device lists a size that kernels know and the number of
    /// invocations that share one is known. Whether their results are right is tested at first use: [`Context::matrix_verdict`](super::Context).
    pub matrix: Option<Matrix>,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Invocations that a workgroup may have.
    pub workgroup_invocations: u32,
    /// Parameters inside the command (else a uniform ring).
    pub immediates: bool,
    /// Compiled pipelines can be kept for the next process (else the driver keeps them or not).
    pub pipeline_cache: bool,
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
    pub(super) fn of(adapter: &wgpu::Adapter, features: wgpu::Features, limits: &wgpu::Limits) -> Self {
        let info = adapter.get_info();
        let listed = listed(&adapter.cooperative_matrix_properties());
        let sizes = (info.subgroup_min_size, info.subgroup_max_size);
        let subgroup_size =
            one_size(info.backend, sizes, listed).filter(|_| features.contains(wgpu::Features::SUBGROUP));
        let native = features.contains(wgpu::Features::SHADER_F16);
        let cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) && native;
        Self {
            adapter: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend.to_str().to_owned(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            discrete: info.device_type == wgpu::DeviceType::DiscreteGpu,
            f16: native,
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_size,
            matrix_subgroup: None,
            int64: features.contains(wgpu::Features::SHADER_INT64),
            matrix: listed.filter(|_| cooperative && features.contains(wgpu::Features::SUBGROUP)),
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            immediates: features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size >= 128,
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
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
            discrete: false,
            f16: true,
            subgroups: false,
            subgroup_size: None,
            matrix_subgroup: None,
            int64: false,
            matrix: None,
            workgroup_bytes: 16 << 10,
            workgroup_invocations: 256,
            immediates: true,
            pipeline_cache: false,
            timestamps: false,
            max_binding: 1 << 31,
            max_buffer: 1 << 40,
            half: Storage::F16Packed,
        }
    }

    /// Cooperative matrices and how many invocations share one.
    #[must_use]
    pub fn matrices(&self) -> Option<(Matrix, u32)> {
        self.matrix.zip(self.subgroup_size.or(self.matrix_subgroup))
    }

    /// What kernels rely on: subgroups of eight lanes, on processors that run eight invocations as one vector, where passing values
    /// on is cheaper than loading them again and than a barrier, and where 64 bits take as long to load as 32; on hardware
    /// subgroups of one size, where a sum over them takes fewer steps than one through memory.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        match self.subgroup_size {
            Some(8) if self.software && self.int64 => Lanes::Eight,
            Some(size) if !self.software && self.subgroups && size.is_power_of_two() => Lanes::Known,
            _ => Lanes::Any,
        }
    }

    /// One line for logs and reports.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} ({}, {})", self.adapter, self.backend, self.driver)
    }
}

/// Invocations of a subgroup, where all have the same number. wgpu says 4 to 64 of every Metal device; those that have matrices of
/// 8 x 8 are Apple's own, of 32 lanes (Metal feature set tables: SIMD-scoped matrix operations from the family Apple7 on). The
/// self-test of the kernels with matrices stands behind that.
fn one_size(backend: wgpu::Backend, (least, most): (u32, u32), matrix: Option<Matrix>) -> Option<u32> {
    if backend == wgpu::Backend::Metal && matrix == Some(Matrix::M8) {
        return Some(32);
    }
    (least == most).then_some(most)
}

/// The larger size of cooperative matrices that the adapter lists for f16 in, f32 out. The feature alone says only that there is
/// some size; another one than those listed gives anything, zeros included.
fn listed(properties: &[wgpu::CooperativeMatrixProperties]) -> Option<Matrix> {
    let is = |p: &wgpu::CooperativeMatrixProperties, matrix: Matrix| {
        let size = matrix.size() as u32;
        (p.m_size, p.n_size, p.k_size) == (size, size, size)
            && p.ab_type == wgpu::CooperativeScalarType::F16
            && p.cr_type == wgpu::CooperativeScalarType::F32
    };
    [Matrix::M16, Matrix::M8].into_iter().find(|&matrix| properties.iter().any(|p| is(p, matrix)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::CooperativeScalarType::{F16, F32};

    #[test]
    fn subgroups_have_one_size_or_none() {
        use wgpu::Backend::{Metal, Vulkan};
        let table = [
            (Vulkan, (32, 32), None, Some(32)),
            (Vulkan, (32, 64), Some(Matrix::M16), None),
            (Metal, (4, 64), Some(Matrix::M8), Some(32)),
            (Metal, (4, 64), None, None),
        ];
        for (backend, sizes, matrix, want) in table {
            assert_eq!(one_size(backend, sizes, matrix), want, "{backend:?} {sizes:?} {matrix:?}");
        }
    }

    #[test]
    fn texts_go_by_what_subgroups_are() {
        let table = [
            (true, true, Some(8), true, Lanes::Eight),
            (true, true, Some(8), false, Lanes::Any),
            (true, true, Some(4), true, Lanes::Any),
            (false, true, Some(32), false, Lanes::Known),
            (false, true, Some(64), true, Lanes::Known),
            (false, true, None, true, Lanes::Any),
            (false, false, Some(32), true, Lanes::Any),
        ];
        for (software, subgroups, subgroup_size, int64, want) in table {
            let has = Capabilities { software, subgroups, subgroup_size, int64, ..Capabilities::host("a device") };
            assert_eq!(has.lanes(), want, "{software} {subgroups} {subgroup_size:?} {int64}");
        }
    }

    #[test]
    fn a_matrix_is_shared_by_as_many_as_are_known() {
        let host = Capabilities::host("a device");
        let has = |subgroup_size, matrix_subgroup| Capabilities {
            matrix: Some(Matrix::M16),
            subgroup_size,
            matrix_subgroup,
            ..host.clone()
        };
        assert_eq!(has(Some(32), None).matrices(), Some((Matrix::M16, 32)));
        assert_eq!(has(None, Some(64)).matrices(), Some((Matrix::M16, 64)));
        assert_eq!(has(None, None).matrices(), None);
        assert_eq!(host.matrices(), None);
    }

    #[test]
    fn only_an_exact_match_is_taken() {
        let property = |(m_size, n_size, k_size), ab_type, cr_type| wgpu::CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        };
        let table = [
            (vec![property((8, 8, 8), F16, F32)], Some(Matrix::M8)),
            (vec![property((8, 8, 8), F16, F32), property((16, 16, 16), F16, F32)], Some(Matrix::M16)),
            (vec![property((16, 16, 16), F16, F16), property((8, 8, 8), F32, F32)], None),
            (vec![property((16, 8, 16), F16, F32), property((16, 16, 8), F16, F32)], None),
            (vec![], None),
        ];
        for (properties, want) in table {
            assert_eq!(listed(&properties), want, "{properties:?}");
        }
    }
}
