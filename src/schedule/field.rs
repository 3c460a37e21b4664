//! One field of a cron expression: a list of numbers, names, ranges and steps.

use super::error::{At, ScheduleError};

/// What a field may hold.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in messages.
    pub(super) name: &'static str,
    /// Its smallest number.
    pub(super) first: i16,
    /// Its largest number.
    pub(super) last: i16,
    /// Names of its numbers, from the smallest on.
    pub(super) names: &'static [&'static str],
}

pub(super) static MINUTES: Field = Field::numbers("minutes", 0, 59);
pub(super) static HOURS: Field = Field::numbers("hours", 0, 23);
pub(super) static DAY_OF_MONTH: Field = Field::numbers("day-of-month", 1, 31);
pub(super) static MONTH: Field = Field {
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
    ..Field::numbers("month", 1, 12)
};
pub(super) static DAY_OF_WEEK: Field = Field {
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    ..Field::numbers("day-of-week", 1, 7)
};
pub(super) static YEAR: Field = Field::numbers("year", 1970, 2199);

impl Field {
    const fn numbers(name: &'static str, first: i16, last: i16) -> Self {
        Self {
            name,
            first,
            last,
            names: &[],
        }
    }

    /// All numbers that a field's text stands for, in order.
    pub(super) fn parse(&self, at: At<'_>) -> Result<Vec<i16>, ScheduleError> {
        let mut numbers = Vec::new();
        for item in at.split(|c| c == ',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => (range, Some(self.step(step)?)),
            };
            let (first, last) = if range.text == "*" {
                (self.first, self.last)
            } else if let Some((first, last)) = range.split_once('-') {
                (self.number(first)?, self.number(last)?)
            } else {
                let first = self.number(range)?;
                // `5/10` means: from 5 on, every 10.
                (first, if step.is_some() { self.last } else { first })
            };
            if first > last {
                return Err(range
                    .error(
                        self.name,
                        "a range whose first number is not above its last",
                    )
                    .hint(format!(
                        "to go past the end write {},{}",
                        span(first, self.last),
                        span(self.first, last)
                    )));
            }
            numbers.extend((first..=last).step_by(step.unwrap_or(1)));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// A single number or name.
    pub(super) fn number(&self, at: At<'_>) -> Result<i16, ScheduleError> {
        let by_name = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(at.text))
            .and_then(|index| i16::try_from(index).ok())
            .map(|index| self.first + index);
        let number = by_name.or_else(|| digits(at.text));
        number
            .filter(|number| (self.first..=self.last).contains(number))
            .ok_or_else(|| self.unreadable(at))
    }

    fn step(&self, at: At<'_>) -> Result<usize, ScheduleError> {
        digits(at.text)
            .and_then(|step| usize::try_from(step).ok())
            .filter(|step| *step > 0)
            .ok_or_else(|| {
                at.error(
                    format!("the step of {}", self.name),
                    "a whole number from 1",
                )
            })
    }

    fn unreadable(&self, at: At<'_>) -> ScheduleError {
        let (first, last) = (self.first, self.last);
        let expected = match (self.names.first(), self.names.last()) {
            (Some(from), Some(to)) => format!("{first} to {last} or {from} to {to}"),
            _ => format!("{first} to {last}"),
        };
        let error = at.error(self.name, expected);
        let near = ovenbird_component::source::nearest(
            &at.text.to_ascii_uppercase(),
            self.names.iter().copied(),
        );
        match (at.text, near) {
            ("0", _) if self.name == DAY_OF_WEEK.name => {
                error.hint("days of the week count from 1, which is Sunday")
            }
            ("?", _) => error.hint("`?` belongs to day-of-month or day-of-week; write `*` here"),
            (_, Some(near)) => error.hint(format!("did you mean `{near}`?")),
            _ => error,
        }
    }
}

/// A range as it is written.
fn span(first: i16, last: i16) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

/// Plain digits, without a sign.
pub(super) fn digits(text: &str) -> Option<i16> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}
