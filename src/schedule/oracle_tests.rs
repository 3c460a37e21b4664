//! Ten thousand random expressions, compared with `croner`: every feature of the service's cron, each alone and mixed.
//!
//! `croner` reads the same grammar once seconds stand in front (`0`) and its Quartz weekdays are on (1 is Sunday). It knows
//! lists, ranges, steps (also `5/10`), names, `L`, `LW`, `15W`, `6L`, `6#3` and years; a lone `L` among the weekdays, which
//! it does not know, is given to it as `7`. Its own rules for days on which clocks change are other than the service's,
//! so that the comparison is one of local times; those days have tables of their own.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::Schedule;

const EXPRESSIONS: usize = 10_000;

/// One item of a list: a number, a range, or one of them with a step.
fn item(first: u16, last: u16) -> impl Strategy<Value = String> {
    let pair = (first..=last, first..=last).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let step = 1..=(last - first + 1).min(40);
    prop_oneof![
        4 => (first..=last).prop_map(|number| number.to_string()),
        2 => pair.clone().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (pair, step.clone()).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
        1 => (first..=last, step.clone()).prop_map(|(from, step)| format!("{from}/{step}")),
        1 => step.prop_map(|step| format!("*/{step}")),
    ]
}

fn field(first: u16, last: u16, stars: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        stars => Just("*".to_owned()),
        6 => vec(item(first, last), 1..4).prop_map(|items| items.join(",")),
    ]
}

fn name(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let last = names.len() - 1;
    prop_oneof![
        2 => select(names).prop_map(str::to_owned),
        1 => (0..=last, 0..=last).prop_map(|(a, b)| format!("{}-{}", names[a.min(b)], names[a.max(b)])),
        1 => vec(select(names), 1..4).prop_map(|some| some.join(",")),
    ]
}

const MONTHS: &[&str] = &[
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Day of month, day of week, and how `croner` writes the latter.
fn days() -> impl Strategy<Value = (String, String, String)> {
    let of_month = prop_oneof![
        6 => field(1, 31, 2),
        2 => (1..=31_u8).prop_map(|day| format!("{day}W")),
        1 => Just("L".to_owned()),
        1 => Just("LW".to_owned()),
    ];
    let of_week = prop_oneof![
        4 => field(1, 7, 1),
        2 => name(DAYS),
        2 => (1..=7_u8).prop_map(|day| format!("{day}L")),
        2 => (1..=7_u8, 1..=5_u8).prop_map(|(day, nth)| format!("{day}#{nth}")),
        1 => (select(DAYS), 1..=5_u8).prop_map(|(day, nth)| format!("{day}#{nth}")),
        1 => Just("L".to_owned()),
    ];
    prop_oneof![
        of_month.prop_map(|day| (day, "?".to_owned(), "*".to_owned())),
        of_week.prop_map(|day| {
            let theirs = if day == "L" {
                "7".to_owned()
            } else {
                day.clone()
            };
            ("?".to_owned(), day, theirs)
        }),
    ]
}

fn year() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("*".to_owned()),
        1 => (2020..=2060_u16).prop_map(|year| year.to_string()),
        1 => (1970..=2100_u16, 0..=99_u16).prop_map(|(year, more)| format!("{year}-{}", year + more)),
        1 => (1970..=2040_u16, 1..=30_u16).prop_map(|(year, step)| format!("{year}/{step}")),
        1 => vec(2020..=2060_u16, 1..4).prop_map(|years| {
            years.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
        }),
    ]
}

#[test]
fn ten_thousand_expressions_agree_with_an_independent_implementation() {
    let expressions = (
        field(0, 59, 1),
        field(0, 23, 2),
        days(),
        prop_oneof![3 => field(1, 12, 3), 1 => name(MONTHS)],
        year(),
        // Minutes since 2024-01-01: ten years.
        0..(10 * 365 * 24 * 60_i64),
    );
    // The same expressions in every run, so that a failure can be repeated.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        .alternative_weekdays(true)
        .sloppy_ranges(true)
        .build();
    let (mut runs, mut ended) = (0, 0);
    for _ in 0..EXPRESSIONS {
        let (minutes, hours, (day, weekday, their_weekday), month, year, start) =
            expressions.new_tree(&mut runner).unwrap().current();
        let ours = format!("cron({minutes} {hours} {day} {month} {weekday} {year})");
        let their_day = if day == "?" { "*" } else { &day };
        let theirs = format!("0 {minutes} {hours} {their_day} {month} {their_weekday} {year}");
        let schedule = Schedule::parse(&ours, None).unwrap();
        let oracle = parser
            .parse(&theirs)
            .unwrap_or_else(|error| panic!("{theirs}: {error}"));
        let mut time = DateTime::constant(2024, 1, 1, 0, 0, 0, 0)
            .checked_add(jiff::Span::new().minutes(start))
            .unwrap();
        for _ in 0..3 {
            let instant = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
            let next = schedule
                .next_after(instant, instant)
                .map(|next| jiff::tz::TimeZone::UTC.to_datetime(next));
            // It searches without end in years where the service's have ended.
            let wanted = oracle
                .find_next_occurrence(&time, false)
                .ok()
                .filter(|next| next.year() <= 2199);
            assert_eq!(next, wanted, "{ours} after {time} (oracle: {theirs})");
            match next {
                Some(next) => {
                    time = next;
                    runs += 1;
                }
                None => {
                    ended += 1;
                    break;
                }
            }
        }
    }
    // The expressions must be ones that say something.
    assert!(runs > 2 * EXPRESSIONS, "only {runs} runs, {ended} ended");
}
