//! Where the time of recorded work goes: every launch in a pass of its own, between two timestamps, or submitted and
//! waited for alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::{Context, Executor, lock};
use super::timing::between;
use crate::error::{Error, Result};

/// Queries in one set: the most that every driver allows.
const MOST_QUERIES: u32 = 4096;

/// One launch and the time the device spent on it.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchTime {
    /// Kernel, and what chose its variant: overrides, epilogue, storage.
    pub kernel: &'static str,
    /// Overrides and parts in words.
    pub variant: String,
    /// Workgroups.
    pub groups: u64,
    /// Arithmetic, as the kernel states it.
    pub flops: f64,
    /// Bytes moved at least.
    pub bytes: u64,
    /// Of these, bytes of the tensors that it writes.
    pub written: u64,
    /// Between the two timestamps, or by the wall from the launch to an idle device.
    pub time: Duration,
}

/// Launches of one kernel, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelTime {
    /// How many.
    pub launches: u64,
    /// Arithmetic.
    pub flops: f64,
    /// Bytes moved at least.
    pub bytes: u64,
    /// Time on the device.
    pub time: Duration,
}

impl Context {
    /// Runs `f` with every launch timed on its own, in order. Passes of their own and the timestamps cost some time too: the
    /// sum is an upper bound, the shares are what to read. Without timestamps every launch is submitted and waited for alone,
    /// and its time is that of the wall, a submission included.
    ///
    /// # Errors
    /// [`Error::Check`] on the twins, which are no device, else what `f` or the device reports.
    pub fn profiled<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Vec<LaunchTime>)> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return Err(no_device()) };
        self.wait()?;
        let by_wall = !self.0.capabilities.timestamps;
        lock(recorder).profile = Some(Profile { by_wall, ..Profile::default() });
        let result = f();
        self.wait()?;
        let profile = lock(recorder).profile.take().unwrap_or_default();
        let times = lock(recorder).read_profile(profile)?;
        Ok((result?, times))
    }
}

fn no_device() -> Error {
    Error::Check {
        what: "profiling".into(),
        detail: "the CPU twins are no device, and what their launches take says nothing of one".into(),
    }
}

/// Times by kernel.
#[must_use]
pub fn by_kernel(times: &[LaunchTime]) -> BTreeMap<&'static str, KernelTime> {
    let mut all = BTreeMap::<_, KernelTime>::new();
    for launch in times {
        let sum = all.entry(launch.kernel).or_default();
        sum.launches += 1;
        sum.flops += launch.flops;
        sum.bytes += launch.bytes;
        sum.time += launch.time;
    }
    all
}

/// Launches recorded so far, and the query sets that their passes write.
#[derive(Default)]
pub(super) struct Profile {
    launches: Vec<LaunchTime>,
    sets: Vec<wgpu::QuerySet>,
    by_wall: bool,
}

impl Profile {
    /// Whether the host times the launches, for want of timestamps.
    pub(super) const fn by_wall(&self) -> bool {
        self.by_wall
    }

    /// A launch whose time will follow.
    pub(super) fn launch(&mut self, launch: LaunchTime) {
        self.launches.push(launch);
    }

    /// The time of the last launch.
    pub(super) fn took(&mut self, time: Duration) {
        if let Some(last) = self.launches.last_mut() {
            last.time = time;
        }
    }

    /// The launches as they are.
    pub(super) fn launches(self) -> Vec<LaunchTime> {
        self.launches
    }

    /// The timestamps of the next pass.
    pub(super) fn next(&mut self, device: &wgpu::Device, launch: LaunchTime) -> (wgpu::QuerySet, u32) {
        let first = 2 * self.launches.len() as u32 % MOST_QUERIES;
        if first == 0 {
            self.sets.push(device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: MOST_QUERIES,
            }));
        }
        self.launches.push(launch);
        (self.sets[self.sets.len() - 1].clone(), first)
    }

    pub(super) fn sets(&self) -> &[wgpu::QuerySet] {
        &self.sets
    }

    /// Queries that were written of set `index`.
    pub(super) fn written(&self, index: usize) -> u32 {
        let all = 2 * self.launches.len() - index * MOST_QUERIES as usize;
        (all as u32).min(MOST_QUERIES)
    }

    /// The launches with the times between their ticks.
    pub(super) fn finish(mut self, ticks: &[u64], period: f32) -> Vec<LaunchTime> {
        for (launch, pair) in self.launches.iter_mut().zip(ticks.chunks_exact(2)) {
            launch.time = between(pair, period).unwrap_or_default();
        }
        self.launches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_by_kernel() {
        let launch = |kernel, bytes, ms| LaunchTime {
            kernel,
            variant: String::new(),
            groups: 1,
            flops: 2.0,
            bytes,
            written: 0,
            time: Duration::from_millis(ms),
        };
        let all = by_kernel(&[launch("a", 3, 1), launch("b", 4, 2), launch("a", 5, 4)]);
        let a = KernelTime { launches: 2, flops: 4.0, bytes: 8, time: Duration::from_millis(5) };
        assert_eq!((all.len(), &all["a"]), (2, &a));
    }
}
