//! Durations on the command line and in pipeline files: `90` or `1.5` seconds, or with a unit, `90s`, `5m`, `1h 30m`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{self, Visitor};

use crate::{Error, Result};

/// Reads a number of seconds, or numbers with units as the `humantime` crate takes them.
///
/// # Errors
/// It is neither, is negative, or too long to count.
pub fn parse(text: &str) -> Result<Duration> {
    let duration = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text.trim()).ok(),
    };
    duration.ok_or_else(|| Error::usage("a time is a number of seconds or has units, such as 90, 1.5s, 5m or 1h"))
}

/// What a key that holds a time is counted in.
pub(crate) trait Count: Sized {
    fn of(number: f64) -> Option<Self>;
}

impl Count for f64 {
    fn of(number: f64) -> Option<Self> {
        Some(number)
    }
}

macro_rules! whole {
    ($($int:ty),*) => {$(
        impl Count for $int {
            fn of(number: f64) -> Option<Self> {
                (number.fract() == 0.0 && (0.0..=Self::MAX as f64).contains(&number)).then_some(number as Self)
            }
        }
    )*};
}

whole!(u32, u64);

/// A key in seconds: a number, or a text as [`parse`] takes it.
///
/// # Errors
/// It is neither; or it is no whole number, and `T` takes only those.
pub(crate) fn seconds<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Time { per_second: 1.0, of: PhantomData })
}

/// As [`seconds`], for a key that may be left out.
///
/// # Errors
/// As there.
pub(crate) fn optional_seconds<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<Option<T>, D::Error> {
    seconds(deserializer).map(Some)
}

/// As [`seconds`], for a key in milliseconds; a text without a unit counts them, too.
///
/// # Errors
/// As there.
pub(crate) fn milliseconds<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Time { per_second: 1000.0, of: PhantomData })
}

struct Time<T> {
    per_second: f64,
    of: PhantomData<T>,
}

impl<T: Count> Time<T> {
    fn count<E: de::Error>(number: f64) -> Result<T, E> {
        T::of(number).ok_or_else(|| E::custom(format!("{number} is not a whole number from 0 on")))
    }
}

impl<T: Count> Visitor<'_> for Time<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.per_second == 1.0 { "seconds" } else { "milliseconds" };
        write!(f, "a number of {unit}, or a time with a unit such as \"5m\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Self::count(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Self::count(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Self::count(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let number = match text.trim().parse::<f64>() {
            Ok(number) => number,
            Err(_) => parse(text).map_err(E::custom)?.as_secs_f64() * self.per_second,
        };
        // Of 5 ms in seconds times 1000.
        Self::count((number * 1e6).round() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_seconds_and_units_have_their_names() {
        for (text, seconds) in
            [("90", 90.0), ("1.5s", 1.5), ("1.5", 1.5), ("2m", 120.0), ("1h 30min", 5400.0), ("200ms", 0.2), ("0", 0.0)]
        {
            assert_eq!(parse(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "-1", "5q", "x", "nan", "inf", "1e300"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_take_numbers_and_texts() {
        #[derive(serde::Deserialize)]
        struct Keys {
            #[serde(deserialize_with = "seconds")]
            whole_s: u32,
            #[serde(deserialize_with = "seconds")]
            any_s: f64,
            #[serde(deserialize_with = "milliseconds")]
            wait_ms: u64,
        }
        let read = |whole: &str, any: &str, wait: &str| {
            let text = format!("whole_s = {whole}\nany_s = {any}\nwait_ms = {wait}");
            toml::from_str(&text).map(|Keys { whole_s, any_s, wait_ms }| (whole_s, any_s, wait_ms))
        };
        assert_eq!(read("60", "1.5", "5").unwrap(), (60, 1.5, 5));
        assert_eq!(read("\"1m\"", "\"2m\"", "\"7ms\"").unwrap(), (60, 120.0, 7));
        for (whole, any, wait) in
            [("1.5", "1", "1"), ("-1", "1", "1"), ("\"1500ms\"", "1", "1"), ("1", "\"x\"", "1"), ("1", "1", "true")]
        {
            assert!(read(whole, any, wait).is_err(), "{whole} {any} {wait}");
        }
    }
}
