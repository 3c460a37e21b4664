//! `cron(minutes hours day-of-month month day-of-week year)`.

use jiff::civil::{Date, DateTime, Weekday, date};

use super::error::{At, ScheduleError};
use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOURS, MINUTES, MONTH, YEAR};

/// A cron expression: the local times that it stands for, minute by minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: Vec<i16>,
    hours: Vec<i16>,
    days: Days,
    months: Vec<i16>,
    years: Vec<i16>,
}

/// Which days of a month: by its own numbers or by those of its weeks, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Days {
    /// These numbers.
    OfMonth(Vec<i16>),
    /// `L`: the last.
    Last,
    /// `LW`: the last from Monday to Friday.
    LastWorkday,
    /// `15W`: the one from Monday to Friday that is nearest to this number, within the month.
    Workday(i16),
    /// These weekdays, 1 being Sunday.
    OfWeek(Vec<i16>),
    /// `6L`: the last of this weekday.
    LastOfWeek(i16),
    /// `6#3`: this weekday for the third time.
    NthOfWeek(i16, i16),
}

impl Cron {
    /// Reads what stands between the brackets.
    pub(super) fn parse(at: At<'_>) -> Result<Self, ScheduleError> {
        let fields = at.words();
        let [minutes, hours, day, month, weekday, year] = fields[..] else {
            let error = at.error(
                "the expression",
                "six fields: minutes hours day-of-month month day-of-week year",
            );
            return Err(if fields.len() == 5 {
                error.hint("the year is missing; write `*` as the sixth field")
            } else {
                error
            });
        };
        let days = match (day.text, weekday.text) {
            ("?", "?") => {
                return Err(weekday
                    .error(DAY_OF_WEEK.name, "days, since day-of-month is `?`")
                    .hint("write `*` for every day"));
            }
            ("?", _) => week_days(weekday)?,
            (_, "?") => month_days(day)?,
            _ => {
                return Err(weekday
                    .error(DAY_OF_WEEK.name, "`?`, since day-of-month names days")
                    .hint("exactly one of day-of-month and day-of-week is `?`"));
            }
        };
        Ok(Self {
            minutes: MINUTES.parse(minutes)?,
            hours: HOURS.parse(hours)?,
            days,
            months: MONTH.parse(month)?,
            years: YEAR.parse(year)?,
        })
    }

    /// All local times from a date on, in order.
    pub fn times_from(&self, from: Date) -> impl Iterator<Item = DateTime> + '_ {
        self.dates_from(from).flat_map(move |date| {
            self.hours.iter().flat_map(move |hour| {
                self.minutes.iter().filter_map(move |minute| {
                    let (hour, minute) = (i8::try_from(*hour).ok()?, i8::try_from(*minute).ok()?);
                    Some(date.at(hour, minute, 0, 0))
                })
            })
        })
    }

    fn dates_from(&self, from: Date) -> impl Iterator<Item = Date> + '_ {
        self.years
            .iter()
            .filter(move |year| **year >= from.year())
            .flat_map(move |year| self.months.iter().map(move |month| (*year, *month)))
            .filter_map(|(year, month)| Date::new(year, i8::try_from(month).ok()?, 1).ok())
            .filter(move |first| *first >= from.first_of_month())
            .flat_map(move |first| {
                first
                    .series(jiff::Span::new().days(1))
                    .take_while(move |date| date.month() == first.month())
            })
            .filter(move |date| *date >= from && self.days.has(*date))
    }
}

fn month_days(at: At<'_>) -> Result<Days, ScheduleError> {
    match at.text {
        "L" | "l" => return Ok(Days::Last),
        "LW" | "lw" => return Ok(Days::LastWorkday),
        _ => {}
    }
    if let Some(number) = suffixed(at, 'W') {
        return DAY_OF_MONTH.number(number).map(Days::Workday);
    }
    plain(&DAY_OF_MONTH, at, "`L`, `LW` and `15W` stand alone").map(Days::OfMonth)
}

fn week_days(at: At<'_>) -> Result<Days, ScheduleError> {
    // In the service's week, which ends with Saturday, `L` alone is its last day.
    if at.text.eq_ignore_ascii_case("L") {
        return Ok(Days::OfWeek(vec![DAY_OF_WEEK.last]));
    }
    if let Some(day) = suffixed(at, 'L') {
        return DAY_OF_WEEK.number(day).map(Days::LastOfWeek);
    }
    if let Some((day, nth)) = at.split_once('#')
        && !at.text.contains(',')
    {
        let nth_number = super::field::digits(nth.text)
            .filter(|number| (1..=5).contains(number))
            .ok_or_else(|| nth.error("the number after `#`", "1 to 5"))?;
        return Ok(Days::NthOfWeek(DAY_OF_WEEK.number(day)?, nth_number));
    }
    plain(&DAY_OF_WEEK, at, "`6L` and `6#3` stand alone").map(Days::OfWeek)
}

/// What stands before a letter that ends the field.
fn suffixed(at: At<'_>, letter: char) -> Option<At<'_>> {
    let stem = at
        .text
        .strip_suffix([letter, letter.to_ascii_lowercase()])?;
    (!stem.is_empty() && !stem.contains([',', '-', '/'])).then(|| at.part(0, stem))
}

/// Numbers, names, ranges and steps; the special letters are told apart only to say why they don't fit.
fn plain(field: &Field, at: At<'_>, alone: &str) -> Result<Vec<i16>, ScheduleError> {
    field.parse(at).map_err(|error| {
        let special = |c: char| matches!(c, 'L' | 'W' | '#' | 'l' | 'w');
        let is_name = field
            .names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&error.got));
        if error.hint.is_some() || is_name || !error.got.contains(special) {
            return error;
        }
        if at.text.starts_with(['L', 'l']) && at.text.contains('-') {
            return error.hint("there is no counting back from the last day; name the days");
        }
        error.hint(format!("{alone}, without lists, ranges and steps"))
    })
}

impl Days {
    fn has(&self, date: Date) -> bool {
        let day = i16::from(date.day());
        let length = i16::from(date.days_in_month());
        let weekday = i16::from(date.weekday().to_sunday_one_offset());
        match self {
            Self::OfMonth(days) => days.binary_search(&day).is_ok(),
            Self::Last => day == length,
            Self::LastWorkday => Some(date) == nearest_workday(date, length),
            Self::Workday(wanted) => Some(date) == nearest_workday(date, *wanted),
            Self::OfWeek(days) => days.binary_search(&weekday).is_ok(),
            Self::LastOfWeek(wanted) => weekday == *wanted && day + 7 > length,
            Self::NthOfWeek(wanted, nth) => weekday == *wanted && (day - 1) / 7 + 1 == *nth,
        }
    }
}

/// The day from Monday to Friday that is nearest to a day of the same month; none if the month has no such day.
fn nearest_workday(of: Date, wanted: i16) -> Option<Date> {
    let wanted = i8::try_from(wanted).ok()?;
    let near = Date::new(of.year(), of.month(), wanted).ok()?;
    let shift = match near.weekday() {
        Weekday::Saturday if wanted == 1 => 2,
        Weekday::Saturday => -1,
        Weekday::Sunday if wanted == near.days_in_month() => -2,
        Weekday::Sunday => 1,
        _ => 0,
    };
    Some(date(of.year(), of.month(), wanted + shift))
}
