//! Choices measured on a device: a small map that kernels with variants ask before they choose by rule.
//!
//! The device layer does not know what a class or a choice means; the kernel that asks does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::context::{Context, lock};

/// Class of work -> name of the variant to take, both in the words of the kernel; for products those of `matmul_plan`. Empty:
/// everything by rule.
pub type Tuning = BTreeMap<String, String>;

/// The choices of a context. An empty map costs a launch one relaxed load.
#[derive(Default)]
pub(super) struct Tuned {
    any: AtomicBool,
    choices: Mutex<Arc<Tuning>>,
    /// Classes that launches have asked for.
    asked: Mutex<BTreeSet<String>>,
}

impl Context {
    /// The choices in effect.
    #[must_use]
    pub fn tuning(&self) -> Arc<Tuning> {
        Arc::clone(&lock(&self.0.tuned.choices))
    }

    /// Replaces the choices, for launches from now on. A recorded step keeps those that it was recorded with: set them before
    /// training.
    pub fn set_tuning(&self, choices: Tuning) {
        let tuned = &self.0.tuned;
        tuned.any.store(!choices.is_empty(), Ordering::Relaxed);
        *lock(&tuned.choices) = Arc::new(choices);
        lock(&tuned.asked).clear();
    }

    /// Of how many classes that launches have asked for there is a choice, and how many they were, since the choices were set.
    #[must_use]
    pub fn tuning_met(&self) -> (usize, usize) {
        let (choices, asked) = (self.tuning(), lock(&self.0.tuned.asked));
        (asked.iter().filter(|class| choices.contains_key(*class)).count(), asked.len())
    }

    /// The choice for a class; `class` is only called where there are choices.
    pub(crate) fn tuned(&self, class: impl FnOnce() -> String) -> Option<String> {
        let tuned = &self.0.tuned;
        if !tuned.any.load(Ordering::Relaxed) {
            return None;
        }
        let class = class();
        let choice = lock(&tuned.choices).get(&class).cloned();
        lock(&tuned.asked).insert(class);
        choice
    }
}
