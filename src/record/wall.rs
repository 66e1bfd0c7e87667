//! Wall times of files: from a given pattern, from the names that cameras give, or from the container.

use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex_lite::Regex;

use super::settings::ArchiveConfig;
use crate::ood::alarm::event::TimeSource;
use crate::ood::alarm::{Event, rfc3339};
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// Names that hold the local time of the start, by maker. The groups are year, month, day, hour, minute, second.
const NAMES: &[(&str, &str)] = &[
    ("BlackVue", r"^(20\d\d)(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)_[A-Z][FRIO]S?$"),
    ("Viofo", r"^(20\d\d)_?(\d\d)(\d\d)_?(\d\d)(\d\d)(\d\d)_\d+[A-Z]*$"),
    ("Tesla", r"^(20\d\d)-(\d\d)-(\d\d)_(\d\d)-(\d\d)-(\d\d)-[a-z_]+$"),
    ("70mai", r"^[A-Z]{2}(20\d\d)(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-\d+[A-Z]*$"),
    ("Thinkware", r"^[A-Z_]+_(20\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_[A-Z]$"),
    ("Nextbase", r"^(\d\d)(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)_\d+_[A-Z]{2}$"),
    ("DJI", r"^DJI_(20\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)_"),
    ("date and time", r"(?:^|\D)(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_.T ](\d\d)[-_.h]?(\d\d)[-_.m]?(\d\d)(?:\D|$)"),
];
/// Names without a time, of cameras that write local time into the container, which is meant for UTC.
const LOCAL_CONTAINERS: &[(&str, &str)] =
    &[("GoPro", r"^(?:G[HXLPO][A-Z0-9]{2}\d{4}|GOPR\d{4}|GP\d{6})$"), ("Garmin", r"^GRMN\d+$")];

/// The wall time of a file's first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The time.
    pub time: SystemTime,
    /// Where it comes from.
    pub source: TimeSource,
    /// The same for people, with what was assumed.
    pub note: String,
}

/// Finds the wall times of files.
#[derive(Debug)]
pub struct WallTimes {
    zone: TimeZone,
    zone_name: String,
    pattern: Option<String>,
    names: Vec<(&'static str, Regex)>,
    local: Vec<(&'static str, Regex)>,
}

impl WallTimes {
    /// Those that `config` describes.
    ///
    /// # Errors
    /// A time zone that is not known, or a pattern that is not one of a date and a time.
    pub fn new(config: &ArchiveConfig) -> Result<Self> {
        let compiled = |list: &[(&'static str, &str)]| {
            let each = list.iter().map(|(maker, text)| Ok((*maker, Regex::new(text)?)));
            each.collect::<Result<Vec<_>, regex_lite::Error>>().map_err(|error| Error::failed("names").caused_by(error))
        };
        if let Some(pattern) = &config.time_pattern {
            check(pattern)?;
        }
        let (zone, zone_name) = match config.time_zone.as_deref() {
            None => (TimeZone::system(), "this machine's time zone".to_owned()),
            Some(name) => (zone(name)?, name.to_owned()),
        };
        Ok(Self {
            zone,
            zone_name,
            pattern: config.time_pattern.clone(),
            names: compiled(NAMES)?,
            local: compiled(LOCAL_CONTAINERS)?,
        })
    }

    /// The wall time at which the file at `path` begins; `container` is what its container says.
    pub fn start(&self, path: &Path, container: Option<SystemTime>) -> Option<Start> {
        let stem = path.file_stem()?.to_string_lossy();
        let here = |maker: &str| format!("wall times are from the file's name ({maker}), taken as {}", self.zone_name);
        if let Some(pattern) = &self.pattern {
            let time = self.at(by_pattern(&stem, pattern)?)?;
            let note = format!("wall times are from the file's name by `{pattern}`, taken as {}", self.zone_name);
            return Some(Start { time, source: TimeSource::FileName, note });
        }
        for (maker, name) in &self.names {
            if let Some(time) = name.captures(&stem).and_then(|found| by_groups(&found)).and_then(|time| self.at(time))
            {
                return Some(Start { time, source: TimeSource::FileName, note: here(maker) });
            }
        }
        // 1904 and 1970 are clocks that were never set.
        let container = container.filter(|time| *time > SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 365))?;
        if let Some((maker, _)) = self.local.iter().find(|(_, name)| name.is_match(&stem)) {
            let civil = TimeZone::UTC.to_datetime(jiff::Timestamp::try_from(container).ok()?);
            let note = format!(
                "wall times are from the container, where {maker} writes local time, taken as {}",
                self.zone_name
            );
            return Some(Start { time: self.at(civil)?, source: TimeSource::Container, note });
        }
        let note = "wall times are from the container, taken as UTC".to_owned();
        Some(Start { time: container, source: TimeSource::Container, note })
    }

    fn at(&self, civil: DateTime) -> Option<SystemTime> {
        let seconds = self.zone.to_timestamp(civil).ok()?.as_second();
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
    }
}

fn zone(name: &str) -> Result<TimeZone> {
    let wrong = || {
        Error::usage(format!("time zone `{name}`: not known"))
            .hint("give a name such as Europe/Berlin, an offset such as +02:00, or UTC")
    };
    if name.eq_ignore_ascii_case("utc") || name == "Z" {
        return Ok(TimeZone::UTC);
    }
    if let Some((sign, rest)) =
        name.strip_prefix('+').map(|rest| (1, rest)).or(name.strip_prefix('-').map(|rest| (-1, rest)))
    {
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
        let (hours, minutes) =
            (hours.parse::<i32>().map_err(|_| wrong())?, minutes.parse::<i32>().map_err(|_| wrong())?);
        if hours > 14 || minutes > 59 {
            return Err(wrong());
        }
        let offset = jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).map_err(|_| wrong())?;
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(name).map_err(|error| wrong().caused_by(error))
}

/// Checks that a date and a time come back through `pattern`.
fn check(pattern: &str) -> Result<()> {
    let wrong = |why: &str| {
        Error::usage(format!("time pattern `{pattern}`: {why}"))
            .hint("%Y %m %d %H %M %S stand for the parts of the time, such as cam_%Y%m%d-%H%M%S")
    };
    let items: Vec<_> = chrono::format::StrftimeItems::new(pattern).collect();
    if items.iter().any(|item| matches!(item, chrono::format::Item::Error)) {
        return Err(wrong("it has a field that is not known"));
    }
    let probe = NaiveDateTime::default() + chrono::TimeDelta::seconds(1_234_567_890);
    let text = probe.format_with_items(items.iter()).to_string();
    match by_pattern(&text, pattern) {
        Some(found) if found == civil(probe).unwrap_or_default() => Ok(()),
        _ => Err(wrong("it does not give year, month, day, hour, minute and second")),
    }
}

/// The time in `stem`, at the first place at which `pattern` fits.
fn by_pattern(stem: &str, pattern: &str) -> Option<DateTime> {
    let starts = stem.char_indices().map(|(at, _)| at);
    starts
        .filter_map(|at| NaiveDateTime::parse_and_remainder(&stem[at..], pattern).ok())
        .find_map(|(time, _)| civil(time))
}

fn civil(time: NaiveDateTime) -> Option<DateTime> {
    use chrono::{Datelike, Timelike};
    let part = |value: u32| i8::try_from(value).ok();
    DateTime::new(
        i16::try_from(time.year()).ok()?,
        part(time.month())?,
        part(time.day())?,
        part(time.hour())?,
        part(time.minute())?,
        part(time.second())?,
        0,
    )
    .ok()
}

fn by_groups(found: &regex_lite::Captures<'_>) -> Option<DateTime> {
    let part = |group: usize| found.get(group)?.as_str().parse::<i16>().ok();
    let year = part(1)?;
    let year = if year < 100 { 2000 + year } else { year };
    let small = |group: usize| i8::try_from(part(group)?).ok();
    DateTime::new(year, small(2)?, small(3)?, small(4)?, small(5)?, small(6)?, 0).ok()
}

/// Writes the wall times of a file into its events.
pub struct WallClock(pub Start);

impl Recorder for WallClock {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn amend(&mut self, events: &mut [Event]) -> Result<()> {
        let at = |seconds: f64| Some(rfc3339(self.0.time + Duration::try_from_secs_f64(seconds).ok()?));
        for event in events {
            (event.start_wall, event.end_wall) = (at(event.start_s), at(event.end_s));
            event.time_source = self.0.source;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(zone: &str, pattern: Option<&str>) -> WallTimes {
        let config = ArchiveConfig {
            time_zone: Some(zone.to_owned()),
            time_pattern: pattern.map(ToOwned::to_owned),
            ..ArchiveConfig::default()
        };
        WallTimes::new(&config).unwrap()
    }

    fn start(name: &str, zone: &str) -> Option<String> {
        Some(rfc3339(times(zone, None).start(Path::new(name), None)?.time))
    }

    #[test]
    fn the_names_of_makers_hold_local_times() {
        for name in [
            "20210304_050607_NF.mp4",
            "20210304_050607_EF.mp4",
            "2021_0304_050607_0012F.MP4",
            "20210304050607_000123F.MP4",
            "2021-03-04_05-06-07-left_repeater.mp4",
            "NO20210304-050607-000012F.MP4",
            "REC_2021_03_04_05_06_07_F.MP4",
            "210304_050607_001_FH.MP4",
            "DJI_20210304050607_0001_D.MP4",
            "VID_20210304_050607.mp4",
            "front 2021-03-04T05-06-07.mkv",
        ] {
            assert_eq!(start(name, "+01:00").as_deref(), Some("2021-03-04T04:06:07.000Z"), "{name}");
            assert_eq!(start(name, "America/New_York").as_deref(), Some("2021-03-04T10:06:07.000Z"), "{name}");
        }
        for name in ["GX010123.MP4", "GRMN0001.MP4", "drive.mp4", "20211304_050607_NF.mp4", "1234567890123456.mp4"] {
            assert_eq!(start(name, "UTC"), None, "{name}");
        }
    }

    #[test]
    fn containers_say_utc_but_some_makers_mean_local_time() {
        let container = SystemTime::UNIX_EPOCH + Duration::from_secs(1_614_834_367);
        let of = |name: &str| {
            let start = times("Europe/Berlin", None).start(Path::new(name), Some(container)).unwrap();
            (rfc3339(start.time), start.source)
        };
        assert_eq!(of("drive.mp4"), ("2021-03-04T05:06:07.000Z".to_owned(), TimeSource::Container));
        assert_eq!(of("GX010123.MP4"), ("2021-03-04T04:06:07.000Z".to_owned(), TimeSource::Container));
        let never_set = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(times("UTC", None).start(Path::new("drive.mp4"), never_set), None);
    }

    #[test]
    fn patterns_of_ones_own() {
        let own = times("UTC", Some("bus7_%d.%m.%Y-%H%M%S"));
        let start = own.start(Path::new("x bus7_04.03.2021-050607 rear.mp4"), None).unwrap();
        assert_eq!(rfc3339(start.time), "2021-03-04T05:06:07.000Z");
        assert_eq!(own.start(Path::new("20210304_050607_NF.mp4"), None), None, "its own pattern alone counts");
        for wrong in ["%Y-%m", "cam", "%Q", "%Y%m%d-%H%M%"] {
            let config = ArchiveConfig { time_pattern: Some(wrong.to_owned()), ..ArchiveConfig::default() };
            assert!(WallTimes::new(&config).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
        for wrong in ["Mars/Olympus", "+25:00", "+a"] {
            let config = ArchiveConfig { time_zone: Some(wrong.to_owned()), ..ArchiveConfig::default() };
            assert!(WallTimes::new(&config).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }
}
