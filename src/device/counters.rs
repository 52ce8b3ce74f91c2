//! What a context has done so far.

use std::collections::BTreeMap;
use std::time::Duration;

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
    /// How long the host has waited for the device, for room in its queue or for results.
    pub waited: Duration,
}

impl Counters {
    /// What has been added since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let kernels = self.kernels.iter().filter_map(|(name, now)| {
            let then = before.kernels.get(name).copied().unwrap_or_default();
            (now.0 > then.0).then(|| (*name, (now.0 - then.0, now.1 - then.1, now.2 - then.2)))
        });
        Self {
            launches: self.launches - before.launches,
            flops: self.flops - before.flops,
            bytes: self.bytes - before.bytes,
            kernels: kernels.collect(),
            largest_binding: self.largest_binding,
            // Kept by the recorder, which waits again when a recording is replayed.
            waited: Duration::ZERO,
        }
    }

    /// One launch.
    pub(super) fn count(&mut self, launch: &Launch<'_>) {
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

    pub(super) fn add(&mut self, other: &Self) {
        self.launches += other.launches;
        self.flops += other.flops;
        self.bytes += other.bytes;
        for (name, more) in &other.kernels {
            let kernel = self.kernels.entry(name).or_default();
            *kernel = (kernel.0 + more.0, kernel.1 + more.1, kernel.2 + more.2);
        }
    }
}
