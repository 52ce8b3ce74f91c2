//! The buffer pool: size classes, last returned first reused, so that the same step takes the same buffers again.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::view::Backing;

/// What the pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Bytes taken from the device, in use or waiting.
    pub reserved: u64,
    /// Bytes in use now.
    pub in_use: u64,
    /// Most bytes in use at once.
    pub peak: u64,
    /// Bytes of the largest buffer ever taken.
    pub largest: u64,
}

/// A free buffer taken out of the pool's hands by a recording.
pub(super) struct Withheld {
    id: u64,
    pub(super) class: u64,
    backing: Backing,
}

#[derive(Default)]
struct State {
    free: BTreeMap<u64, Vec<(u64, Backing)>>,
    stats: PoolStats,
}

#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    next_id: AtomicU64,
}

impl Pool {
    /// The size class of a request: a multiple of 256 bytes up to 4 KiB, then eight classes to each doubling
    /// (at most 12.5 % more than asked).
    pub(super) fn class(bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (bytes.next_power_of_two() / 16).max(256);
        bytes.next_multiple_of(step)
    }

    /// A free buffer of `class`, or a new one from `create`.
    pub(super) fn take(
        &self,
        class: u64,
        create: impl FnOnce(PoolStats) -> crate::Result<Backing>,
    ) -> crate::Result<(u64, Backing)> {
        let (reused, stats) = {
            let mut state = self.lock();
            (state.free.get_mut(&class).and_then(Vec::pop), state.stats)
        };
        let (id, backing) = match reused {
            Some(pair) => pair,
            None => {
                let backing = create(stats)?;
                self.lock().stats.reserved += class;
                (self.next_id.fetch_add(1, Ordering::Relaxed), backing)
            }
        };
        let stats = &mut self.lock().stats;
        stats.in_use += class;
        stats.peak = stats.peak.max(stats.in_use);
        stats.largest = stats.largest.max(class);
        Ok((id, backing))
    }

    pub(super) fn give_back(&self, id: u64, class: u64, backing: Backing) {
        let mut state = self.lock();
        state.stats.in_use -= class;
        state.free.entry(class).or_default().push((id, backing));
    }

    /// Takes the waiting buffers with these ids out, so that nobody is given them. They stay reserved.
    pub(super) fn withhold(&self, ids: &HashSet<u64>) -> Vec<Withheld> {
        let mut out = Vec::new();
        for (class, list) in &mut self.lock().free {
            let (taken, left) = std::mem::take(list).into_iter().partition(|(id, _)| ids.contains(id));
            *list = left;
            let taken: Vec<(u64, Backing)> = taken;
            out.extend(taken.into_iter().map(|(id, backing)| Withheld { id, class: *class, backing }));
        }
        out
    }

    /// Puts withheld buffers back among the waiting ones.
    pub(super) fn restore(&self, withheld: Vec<Withheld>) {
        let mut state = self.lock();
        for Withheld { id, class, backing } in withheld {
            state.free.entry(class).or_default().push((id, backing));
        }
    }

    /// Frees every waiting buffer.
    pub(super) fn trim(&self) {
        let mut state = self.lock();
        let freed: u64 = state.free.iter().map(|(class, list)| class * list.len() as u64).sum();
        state.stats.reserved -= freed;
        let dropped = std::mem::take(&mut state.free);
        drop(state);
        drop(dropped);
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.lock().stats
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for bytes in (1..100_000u64).chain([1 << 20, (1 << 20) + 1, (1 << 31) - 5]) {
            let class = Pool::class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256), "{bytes} -> {class}");
            assert!(bytes < 4096 || class <= bytes + bytes / 8, "{bytes} -> {class}");
        }
    }

    #[test]
    fn buffers_come_back_last_first() {
        let pool = Pool::default();
        let none = |_| Ok(Backing::None);
        let (a, _) = pool.take(256, none).unwrap();
        let (b, _) = pool.take(256, none).unwrap();
        pool.give_back(a, 256, Backing::None);
        pool.give_back(b, 256, Backing::None);
        assert_eq!(pool.take(256, none).unwrap().0, b);
        assert_eq!(pool.stats(), PoolStats { reserved: 512, in_use: 256, peak: 512, largest: 256 });
    }
}
