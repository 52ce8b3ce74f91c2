//! Progress of training on stderr: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Common, log};
use crate::train::monitor::{Event, Log};

/// Shows what a run tells.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// A bar when stderr is a terminal, nothing at all with `--quiet`.
    pub fn new(common: &Common) -> Self {
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}");
        let bar = (!common.quiet && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, quiet: common.quiet }
    }

    /// Takes one event of a run.
    pub fn tell(&self, event: Event<'_>) {
        match (event, &self.bar) {
            (Event::Step { step, stop }, Some(bar)) => {
                bar.set_length(stop);
                bar.set_position(step);
            }
            (Event::Log(seen), Some(bar)) => bar.set_message(line(seen)),
            (Event::Note(text), Some(bar)) => bar.suspend(|| log(text)),
            (Event::Log(seen), None) if !self.quiet => {
                log(format_args!("step {}/{}  {}", seen.step, seen.stop, line(seen)))
            }
            (Event::Note(text), None) if !self.quiet => log(text),
            _ => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn line(seen: &Log) -> String {
    let l = &seen.losses;
    let skipped = match seen.skipped_steps {
        0 => String::new(),
        n => format!("  {n} steps skipped"),
    };
    let device = seen.device_waited.map_or_else(String::new, |share| format!("  device waited {:.0} %", 100.0 * share));
    format!(
        "loss {:.4} (image {:.4} text {:.4} jepa {:.4} align {:.4})  {:.1} samples/s  {} left  waiting for data {:.0} %{device}{skipped}",
        l.total,
        l.recon_image,
        l.recon_text,
        l.jepa,
        l.align,
        seen.samples_per_second,
        duration(seen.seconds_left),
        100.0 * seen.waiting,
    )
}

/// `45 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    // `as u64` takes NaN and negative numbers to 0.
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations() {
        let cases = [
            (0.2, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7800.0, "2 h 10 min"),
            (f64::NAN, "0 s"),
        ];
        let failed: Vec<_> =
            cases.iter().map(|(s, want)| (want, duration(*s))).filter(|(want, got)| *want != got).collect();
        assert!(failed.is_empty(), "(want, got): {failed:?}");
    }
}
