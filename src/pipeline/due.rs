//! Whether a pipeline's time has come.

use std::time::Duration;

use jiff::Timestamp;

use crate::schedule::Schedule;
use crate::store::{PipelineState, StartedBy};

/// How somebody looks at the schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// All the time: what is seen late was missed, because nobody was there.
    Steady,
    /// Now and then, called by another timer: the last time that passed since then is due.
    Called,
}

/// What is to be done about a pipeline now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this time; never if there is none.
    Later(Option<Timestamp>),
    /// To run for this time.
    Now {
        /// The time of the schedule.
        due: Timestamp,
        /// Whether it is in time.
        started_by: StartedBy,
    },
    /// This time was missed and is not made up for.
    Missed(Timestamp),
}

/// A steady watcher looks every few seconds; one that is later than this was not there.
pub const TOLERANCE: Duration = Duration::from_secs(120);

/// Looks at a schedule. Of several times that passed only the last counts: a build makes up for all of them.
pub fn look(
    schedule: &Schedule,
    state: &PipelineState,
    catch_up: bool,
    watch: Watch,
    now: Timestamp,
) -> Due {
    let Some(due) = schedule.last_between(state.checked, now, state.anchor) else {
        return Due::Later(schedule.next_after(now, state.anchor));
    };
    let late = now.duration_since(due).unsigned_abs();
    if late <= TOLERANCE || watch == Watch::Called {
        return Due::Now {
            due,
            started_by: StartedBy::Schedule,
        };
    }
    if catch_up {
        return Due::Now {
            due,
            started_by: StartedBy::CatchUp,
        };
    }
    Due::Missed(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn state(checked: &str) -> PipelineState {
        PipelineState {
            status: None,
            reason: None,
            failures: 0,
            anchor: at("2026-01-01T00:00:00Z"),
            checked: at(checked),
        }
    }

    fn nightly(checked: &str, catch_up: bool, watch: Watch, now: &str) -> Due {
        let schedule = Schedule::parse("cron(0 2 * * ? *)", None).unwrap();
        look(&schedule, &state(checked), catch_up, watch, at(now))
    }

    const fn run(due: Timestamp, started_by: StartedBy) -> Due {
        Due::Now { due, started_by }
    }

    #[test]
    fn in_time() {
        let checked = "2026-03-01T01:59:55Z";
        let two = at("2026-03-01T02:00:00Z");
        for (now, wanted) in [
            ("2026-03-01T01:59:59Z", Due::Later(Some(two))),
            ("2026-03-01T02:00:00Z", run(two, StartedBy::Schedule)),
            ("2026-03-01T02:02:00Z", run(two, StartedBy::Schedule)),
            ("2026-03-01T02:02:01Z", Due::Missed(two)),
        ] {
            assert_eq!(nightly(checked, false, Watch::Steady, now), wanted, "{now}");
        }
        // What has been looked at is not due again.
        assert_eq!(
            nightly(
                "2026-03-01T02:00:00Z",
                false,
                Watch::Steady,
                "2026-03-01T02:00:05Z"
            ),
            Due::Later(Some(at("2026-03-02T02:00:00Z")))
        );
    }

    #[test]
    fn a_machine_that_slept_for_days_makes_up_for_it_once() {
        let (checked, now) = ("2026-03-01T12:00:00Z", "2026-03-05T08:30:00Z");
        let last = at("2026-03-05T02:00:00Z");
        assert_eq!(
            nightly(checked, false, Watch::Steady, now),
            Due::Missed(last)
        );
        assert_eq!(
            nightly(checked, true, Watch::Steady, now),
            run(last, StartedBy::CatchUp)
        );
        assert_eq!(
            nightly(checked, false, Watch::Called, now),
            run(last, StartedBy::Schedule)
        );
    }

    #[test]
    fn a_short_rhythm_over_a_long_time_is_looked_at_quickly() {
        // Every minute of 25 years: 13 million times, of which only the last counts.
        let schedule = Schedule::parse("cron(* * * * ? *)", Some("Europe/Berlin")).unwrap();
        assert_eq!(
            look(
                &schedule,
                &state("2001-01-01T00:00:00Z"),
                true,
                Watch::Steady,
                at("2026-03-05T08:30:30Z")
            ),
            run(at("2026-03-05T08:30:00Z"), StartedBy::Schedule)
        );
        let rate = Schedule::parse("rate(1 minute)", None).unwrap();
        assert_eq!(
            look(
                &rate,
                &state("2001-01-01T00:00:00Z"),
                true,
                Watch::Steady,
                at("2026-03-05T08:30:30Z")
            ),
            run(at("2026-03-05T08:30:00Z"), StartedBy::Schedule)
        );
    }

    #[test]
    fn a_schedule_that_has_ended() {
        let schedule = Schedule::parse("cron(0 0 1 1 ? 2020)", None).unwrap();
        assert_eq!(
            look(
                &schedule,
                &state("2026-01-01T00:00:00Z"),
                true,
                Watch::Called,
                at("2026-03-05T08:30:30Z")
            ),
            Due::Later(None)
        );
    }
}
