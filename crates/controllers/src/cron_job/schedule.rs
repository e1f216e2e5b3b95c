//! When a cron job is due: its schedule in its time zone.

use std::path::{Component, Path};

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use sampan_api::validation::Schedule;

/// Where the machine keeps the rules of time zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// The largest file of rules that is read, bytes.
const ZONE_LIMIT: u64 = 1 << 20;
/// How far ahead a time is looked for, days: a leap year is never further.
const HORIZON: i32 = 366 * 9;

/// A schedule in a time zone.
pub(super) struct Timetable {
    pub schedule: Schedule,
    pub zone: TimeZone,
}

/// The time zone that a schedule or its job names; UTC where neither does.
pub(super) fn zone_name<'a>(schedule: &'a str, zone: Option<&'a str>) -> Option<&'a str> {
    let own =
        schedule.trim_start().strip_prefix("CRON_TZ=").or_else(|| schedule.trim_start().strip_prefix("TZ="));
    own.map(|rest| rest.split_whitespace().next().unwrap_or_default()).or(zone)
}

/// Reads a time zone's rules. Blocks on the disk, for a small file.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name.filter(|name| !name.is_empty() && *name != "UTC" && *name != "Etc/UTC") else {
        return Ok(TimeZone::UTC);
    };
    let unknown = || format!("unknown time zone {name}");
    let path = Path::new(name);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(unknown());
    }
    let path = Path::new(ZONES).join(path);
    if std::fs::metadata(&path).map_err(|_| unknown())?.len() > ZONE_LIMIT {
        return Err(unknown());
    }
    let rules = std::fs::read(&path).map_err(|_| unknown())?;
    TimeZone::tzif(name, &rules).map_err(|_| unknown())
}

impl Timetable {
    /// The first time after another one; `None` for a schedule that is never due.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let calendar = match &self.schedule {
            Schedule::Every { seconds } => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                let pause = SignedDuration::from_secs(i64::try_from(*seconds).ok()?);
                return whole.checked_add(pause).ok();
            }
            Schedule::Calendar(calendar) => calendar,
        };
        let start = self.zone.to_datetime(after);
        let mut date = start.date();
        for _ in 0..HORIZON {
            let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
            let weekday = date.weekday().to_sunday_zero_offset().unsigned_abs();
            for (hour, minute) in (0..24).flat_map(|hour| (0..60).map(move |minute| (hour, minute))) {
                if calendar.matches(month, day, weekday, hour, minute)
                    && let Some(due) = self.instant(date, hour, minute).filter(|due| *due > after)
                {
                    return Some(due);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The moment of a time of day. One that the clocks skip is none; of two the first counts.
    fn instant(&self, date: Date, hour: u8, minute: u8) -> Option<Timestamp> {
        let time = Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0).ok()?;
        let ambiguous = self.zone.to_ambiguous_timestamp(DateTime::from_parts(date, time));
        match ambiguous.offset() {
            AmbiguousOffset::Gap { .. } => None,
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        }
    }

    /// The latest time that is due since another one, and whether it is one of very many.
    pub fn latest(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, bool)> {
        const MANY: i64 = 100;
        let first = self.next(since).filter(|first| *first <= now)?;
        let Some(second) = self.next(first).filter(|second| *second <= now) else {
            return Some((first, false));
        };
        let pause = (second.as_second() - first.as_second()).max(1);
        let missed = (now.as_second() - first.as_second()) / pause + 1;
        // Close to now, so that only a few are gone through.
        let near = first.checked_add(SignedDuration::from_secs((missed - 2).max(0) * pause)).unwrap_or(first);
        let mut latest = first.max(near.min(first));
        let mut at = near.min(now);
        while let Some(due) = self.next(at).filter(|due| *due <= now) {
            latest = due;
            at = due;
        }
        Some((latest, missed > MANY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schedule: &str, offset_hours: i8) -> Timetable {
        let zone = TimeZone::fixed(jiff::tz::offset(offset_hours));
        Timetable { schedule: schedule.parse().expect("a schedule"), zone }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn the_next_time_is_found() {
        let check = |schedule: &str, offset: i8, after: &str, expected: Option<&str>| {
            let found = table(schedule, offset).next(time(after)).map(|due| due.to_string());
            assert_eq!(found.as_deref(), expected, "{schedule} {after}");
        };
        check("*/5 * * * *", 0, "2024-01-01T00:02:00Z", Some("2024-01-01T00:05:00Z"));
        check("*/5 * * * *", 0, "2024-01-01T00:05:00Z", Some("2024-01-01T00:10:00Z"));
        check("0 9 * * mon", 0, "2024-01-01T09:00:00Z", Some("2024-01-08T09:00:00Z"));
        check("0 9 * * *", 2, "2024-01-01T00:00:00Z", Some("2024-01-01T07:00:00Z"));
        check("0 0 29 2 *", 0, "2024-03-01T00:00:00Z", Some("2028-02-29T00:00:00Z"));
        check("0 0 30 2 *", 0, "2024-03-01T00:00:00Z", None);
        check("@every 90s", 0, "2024-01-01T00:00:00.5Z", Some("2024-01-01T00:01:30Z"));
    }

    #[test]
    fn clocks_that_change_skip_or_repeat() {
        // Central European time, by the rule alone.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let table = Timetable { schedule: "30 2 * * *".parse().expect("a schedule"), zone };
        let next = |after: &str| table.next(time(after)).map(|due| due.to_string()).unwrap_or_default();
        // On the 31st of March 2024 there is no half past two.
        assert_eq!(next("2024-03-30T02:00:00Z"), "2024-04-01T00:30:00Z");
        // On the 27th of October there are two.
        assert_eq!(next("2024-10-26T12:00:00Z"), "2024-10-27T00:30:00Z");
        assert_eq!(next("2024-10-27T00:30:00Z"), "2024-10-28T01:30:00Z");
    }

    #[test]
    fn of_what_was_missed_the_latest_counts() {
        let check = |since: &str, now: &str, expected: Option<(&str, bool)>| {
            let found = table("0 * * * *", 0).latest(time(since), time(now));
            let expected = expected.map(|(due, many)| (time(due), many));
            assert_eq!(found, expected, "{since} {now}");
        };
        check("2024-01-01T00:00:00Z", "2024-01-01T00:59:00Z", None);
        check("2024-01-01T00:00:00Z", "2024-01-01T01:00:30Z", Some(("2024-01-01T01:00:00Z", false)));
        check("2024-01-01T00:00:00Z", "2024-01-01T05:10:00Z", Some(("2024-01-01T05:00:00Z", false)));
        check("2024-01-01T00:00:00Z", "2024-02-01T05:10:00Z", Some(("2024-02-01T05:00:00Z", true)));
    }

    #[test]
    fn zones_are_named() {
        assert_eq!(zone_name("0 0 * * *", None), None);
        assert_eq!(zone_name("0 0 * * *", Some("Europe/Paris")), Some("Europe/Paris"));
        assert_eq!(zone_name("CRON_TZ=Asia/Tokyo 0 0 * * *", None), Some("Asia/Tokyo"));
        assert_eq!(zone(Some("UTC")), Ok(TimeZone::UTC));
        for name in ["../../etc/passwd", "/etc/passwd", "No/Where"] {
            assert_eq!(zone(Some(name)), Err(format!("unknown time zone {name}")));
        }
    }
}
