//! `rate(5 minutes)`: a period without a calendar.

use jiff::{SignedDuration, Timestamp};

use super::error::{At, ScheduleError};

/// How often a rate comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    number: u32,
    unit: Unit,
}

/// The unit of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours, also on days when the clocks change.
    Day,
}

impl Unit {
    const ALL: [(&'static str, &'static str, Self); 3] = [
        ("minute", "minutes", Self::Minute),
        ("hour", "hours", Self::Hour),
        ("day", "days", Self::Day),
    ];

    const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        }
    }
}

impl Rate {
    pub(super) fn parse(at: At<'_>) -> Result<Self, ScheduleError> {
        let words = at.words();
        let [number, unit] = words[..] else {
            return Err(at.error("the rate", "a number and a unit, such as `5 minutes`"));
        };
        let count = Some(number.text)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u32>().ok())
            .filter(|count| *count > 0)
            .ok_or_else(|| number.error("the number", "a whole number from 1"))?;
        let known = Unit::ALL
            .into_iter()
            .find(|(one, many, _)| unit.text == *one || unit.text == *many);
        let Some((one, many, found)) = known else {
            let error = unit.error("the unit", "minute, minutes, hour, hours, day or days");
            return Err(if unit.text.starts_with("week") {
                error.hint(format!("write {} days", u64::from(count) * 7))
            } else {
                error
            });
        };
        let right = if count == 1 { one } else { many };
        if unit.text != right {
            return Err(unit
                .error("the unit", format!("`{right}` after {count}"))
                .hint("the service wants the singular with 1 and the plural with all others"));
        }
        Ok(Self {
            number: count,
            unit: found,
        })
    }

    /// The time between two runs.
    pub fn period(self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.number) * self.unit.seconds())
    }

    /// The first run after an instant: whole periods after `anchor`, the first of them one period after it.
    pub(super) fn next_after(self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let period = self.period().as_secs();
        let passed = after.duration_since(anchor).as_secs().max(0) / period;
        let seconds = period.checked_mul(passed.checked_add(1)?)?;
        anchor.checked_add(SignedDuration::from_secs(seconds)).ok()
    }
}
