//! Durations and sizes: a plain number in Kafka's unit, or a number with a unit of its own.

use super::{ConfigError, wrong};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A duration; a plain number is milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

/// A size; a plain number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size(text).map(Self).ok_or_else(|| format!("{text:?} is no size such as 512KiB, 64MiB, 1GB"))
    }
}

impl Size {
    /// As a number of bytes that fits this machine's memory.
    pub(super) fn bytes(self, key: &'static str) -> Result<usize, ConfigError> {
        usize::try_from(self.0)
            .ok()
            .filter(|n| (1..=i32::MAX as usize).contains(n))
            .ok_or_else(|| wrong(key, format!("{} bytes; between 1 and 2147483647 is possible", self.0)))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

fn duration(text: &str) -> Option<Duration> {
    let (n, unit) = split(text)?;
    let ms = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(n.checked_mul(ms)?))
}

fn size(text: &str) -> Option<u64> {
    let (n, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    n.checked_mul(factor)
}

struct NumberOr<T>(fn(&str) -> Option<T>, &'static str, fn(u64) -> T);

impl<T> Visitor<'_> for NumberOr<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
        u64::try_from(n).map(self.2).map_err(|_| E::custom(format!("{n} is negative; {} is needed", self.1)))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
        Ok((self.2)(n))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| E::custom(format!("'{text}' is not {}", self.1)))
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let visitor = NumberOr(duration, "a duration such as 500ms, 10s, 5m, 1h", Duration::from_millis);
        from.deserialize_any(visitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NumberOr(size, "a size such as 512KiB, 64MiB, 1GB", |n| n)).map(Self)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}ms", self.0.as_millis()))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}
