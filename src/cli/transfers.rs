//! How far each destination is: a bar for each on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::printer::Printer;
use crate::distribute::Watcher;

/// How often a log tells of a destination.
const TOLD: Duration = Duration::from_secs(10);

/// Shows bytes, rate and time left of each destination, and what takes place there.
pub struct Transfers {
    printer: Printer,
    bars: Option<MultiProgress>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// A destination that something is sent to.
struct Seen {
    bar: Option<ProgressBar>,
    began: Instant,
    told: Instant,
    /// What was there already when it began says nothing about its speed.
    already: u64,
}

impl Transfers {
    /// Shows nothing but notes with `--json`.
    pub fn new(printer: Printer) -> Self {
        let live = !printer.json && std::io::stderr().is_terminal();
        Self {
            printer,
            bars: live.then(MultiProgress::new),
            seen: Mutex::default(),
        }
    }

    fn bar(&self, destination: &str, bytes: u64) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template(
            "  {prefix:<16} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left",
        ) {
            bar.set_style(style);
        }
        bar.set_prefix(destination.to_owned());
        bar.set_position(bytes);
        bar.reset_eta();
        Some(bar)
    }
}

impl Watcher for Transfers {
    fn sent(&self, destination: &str, bytes: u64, total: u64) {
        let Ok(mut seen) = self.seen.lock() else {
            return;
        };
        let now = Instant::now();
        let one = seen.entry(destination.to_owned()).or_insert_with(|| Seen {
            bar: self.bar(destination, bytes),
            began: now,
            told: now,
            already: bytes,
        });
        if let Some(bar) = &one.bar {
            bar.set_length(total);
            bar.set_position(bytes);
        } else if !self.printer.json && now.duration_since(one.told) >= TOLD {
            one.told = now;
            let fresh = bytes.saturating_sub(one.already);
            let text = line(bytes, total, fresh, now.duration_since(one.began));
            let _ = writeln!(anstream::stderr(), "{destination}: {text}");
        }
    }

    fn note(&self, destination: &str, text: &str) {
        let text = format!("{destination}: {text}");
        let told = self.bars.as_ref().map(|bars| bars.println(&text));
        if told.is_none() {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }
}

/// `120.00 MiB of 400.00 MiB, 12.00 MiB/s, 23 s left`
fn line(bytes: u64, total: u64, fresh: u64, took: Duration) -> String {
    let rate = u128::from(fresh) * 1000 / took.as_millis().max(1);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let left = total.saturating_sub(bytes).checked_div(rate);
    let left = left.map_or_else(String::new, |seconds| format!(", {seconds} s left"));
    format!(
        "{} of {}, {}/s{left}",
        BinaryBytes(bytes),
        BinaryBytes(total),
        BinaryBytes(rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_bytes_rate_and_time_left() {
        let mib = 1 << 20;
        let took = Duration::from_secs(10);
        let fresh = line(120 * mib, 400 * mib, 120 * mib, took);
        insta::assert_snapshot!(fresh, @"120.00 MiB of 400.00 MiB, 12.00 MiB/s, 23 s left");
        let resumed = line(120 * mib, 400 * mib, 20 * mib, took);
        insta::assert_snapshot!(resumed, @"120.00 MiB of 400.00 MiB, 2.00 MiB/s, 140 s left");
        let stuck = line(120 * mib, 400 * mib, 0, took);
        insta::assert_snapshot!(stuck, @"120.00 MiB of 400.00 MiB, 0 B/s");
    }
}
