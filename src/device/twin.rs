//! What a CPU twin sees of its launch: parameters, flags, and copies of the buffers decoded to f32.

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::kernel::EpilogueKind;
use super::launch::Launch;
use crate::shape::DType;

/// The arguments of one launch on the CPU. Buffers are numbered as in the shader: group 0, then group 1.
pub struct Twin<'a> {
    launch: &'a Launch<'a>,
    saturate: bool,
    written: Vec<(usize, Vec<u8>)>,
}

impl<'a> Twin<'a> {
    pub(super) const fn new(launch: &'a Launch<'a>, saturate: bool) -> Self {
        Self { launch, saturate, written: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<(usize, Vec<u8>)> {
        self.written
    }

    /// The parameter struct.
    #[must_use]
    pub fn params<P: Pod>(&self) -> P {
        let size = size_of::<P>();
        let mut bytes = self.launch.params.clone();
        bytes.resize(size, 0);
        bytemuck::pod_read_unaligned(&bytes)
    }

    /// An override constant, where the launch sets it.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<f64> {
        self.launch.constants.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// A boolean override; false where the launch does not set it.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.constant(name).is_some_and(|value| value != 0.0)
    }

    /// Which epilogue follows; its buffers come after those of group 0.
    #[must_use]
    pub const fn epilogue(&self) -> EpilogueKind {
        self.launch.epilogue
    }

    /// Buffer `i` in memory layout (padding included), decoded to f32.
    #[must_use]
    pub fn f32(&self, i: usize) -> Vec<f32> {
        let bytes = self.launch.tensors[i].host_bytes();
        decode(&bytes, self.launch.tensors[i].dtype())
    }

    /// Buffer `i` in memory layout as unsigned integers.
    #[must_use]
    pub fn u32(&self, i: usize) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.launch.tensors[i].host_bytes())
    }

    /// Writes the whole of buffer `i`, padding included, rounded to its storage.
    pub fn put_f32(&mut self, i: usize, values: Vec<f32>) {
        let bytes = encode(&values, self.launch.tensors[i].dtype(), self.saturate);
        self.written.push((i, bytes));
    }

    /// Writes the whole of buffer `i`, padding included.
    pub fn put_u32(&mut self, i: usize, values: &[u32]) {
        self.written.push((i, bytemuck::cast_slice(values).to_vec()));
    }
}

/// f32 values of raw memory.
pub(crate) fn decode(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f16::to_f32).collect(),
        DType::F32 | DType::U32 => bytemuck::pod_collect_to_vec(bytes),
    }
}

/// Raw memory of f32 values; halves saturate or, for gradients, overflow to infinity as the storage parts do.
pub(crate) fn encode(values: &[f32], dtype: DType, saturate: bool) -> Vec<u8> {
    match dtype {
        DType::F16 => {
            let inside = |&x: &f32| {
                if x.abs() <= 65504.0 {
                    x
                } else if saturate {
                    x.clamp(-65504.0, 65504.0)
                } else {
                    f32::INFINITY.copysign(x)
                }
            };
            let mut halves = vec![f16::ZERO; values.len()];
            // Of a whole slice: eight at a time where the processor can.
            halves.convert_from_f32_slice(&values.iter().map(inside).collect::<Vec<f32>>());
            bytemuck::cast_slice(&halves).to_vec()
        }
        DType::F32 | DType::U32 => bytemuck::cast_slice(values).to_vec(),
    }
}
