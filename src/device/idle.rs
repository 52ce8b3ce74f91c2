//! How long the device had nothing to do, as far as the host can see.
//!
//! wgpu says that a submission is done when somebody polls, so what ends between two polls counts as busy until the second:
//! the time found here is a lower bound. The recorder polls before each submission, and whoever waits for something else than
//! the device polls meanwhile ([`Context::poll`]).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::context::{Context, Executor, lock};

/// The gaps between the last completion and the next submission, added up.
#[derive(Default)]
pub(super) struct Idle {
    in_flight: u64,
    /// When the device ran out of work.
    since: Option<Instant>,
    total: Duration,
}

impl Idle {
    fn submitted(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.total += now.saturating_duration_since(since);
        }
        self.in_flight += 1;
    }

    fn done(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.since = Some(now);
        }
    }

    /// The gap that is still open included. What lies before the first submission does not count.
    fn until(&self, now: Instant) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Counts the submission that `queue` has just been given, and its end when that is seen.
    pub(super) fn watch(idle: &Arc<Mutex<Self>>, queue: &wgpu::Queue) {
        lock(idle).submitted(Instant::now());
        let idle = Arc::clone(idle);
        queue.on_submitted_work_done(move || lock(&idle).done(Instant::now()));
    }
}

impl Context {
    /// How long the device has had nothing to do since the first submission, a lower bound: see [`Context::poll`]. `None` on
    /// the twins and in a dry run, where there is no device that could wait.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        let Executor::Gpu { recorder, .. } = &self.0.executor else { return None };
        self.poll();
        Some(lock(&lock(recorder).idle).until(Instant::now()))
    }

    /// Notices what the device has done, without waiting. Call it now and then while the thread that submits waits for
    /// something else, so that [`Context::idle`] is told in time.
    pub fn poll(&self) {
        if let Some((device, _)) = self.wgpu() {
            // A device that is lost is reported by whoever uses it next.
            let _ = device.poll(wgpu::PollType::Poll);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_without_work_count() {
        // Events at milliseconds: s is a submission, d the end of one. Idle milliseconds at 100.
        type Events = [(char, u64)];
        let cases: [(&str, &Events, u64); 7] = [
            ("nothing was ever submitted", &[], 0),
            ("one, not done", &[('s', 40)], 0),
            ("one, done", &[('s', 10), ('d', 30)], 70),
            ("one after the other, with a gap", &[('s', 10), ('d', 30), ('s', 35), ('d', 100)], 5),
            ("always one behind", &[('s', 0), ('s', 5), ('d', 20), ('s', 25), ('d', 60)], 0),
            ("three at once, then a gap", &[('s', 0), ('s', 1), ('s', 2), ('d', 9), ('d', 9), ('d', 50), ('s', 58)], 8),
            ("two gaps", &[('s', 0), ('d', 10), ('s', 20), ('d', 30), ('s', 70)], 50),
        ];
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wrong = Vec::new();
        for (what, events, want) in cases {
            let mut idle = Idle::default();
            for (event, ms) in events {
                if *event == 's' { idle.submitted(at(*ms)) } else { idle.done(at(*ms)) }
            }
            let got = idle.until(at(100)).as_millis() as u64;
            if got != want {
                wrong.push(format!("{what}: {got} ms, expected {want}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
