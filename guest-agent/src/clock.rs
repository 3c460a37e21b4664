//! Time stamps in UTC, without a time-zone database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment taken apart.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
    nanos: u32,
}

fn civil(time: SystemTime) -> Civil {
    // A clock before 1970 belongs to a machine without a battery; the epoch is as good a stamp as any.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let days = i64::try_from(since.as_secs() / 86_400).unwrap_or(0);
    let rest = since.as_secs() % 86_400;
    let (year, month, day) = date_of(days);
    Civil {
        year,
        month,
        day,
        hour: rest / 3600,
        minute: rest % 3600 / 60,
        second: rest % 60,
        nanos: since.subsec_nanos(),
    }
}

/// Gregorian date of a day counted from 1970-01-01, by way of years that start in March so that leap days come last.
fn date_of(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (
        year,
        u32::try_from(month).unwrap_or(1),
        u32::try_from(day).unwrap_or(1),
    )
}

/// `2026-01-02T03:04:05.123456789Z`, as at the start of log lines.
pub fn rfc3339_nanos(time: SystemTime) -> String {
    let c = civil(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second, c.nanos
    )
}

/// `2026-01-02T03:04:05.123Z`, as in events.
pub fn rfc3339_millis(time: SystemTime) -> String {
    let c = civil(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        c.year,
        c.month,
        c.day,
        c.hour,
        c.minute,
        c.second,
        c.nanos / 1_000_000
    )
}

/// `2026-01-02T03:04:05Z`, as in detailedoutput.json.
pub fn rfc3339_seconds(time: SystemTime) -> String {
    let c = civil(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// `2026-01-02_03-04-05`, as in the name of the log folder.
pub fn folder_stamp(time: SystemTime) -> String {
    let c = civil(time);
    format!(
        "{:04}-{:02}-{:02}_{:02}-{:02}-{:02}",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// `20260102T030405Z`, as in request signatures.
pub fn compact(time: SystemTime) -> String {
    let c = civil(time);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_known_moments() {
        let at = |seconds| UNIX_EPOCH + Duration::new(seconds, 7_000_001);
        let cases = [
            (0, "1970-01-01T00:00:00.007000001Z"),
            (951_782_400, "2000-02-29T00:00:00.007000001Z"),
            (1_709_164_799, "2024-02-28T23:59:59.007000001Z"),
            (4_102_444_800, "2100-01-01T00:00:00.007000001Z"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(rfc3339_nanos(at(seconds)), wanted);
        }
        assert_eq!(rfc3339_millis(at(0)), "1970-01-01T00:00:00.007Z");
        assert_eq!(rfc3339_seconds(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(folder_stamp(at(951_782_400)), "2000-02-29_00-00-00");
        assert_eq!(compact(at(951_782_400)), "20000229T000000Z");
    }
}
