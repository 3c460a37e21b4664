//! When a pipeline runs by itself: the service's `cron(…)` and `rate(…)` expressions in a time zone.
//!
//! Everything here is a pure function of the expression, the zone and an instant. How days on which the clocks change are
//! treated, and why, stands in `docs/design/0006-schedules.md`.

mod cron;
mod error;
mod field;
#[cfg(test)]
mod oracle_tests;
mod rate;
#[cfg(test)]
mod tests;

use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

pub use cron::Cron;
pub use error::ScheduleError;
pub use rate::{Rate, Unit};

use error::At;

/// The zone of a schedule that names none.
pub const DEFAULT_ZONE: &str = "UTC";

/// A schedule: what its expression says, in its time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: String,
    rule: Rule,
    zone: TimeZone,
    zone_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Cron(Cron),
    Rate(Rate),
}

impl Schedule {
    /// Reads an expression, and looks its time zone up by its IANA name (UTC if none is given).
    ///
    /// # Errors
    /// Where the expression is wrong, what stands there and what would have been right; or that there is no such zone.
    pub fn parse(expression: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone_name = zone.unwrap_or(DEFAULT_ZONE);
        Ok(Self {
            rule: Rule::parse(expression)?,
            expression: expression.to_owned(),
            zone: time_zone(zone_name)?,
            zone_name: zone_name.to_owned(),
        })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The IANA name of the time zone.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first run after an instant; `None` if there is none any more. A rate counts its periods from `anchor`; cron has
    /// no use for it.
    pub fn next_after(&self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Rate(rate) => rate.next_after(after, anchor),
            Rule::Cron(cron) => {
                let local = self.zone.to_datetime(after);
                // Local times grow with the instants they stand for as long as of two equal ones only the earlier counts, so
                // the first that lies after `after` is the next one, and none before its own date can be.
                cron.times_from(local.date())
                    .filter_map(|time| self.instant(time))
                    .find(|instant| *instant > after)
            }
        }
    }

    /// The runs after an instant, in order.
    pub fn upcoming(
        &self,
        after: Timestamp,
        anchor: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(after, anchor), move |last| {
            self.next_after(*last, anchor)
        })
    }

    /// The last run at or before an instant and after another; `None` if there was none.
    pub fn last_between(
        &self,
        after: Timestamp,
        until: Timestamp,
        anchor: Timestamp,
    ) -> Option<Timestamp> {
        // A dense schedule shows itself in a short time before the end, and need not be walked from the beginning.
        for hours in [1, 24, 40 * 24, 370 * 24] {
            let Ok(start) = until.checked_sub(SignedDuration::from_hours(hours)) else {
                break;
            };
            if start <= after {
                break;
            }
            let last = self.last_of(start, until, anchor);
            if last.is_some() {
                return last;
            }
        }
        self.last_of(after, until, anchor)
    }

    fn last_of(&self, after: Timestamp, until: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        self.upcoming(after, anchor)
            .take_while(|instant| *instant <= until)
            .last()
    }

    /// The instant of a local time: none if the clocks jump over it, the earlier of two.
    fn instant(&self, local: jiff::civil::DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Gap { .. } => None,
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(local).ok(),
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let whole = At::whole(text);
        let inner = |word: &str| {
            let rest = text.strip_prefix(word)?.strip_prefix('(')?;
            rest.strip_suffix(')')
                .map(|inner| whole.part(word.len() + 1, inner))
        };
        if let Some(inner) = inner("cron") {
            return Cron::parse(inner).map(Self::Cron);
        }
        if let Some(inner) = inner("rate") {
            return Rate::parse(inner).map(Self::Rate);
        }
        let error = whole.error(
            "the expression",
            "cron(minutes hours day-of-month month day-of-week year) or rate(number unit)",
        );
        Err(if text.starts_with("cron(") || text.starts_with("rate(") {
            error.hint("the closing bracket is missing")
        } else if text.split_whitespace().count() == 6 {
            error.hint(format!("put it in brackets: cron({text})"))
        } else if text.starts_with("at(") {
            error.hint("a pipeline has no runs at a single time; start one by hand instead")
        } else {
            error
        })
    }
}

/// The system's time zones come first, since they are updated with it; the ones inside this program serve hosts that have none.
fn time_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let known = |name: &str| {
        jiff::tz::db()
            .get(name)
            .or_else(|_| TimeZoneDatabase::bundled().get(name))
    };
    known(name).map_err(|_| {
        let error = ScheduleError::zone(name);
        let bundled = TimeZoneDatabase::bundled();
        let names: Vec<String> = bundled.available().map(|name| name.to_string()).collect();
        match ovenbird_component::source::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}
