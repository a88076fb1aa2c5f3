//! Times as the rows carry them: UTC, milliseconds, a trailing `Z`.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds, written `2026-11-22T10:00:00.000Z`.
///
/// Times in rows are for people; order is judged by sequences and bucket revisions (contract,
/// section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The given time, cut to whole milliseconds.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(3))
    }

    /// From milliseconds since the Unix epoch; `None` where the calendar does not reach.
    pub fn from_unix_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Whole seconds since the Unix epoch, as git writes dates.
    pub fn unix_seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// The same as a [`chrono`] value.
    pub fn to_utc(self) -> DateTime<Utc> {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).to_std().unwrap_or_default()
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    /// Later by `span`; the latest time there is where that overflows.
    fn add(self, span: Duration) -> Self {
        let later = chrono::TimeDelta::from_std(span)
            .ok()
            .and_then(|d| self.0.checked_add_signed(d));
        Self::new(later.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::<Utc>::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "UTC with milliseconds, for example 2026-11-22T10:00:00.000Z"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_with_milliseconds_and_z() {
        let at: Timestamp = serde_json::from_str("\"2026-11-22T11:00:00.123456+01:00\"").unwrap();
        assert_eq!(
            serde_json::to_string(&at).unwrap(),
            "\"2026-11-22T10:00:00.123Z\""
        );
    }

    #[test]
    fn adding_more_than_the_calendar_holds_stays_in_it() {
        let at = Timestamp::from_unix_millis(0).unwrap();
        assert!(at + Duration::MAX > at);
    }
}
