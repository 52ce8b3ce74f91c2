//! Batches made ahead by worker threads, delivered in order.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::augment::Augment;
use super::collate::{Collator, Draw};
use super::dataset::Dataset;
use super::order::{Order, Walk};
use super::sample::Batch;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// How often who waits for a batch may do something else.
const MEANWHILE: Duration = Duration::from_millis(2);

/// What a [`Loader`] delivers.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// B, samples per batch.
    pub batch: usize,
    /// S, the image side in pixels.
    pub image_size: usize,
    /// L, token ids per caption.
    pub text_length: usize,
    /// Fixes the order, the captions and the augmentation.
    pub seed: u64,
    /// The first batch to deliver, counted from 0; a resumed run passes the number of batches it has used.
    pub start_step: u64,
    /// Threads that read and decode (at least one is started).
    pub workers: usize,
    /// Off by default.
    pub augment: Augment,
    /// How many batches may wait in memory (at least one).
    pub ahead: usize,
    /// Decoded samples to keep in memory, in bytes.
    pub cache_bytes: usize,
    /// How many different records may be bad before it is an error; `None`: 5 % of the data set, at least 10.
    pub bad_limit: Option<usize>,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            batch: 32,
            image_size: 96,
            text_length: 32,
            seed: 0,
            start_step: 0,
            workers: cores.min(8),
            augment: Augment::default(),
            ahead: 4,
            cache_bytes: 512 << 20,
            bad_limit: None,
        }
    }
}

/// An endless line of batches. Batch `k` is a pure function of the data set, the tokenizer, the seed and `k`, whatever the
/// number of workers and their timing.
///
/// A bad record is replaced by the next good one of the line ([`Order`]), which therefore occurs once more; the positions
/// after it do not move, so that resuming is exact. The bad ones are named in [`Loader::skipped`].
///
/// Dropping the loader stops and joins its threads.
///
/// The last thing a worker does with a batch is up to the caller ([`Loader::with`]): `T` is what comes of it.
pub struct Loader<T = Batch> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    step: u64,
    waited: Duration,
    skipped: Vec<String>,
    seen: HashSet<String>,
    failed: Option<String>,
}

/// What becomes of a batch, on a worker's thread.
type Finish<T> = Box<dyn Fn(Batch) -> T + Send + Sync>;

struct Shared<T> {
    collator: Collator,
    finish: Finish<T>,
    order: Order,
    options: LoaderOptions,
    bad_limit: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// A batch, and the records that were needed in it and could not be used.
type Delivered<T> = Result<(T, Vec<String>), String>;

struct State<T> {
    /// The next batch a worker takes.
    next: u64,
    /// The next batch the consumer gets: workers stay less than `ahead` in front of it.
    wanted: u64,
    ready: BTreeMap<u64, Delivered<T>>,
    stop: bool,
}

impl Loader {
    /// Start the workers.
    ///
    /// # Errors
    /// Options out of range, or no threads to be had.
    pub fn new(dataset: Arc<Dataset>, tokenizer: Arc<Tokenizer>, options: LoaderOptions) -> Result<Self> {
        Self::with(dataset, tokenizer, options, |batch| batch)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// The same, of what `finish` makes of each batch on the thread of a worker.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn with(
        dataset: Arc<Dataset>,
        tokenizer: Arc<Tokenizer>,
        options: LoaderOptions,
        finish: impl Fn(Batch) -> T + Send + Sync + 'static,
    ) -> Result<Self> {
        options.augment.check()?;
        if options.batch == 0 {
            return Err(Error::config("train.batch", "at least 1"));
        }
        let samples = dataset.len();
        let collator = Collator::new(dataset, tokenizer, options.image_size, options.text_length, options.cache_bytes)?;
        let state = State { next: options.start_step, wanted: options.start_step, ready: BTreeMap::new(), stop: false };
        let shared = Arc::new(Shared {
            collator,
            finish: Box::new(finish),
            order: Order::new(options.seed, samples),
            options,
            bad_limit: options.bad_limit.unwrap_or((samples / 20).max(10)),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let mut loader = Self {
            shared,
            threads: Vec::new(),
            step: options.start_step,
            waited: Duration::ZERO,
            skipped: Vec::new(),
            seen: HashSet::new(),
            failed: None,
        };
        for number in 0..options.workers.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new().name(format!("loader {number}")).spawn(move || shared.work());
            // On a failure `loader` is dropped here, which joins those that did start.
            loader
                .threads
                .push(thread.map_err(|e| Error::io("start a thread for", loader.shared.collator.dataset().path(), e))?);
        }
        Ok(loader)
    }

    /// The next batch; blocks until a worker has made it.
    ///
    /// # Errors
    /// More bad records than the limit, or no good one at all: the last is named. Every later call fails alike.
    pub fn next_batch(&mut self) -> Result<T> {
        self.next_batch_while(&mut || {})
    }

    /// [`Loader::next_batch`], with `meanwhile` called every few milliseconds while it blocks.
    ///
    /// # Errors
    /// As [`Loader::next_batch`].
    pub fn next_batch_while(&mut self, meanwhile: &mut dyn FnMut()) -> Result<T> {
        if let Some(reason) = &self.failed {
            return Err(Error::data(self.path(), reason));
        }
        let outcome = self.take(meanwhile).and_then(|(batch, skipped)| self.count(skipped).map(|()| batch));
        self.step += 1;
        outcome.map_err(|reason| {
            self.failed = Some(reason.clone());
            Error::data(self.path(), reason)
        })
    }

    /// The number of the batch that [`Loader::next_batch`] delivers next: what a checkpoint keeps.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The bad records met so far, each once, with file, record and reason.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The time spent waiting for batches: near zero when the data keeps up with the device.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        self.shared.collator.dataset()
    }

    fn path(&self) -> &std::path::Path {
        self.dataset().path()
    }

    fn take(&mut self, meanwhile: &mut dyn FnMut()) -> Delivered<T> {
        let mut state = self.shared.state();
        let start = Instant::now();
        let outcome = loop {
            if let Some(outcome) = state.ready.remove(&self.step) {
                break outcome;
            }
            let waited = self.shared.changed.wait_timeout(state, MEANWHILE).unwrap_or_else(PoisonError::into_inner);
            drop(waited);
            // Without the lock: workers go on.
            meanwhile();
            state = self.shared.state();
        };
        self.waited += start.elapsed();
        state.wanted = self.step + 1;
        drop(state);
        self.shared.changed.notify_all();
        outcome
    }

    /// Count the bad records as the batches come in, not as workers meet them, so that a failure too is at a fixed batch.
    fn count(&mut self, skipped: Vec<String>) -> Result<(), String> {
        for reason in skipped {
            if self.seen.insert(reason.clone()) {
                self.skipped.push(reason);
            }
        }
        match self.skipped.last() {
            Some(last) if self.shared.too_many(self.skipped.len()) => {
                Err(self.shared.refusal(self.skipped.len(), last))
            }
            _ => Ok(()),
        }
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already delivered that as an error.
            let _ = thread.join();
        }
    }
}

impl<T> Shared<T> {
    fn work(&self) {
        let mut walk = self.order.walk();
        let ahead = self.options.ahead.max(1) as u64;
        loop {
            let mut state = self.state();
            while !state.stop && state.next >= state.wanted.saturating_add(ahead) {
                state = self.wait(state);
            }
            if state.stop {
                return;
            }
            let step = state.next;
            state.next += 1;
            drop(state);
            // Whatever happens, the batch must be delivered: a consumer waits for it.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.make(step, &mut walk)))
                .unwrap_or_else(|_| Err(format!("a loader thread failed at batch {step}")));
            self.state().ready.insert(step, outcome);
            self.changed.notify_all();
        }
    }

    fn make(&self, step: u64, walk: &mut Walk) -> Delivered<T> {
        let batch = self.batch(step, walk)?;
        let skipped = batch.skipped.clone();
        Ok(((self.finish)(batch), skipped))
    }

    fn batch(&self, step: u64, walk: &mut Walk) -> Result<Batch, String> {
        let draw = Draw { seed: self.options.seed, augment: self.options.augment };
        let mut batch = Batch::default();
        let mut bad = HashSet::new();
        for position in self.order.positions(step, self.options.batch) {
            // Ends: a walk over every record either finds a good one or meets more bad ones than may be.
            for candidate in position.. {
                let place = walk.at(candidate);
                match self.collator.append(&mut batch, place, Some(draw)) {
                    Ok(()) => break,
                    Err(_) if bad.contains(&place.sample) => {}
                    Err(reason) => {
                        bad.insert(place.sample);
                        if self.too_many(bad.len()) {
                            return Err(self.refusal(bad.len(), &reason));
                        }
                        batch.skipped.push(reason);
                    }
                }
            }
        }
        Ok(batch)
    }

    fn too_many(&self, bad: usize) -> bool {
        bad > self.bad_limit || bad >= self.collator.dataset().len()
    }

    fn refusal(&self, bad: usize, last: &str) -> String {
        let all = self.collator.dataset().len();
        format!("{bad} of {all} records cannot be used (at most {} may be); the last: {last}", self.bad_limit)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // The state is whole between any two statements that hold it, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
