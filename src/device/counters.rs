//! What launches cost, added up.

use std::collections::BTreeMap;

use super::launch::Launch;

/// Counts since the context was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Kernel launches.
    pub launches: u64,
    /// Arithmetic operations, as the kernels state them.
    pub flops: f64,
    /// Bytes that the launches move at least.
    pub bytes: f64,
    /// The same per kernel: launches, operations, bytes.
    pub kernels: BTreeMap<&'static str, (u64, f64, f64)>,
    /// Bytes of the largest tensor bound, and the kernel that bound it.
    pub largest_binding: (u64, &'static str),
}

impl Counters {
    pub(super) fn add(&mut self, launch: &Launch<'_>) {
        let bytes = launch.bytes() as f64;
        self.launches += 1;
        self.flops += launch.flops;
        self.bytes += bytes;
        let kernel = self.kernels.entry(launch.kernel.name).or_default();
        *kernel = (kernel.0 + 1, kernel.1 + launch.flops, kernel.2 + bytes);
        let largest = launch.tensors.iter().map(|t| t.bytes()).max().unwrap_or_default();
        if largest > self.largest_binding.0 {
            self.largest_binding = (largest, launch.kernel.name);
        }
    }
}
