use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(fields: &str, zone: &str) -> Schedule {
    Schedule::parse(&format!("cron({fields})"), Some(zone)).unwrap()
}

/// The next runs, as local times with their offsets.
fn runs(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    schedule
        .upcoming(at(after), at(after))
        .take(count)
        .map(|instant| {
            instant
                .to_zoned(schedule.zone().clone())
                .strftime("%Y-%m-%d %H:%M %:z")
                .to_string()
        })
        .collect()
}

#[track_caller]
fn check(fields: &str, zone: &str, after: &str, wanted: &[&str]) {
    assert_eq!(
        runs(&cron(fields, zone), after, wanted.len()),
        wanted,
        "cron({fields}) in {zone} after {after}"
    );
}

/// … for UTC, without the offset.
#[track_caller]
fn check_utc(fields: &str, after: &str, wanted: &[&str]) {
    let wanted: Vec<String> = wanted.iter().map(|time| format!("{time} +00:00")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    check(fields, "UTC", after, &wanted);
}

#[test]
fn each_feature_of_cron() {
    let january = "2026-01-01T00:00:00Z";
    // Lists, ranges and steps.
    check_utc(
        "0,30 6 * * ? *",
        january,
        &["2026-01-01 06:00", "2026-01-01 06:30", "2026-01-02 06:00"],
    );
    check_utc(
        "0 9-11 * * ? *",
        january,
        &[
            "2026-01-01 09:00",
            "2026-01-01 10:00",
            "2026-01-01 11:00",
            "2026-01-02 09:00",
        ],
    );
    check_utc(
        "*/20 * * * ? *",
        january,
        &["2026-01-01 00:20", "2026-01-01 00:40", "2026-01-01 01:00"],
    );
    check_utc(
        "5/25 0 * * ? *",
        january,
        &[
            "2026-01-01 00:05",
            "2026-01-01 00:30",
            "2026-01-01 00:55",
            "2026-01-02 00:05",
        ],
    );
    check_utc(
        "10-30/10 0,12 * * ? *",
        january,
        &[
            "2026-01-01 00:10",
            "2026-01-01 00:20",
            "2026-01-01 00:30",
            "2026-01-01 12:10",
        ],
    );
    // Months by number and name, in any case.
    check_utc(
        "0 0 1 4,OCT ? *",
        january,
        &["2026-04-01 00:00", "2026-10-01 00:00", "2027-04-01 00:00"],
    );
    check_utc(
        "0 0 31 jan-MAR ? *",
        january,
        &["2026-01-31 00:00", "2026-03-31 00:00", "2027-01-31 00:00"],
    );
    // Weekdays: 1 is Sunday. 2026-01-01 is a Thursday.
    check_utc(
        "0 0 ? * 1 *",
        january,
        &["2026-01-04 00:00", "2026-01-11 00:00"],
    );
    check_utc(
        "0 0 ? * MON-WED,7 *",
        january,
        &[
            "2026-01-03 00:00",
            "2026-01-05 00:00",
            "2026-01-06 00:00",
            "2026-01-07 00:00",
            "2026-01-10 00:00",
        ],
    );
    check_utc(
        "0 0 ? * 2/2 *",
        january,
        &["2026-01-02 00:00", "2026-01-05 00:00", "2026-01-07 00:00"],
    );
    check_utc(
        "0 0 ? * * *",
        january,
        &["2026-01-02 00:00", "2026-01-03 00:00"],
    );
    // Years.
    check_utc("0 0 1 1 ? 2028", january, &["2028-01-01 00:00"]);
    check_utc(
        "0 0 1 1 ? 2030/50",
        january,
        &[
            "2030-01-01 00:00",
            "2080-01-01 00:00",
            "2130-01-01 00:00",
            "2180-01-01 00:00",
        ],
    );
    check_utc(
        "0 0 1 1 ? 2027-2028,2031",
        january,
        &["2027-01-01 00:00", "2028-01-01 00:00", "2031-01-01 00:00"],
    );
    // 29 February; 2100 is no leap year.
    check_utc(
        "0 0 29 2 ? *",
        "2092-01-01T00:00:00Z",
        &["2092-02-29 00:00", "2096-02-29 00:00", "2104-02-29 00:00"],
    );
}

#[test]
fn the_special_letters() {
    let january = "2026-01-01T00:00:00Z";
    // L: the last day of the month, also in February.
    check_utc(
        "0 0 L * ? *",
        january,
        &["2026-01-31 00:00", "2026-02-28 00:00", "2026-03-31 00:00"],
    );
    check_utc("0 0 L 2 ? *", "2028-01-01T00:00:00Z", &["2028-02-29 00:00"]);
    // LW: 2026-01-31 is a Saturday, 2026-05-31 a Sunday.
    check_utc(
        "0 0 LW * ? *",
        january,
        &[
            "2026-01-30 00:00",
            "2026-02-27 00:00",
            "2026-03-31 00:00",
            "2026-04-30 00:00",
            "2026-05-29 00:00",
        ],
    );
    // W: 2026-02-15 is a Sunday, 2026-08-15 a Saturday.
    check_utc(
        "0 0 15W 2,4,8 ? *",
        january,
        &["2026-02-16 00:00", "2026-04-15 00:00", "2026-08-14 00:00"],
    );
    // … never leaves its month: 2026-08-01 is a Saturday, 2026-05-31 a Sunday.
    check_utc("0 0 1W 8 ? *", january, &["2026-08-03 00:00"]);
    check_utc("0 0 31W 5 ? *", january, &["2026-05-29 00:00"]);
    // … and is nothing where there is no such day.
    check_utc(
        "0 0 30W 2,3 ? *",
        january,
        &["2026-03-30 00:00", "2027-03-30 00:00"],
    );
    // L alone in the week is Saturday; 6L is the last Friday.
    check_utc(
        "0 0 ? * L *",
        january,
        &["2026-01-03 00:00", "2026-01-10 00:00"],
    );
    check_utc(
        "0 0 ? * 6L *",
        january,
        &["2026-01-30 00:00", "2026-02-27 00:00"],
    );
    check_utc("0 0 ? * FRIL *", january, &["2026-01-30 00:00"]);
    // #: the third Tuesday; a fifth Friday is not in every month.
    check_utc(
        "0 0 ? * 3#3 *",
        january,
        &["2026-01-20 00:00", "2026-02-17 00:00"],
    );
    check_utc("0 0 ? * TUE#3 *", january, &["2026-01-20 00:00"]);
    check_utc(
        "0 0 ? * 6#5 *",
        january,
        &["2026-01-30 00:00", "2026-05-29 00:00"],
    );
}

#[test]
fn a_time_that_the_clocks_jump_over_is_left_out() {
    // Berlin, 2026-03-29: 02:00 +01:00 becomes 03:00 +02:00.
    check(
        "30 2 * * ? *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        &["2026-03-28 02:30 +01:00", "2026-03-30 02:30 +02:00"],
    );
    check(
        "0 1-3 * * ? *",
        "Europe/Berlin",
        "2026-03-28T23:30:00Z",
        &[
            "2026-03-29 01:00 +01:00",
            "2026-03-29 03:00 +02:00",
            "2026-03-30 01:00 +02:00",
        ],
    );
    // New York, 2026-03-08: 02:00 -05:00 becomes 03:00 -04:00.
    check(
        "15 2 8,9 3 ? *",
        "America/New_York",
        "2026-01-01T00:00:00Z",
        &["2026-03-09 02:15 -04:00", "2027-03-08 02:15 -05:00"],
    );
    // Lord Howe Island moves by half an hour, 2026-10-04: 02:00 +10:30 becomes 02:30 +11:00.
    check(
        "0,15,30 2 4 10 ? *",
        "Australia/Lord_Howe",
        "2026-01-01T00:00:00Z",
        &["2026-10-04 02:30 +11:00", "2027-10-04 02:00 +11:00"],
    );
    // Cairo jumps over midnight, 2026-04-24: only that time is missing, not the day.
    check(
        "0 0,2 * * ? *",
        "Africa/Cairo",
        "2026-04-23T12:00:00Z",
        &[
            "2026-04-24 02:00 +03:00",
            "2026-04-25 00:00 +03:00",
            "2026-04-25 02:00 +03:00",
        ],
    );
    // Apia had no 30 December 2011 at all.
    check(
        "0 12 29-31 12 ? 2011",
        "Pacific/Apia",
        "2011-12-01T00:00:00Z",
        &["2011-12-29 12:00 -10:00", "2011-12-31 12:00 +14:00"],
    );
}

#[test]
fn a_time_that_comes_twice_counts_once() {
    // Berlin, 2026-10-25: 03:00 +02:00 becomes 02:00 +01:00.
    check(
        "30 2 * * ? *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"],
    );
    // Between the two the next run is the one of the next day …
    check(
        "30 2 * * ? *",
        "Europe/Berlin",
        "2026-10-25T01:15:00Z",
        &["2026-10-26 02:30 +01:00"],
    );
    // … and a short rhythm pauses for the hour that is repeated.
    check(
        "0/30 * * * ? *",
        "Europe/Berlin",
        "2026-10-24T23:50:00Z",
        &[
            "2026-10-25 02:00 +02:00",
            "2026-10-25 02:30 +02:00",
            "2026-10-25 03:00 +01:00",
            "2026-10-25 03:30 +01:00",
        ],
    );
    // New York, 2026-11-01: 02:00 -04:00 becomes 01:00 -05:00.
    check(
        "0 1,2 1 11 ? *",
        "America/New_York",
        "2026-10-01T00:00:00Z",
        &[
            "2026-11-01 01:00 -04:00",
            "2026-11-01 02:00 -05:00",
            "2027-11-01 01:00 -04:00",
        ],
    );
    // Sydney, in the other half of the year: 2026-04-05, 03:00 +11:00 becomes 02:00 +10:00.
    check(
        "45 2 ? 4 SUN#1 *",
        "Australia/Sydney",
        "2026-04-01T00:00:00Z",
        &["2026-04-05 02:45 +11:00", "2027-04-04 02:45 +11:00"],
    );
    // Havana sets its clocks back from 01:00 to midnight: the day begins twice.
    check(
        "30 0 1,2 11 ? 2026",
        "America/Havana",
        "2026-10-31T12:00:00Z",
        &["2026-11-01 00:30 -04:00", "2026-11-02 00:30 -05:00"],
    );
}

#[test]
fn runs_end_with_the_years() {
    assert_eq!(
        runs(&cron("0 0 1 1 ? 2025", "UTC"), "2026-01-01T00:00:00Z", 3),
        [""; 0]
    );
    assert_eq!(
        runs(&cron("0 0 30 2 ? *", "UTC"), "2026-01-01T00:00:00Z", 3),
        [""; 0]
    );
    assert_eq!(
        runs(
            &cron("59 23 31 12 ? 2199", "UTC"),
            "2026-01-01T00:00:00Z",
            3
        ),
        ["2199-12-31 23:59 +00:00"]
    );
}

#[test]
fn a_run_is_strictly_after() {
    let schedule = cron("0 12 * * ? *", "UTC");
    let next = |after: &str| schedule.next_after(at(after), at(after)).unwrap();
    assert_eq!(next("2026-01-01T11:59:59.999Z"), at("2026-01-01T12:00:00Z"));
    assert_eq!(next("2026-01-01T12:00:00Z"), at("2026-01-02T12:00:00Z"));
    assert_eq!(
        schedule.last_between(
            at("2026-01-01T12:00:00Z"),
            at("2026-01-05T12:00:00Z"),
            at("2026-01-01T00:00:00Z")
        ),
        Some(at("2026-01-05T12:00:00Z"))
    );
    assert_eq!(
        schedule.last_between(
            at("2026-01-01T12:00:00Z"),
            at("2026-01-02T11:00:00Z"),
            at("2026-01-01T00:00:00Z")
        ),
        None
    );
}

#[test]
fn rates_count_from_their_anchor() {
    let anchor = at("2026-03-28T10:07:30Z");
    let next = |rate: &str, after: &str| {
        Schedule::parse(&format!("rate({rate})"), Some("Europe/Berlin"))
            .unwrap()
            .next_after(at(after), anchor)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        next("5 minutes", "2026-03-28T10:07:30Z"),
        "2026-03-28T10:12:30Z"
    );
    assert_eq!(
        next("5 minutes", "2026-03-28T10:12:29Z"),
        "2026-03-28T10:12:30Z"
    );
    assert_eq!(
        next("5 minutes", "2026-03-28T10:12:30Z"),
        "2026-03-28T10:17:30Z"
    );
    assert_eq!(
        next("1 minute", "2026-03-28T10:20:00Z"),
        "2026-03-28T10:20:30Z"
    );
    assert_eq!(
        next("36 hours", "2026-03-28T11:00:00Z"),
        "2026-03-29T22:07:30Z"
    );
    // A day is 24 hours even when the clocks change, as they do in this zone on the 29th.
    assert_eq!(
        next("1 day", "2026-03-28T11:00:00Z"),
        "2026-03-29T10:07:30Z"
    );
    assert_eq!(
        next("2 days", "2027-03-28T10:00:00Z"),
        "2027-03-29T10:07:30Z"
    );
    // The first run is one period after the anchor, however early one asks.
    assert_eq!(
        next("1 hour", "2020-01-01T00:00:00Z"),
        "2026-03-28T11:07:30Z"
    );
}

#[test]
fn zones_come_from_the_program_if_the_system_has_none() {
    let bundled = TimeZoneDatabase::bundled();
    for name in [
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Pacific/Chatham",
        "UTC",
    ] {
        let zone = bundled.get(name).unwrap();
        assert_eq!(zone.iana_name(), Some(name));
    }
}

fn message(expression: &str, zone: &str) -> String {
    let error = Schedule::parse(expression, Some(zone)).unwrap_err();
    match &error.hint {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn messages() {
    let faults = [
        "",
        "0 12 * * ? *",
        "cron(0 12 * * ? *",
        "at(2026-01-01T00:00:00)",
        "cron()",
        "cron(0 12 * * ?)",
        "cron(0 12 * * ? * *)",
        "cron(60 12 * * ? *)",
        "cron(0 12,24 * * ? *)",
        "cron(? 12 * * ? *)",
        "cron(0 12 0 * ? *)",
        "cron(0 12 * * * *)",
        "cron(0 12 ? * ? *)",
        "cron(0 12 ? JAM MON *)",
        "cron(0 12 ? * 0 *)",
        "cron(0 12 ? * SAT-MON *)",
        "cron(0 12 ? * MOO *)",
        "cron(0 12 ? * 3#6 *)",
        "cron(0 12 ? * 3#1,6#3 *)",
        "cron(0 12 ? * 9L *)",
        "cron(0 12 15W,L * ? *)",
        "cron(0 12 L-3 * ? *)",
        "cron(0 12 32W * ? *)",
        "cron(0 12 1 * ? 1969)",
        "cron(0 12 1 * ? 2200)",
        "cron(*/0 12 * * ? *)",
        "cron(-5 12 * * ? *)",
        "cron(0 12, * * ? *)",
        "cron(0 1½ * * ? *)",
        "rate(5)",
        "rate(0 minutes)",
        "rate(-1 minutes)",
        "rate(1 minutes)",
        "rate(2 hour)",
        "rate(2 weeks)",
        "rate(five minutes)",
        "rate(99999999999 minutes)",
    ];
    let mut all: Vec<String> = faults.iter().map(|fault| message(fault, "UTC")).collect();
    all.push(message("rate(1 hour)", "Europe/Berln"));
    all.push(message("rate(1 hour)", "Mars/Olympus"));
    insta::assert_snapshot!(all.join("\n"), @r"
    ``, column 1: the expression is empty, expected cron(minutes hours day-of-month month day-of-week year) or rate(number unit)
    `0 12 * * ? *`, column 1: the expression is `0 12 * * ? *`, expected cron(minutes hours day-of-month month day-of-week year) or rate(number unit)
    hint: put it in brackets: cron(0 12 * * ? *)
    `cron(0 12 * * ? *`, column 1: the expression is `cron(0 12 * * ? *`, expected cron(minutes hours day-of-month month day-of-week year) or rate(number unit)
    hint: the closing bracket is missing
    `at(2026-01-01T00:00:00)`, column 1: the expression is `at(2026-01-01T00:00:00)`, expected cron(minutes hours day-of-month month day-of-week year) or rate(number unit)
    hint: a pipeline has no runs at a single time; start one by hand instead
    `cron()`, column 6: the expression is empty, expected six fields: minutes hours day-of-month month day-of-week year
    `cron(0 12 * * ?)`, column 6: the expression is `0 12 * * ?`, expected six fields: minutes hours day-of-month month day-of-week year
    hint: the year is missing; write `*` as the sixth field
    `cron(0 12 * * ? * *)`, column 6: the expression is `0 12 * * ? * *`, expected six fields: minutes hours day-of-month month day-of-week year
    `cron(60 12 * * ? *)`, column 6: minutes is `60`, expected 0 to 59
    `cron(0 12,24 * * ? *)`, column 11: hours is `24`, expected 0 to 23
    `cron(? 12 * * ? *)`, column 6: minutes is `?`, expected 0 to 59
    hint: `?` belongs to day-of-month or day-of-week; write `*` here
    `cron(0 12 0 * ? *)`, column 11: day-of-month is `0`, expected 1 to 31
    `cron(0 12 * * * *)`, column 15: day-of-week is `*`, expected `?`, since day-of-month names days
    hint: exactly one of day-of-month and day-of-week is `?`
    `cron(0 12 ? * ? *)`, column 15: day-of-week is `?`, expected days, since day-of-month is `?`
    hint: write `*` for every day
    `cron(0 12 ? JAM MON *)`, column 13: month is `JAM`, expected 1 to 12 or JAN to DEC
    hint: did you mean `JAN`?
    `cron(0 12 ? * 0 *)`, column 15: day-of-week is `0`, expected 1 to 7 or SUN to SAT
    hint: days of the week count from 1, which is Sunday
    `cron(0 12 ? * SAT-MON *)`, column 15: day-of-week is `SAT-MON`, expected a range whose first number is not above its last
    hint: to go past the end write 7,1-2
    `cron(0 12 ? * MOO *)`, column 15: day-of-week is `MOO`, expected 1 to 7 or SUN to SAT
    hint: did you mean `MON`?
    `cron(0 12 ? * 3#6 *)`, column 17: the number after `#` is `6`, expected 1 to 5
    `cron(0 12 ? * 3#1,6#3 *)`, column 15: day-of-week is `3#1`, expected 1 to 7 or SUN to SAT
    hint: `6L` and `6#3` stand alone, without lists, ranges and steps
    `cron(0 12 ? * 9L *)`, column 15: day-of-week is `9`, expected 1 to 7 or SUN to SAT
    `cron(0 12 15W,L * ? *)`, column 11: day-of-month is `15W`, expected 1 to 31
    hint: `L`, `LW` and `15W` stand alone, without lists, ranges and steps
    `cron(0 12 L-3 * ? *)`, column 11: day-of-month is `L`, expected 1 to 31
    hint: there is no counting back from the last day; name the days
    `cron(0 12 32W * ? *)`, column 11: day-of-month is `32`, expected 1 to 31
    `cron(0 12 1 * ? 1969)`, column 17: year is `1969`, expected 1970 to 2199
    `cron(0 12 1 * ? 2200)`, column 17: year is `2200`, expected 1970 to 2199
    `cron(*/0 12 * * ? *)`, column 8: the step of minutes is `0`, expected a whole number from 1
    `cron(-5 12 * * ? *)`, column 6: minutes is empty, expected 0 to 59
    `cron(0 12, * * ? *)`, column 11: hours is empty, expected 0 to 23
    `cron(0 1½ * * ? *)`, column 8: hours is `1½`, expected 0 to 23
    `rate(5)`, column 6: the rate is `5`, expected a number and a unit, such as `5 minutes`
    `rate(0 minutes)`, column 6: the number is `0`, expected a whole number from 1
    `rate(-1 minutes)`, column 6: the number is `-1`, expected a whole number from 1
    `rate(1 minutes)`, column 8: the unit is `minutes`, expected `minute` after 1
    hint: the service wants the singular with 1 and the plural with all others
    `rate(2 hour)`, column 8: the unit is `hour`, expected `hours` after 2
    hint: the service wants the singular with 1 and the plural with all others
    `rate(2 weeks)`, column 8: the unit is `weeks`, expected minute, minutes, hour, hours, day or days
    hint: write 14 days
    `rate(five minutes)`, column 6: the number is `five`, expected a whole number from 1
    `rate(99999999999 minutes)`, column 6: the number is `99999999999`, expected a whole number from 1
    `Europe/Berln`, column 1: the time zone is `Europe/Berln`, expected an IANA name, such as Europe/Berlin or UTC
    hint: did you mean `Europe/Berlin`?
    `Mars/Olympus`, column 1: the time zone is `Mars/Olympus`, expected an IANA name, such as Europe/Berlin or UTC
    ");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", fields in "[-0-9*?,/LW#A-Za-z ]{0,40}") {
        for expression in [text.clone(), format!("cron({text})"), format!("cron({fields})"), format!("rate({fields})")] {
            let _ = Schedule::parse(&expression, Some(&text));
            if let Ok(schedule) = Schedule::parse(&expression, None) {
                let now = at("2026-01-01T00:00:00Z");
                proptest::prop_assert!(schedule.next_after(now, now).is_none_or(|next| next > now));
            }
        }
    }
}
