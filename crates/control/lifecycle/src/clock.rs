//! The time as controllers are given it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudeck_machinery::{MicroTime, Time};

/// Tells the time. Injected, so that decisions are the same in tests.
pub(crate) type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// A point in time, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Now(pub(crate) i64);

impl Now {
    /// Reads a time or a time with microseconds out of an object.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let micros = MicroTime::parse(text).ok();
        let millis = micros.map(|time| time.unix_micros().div_euclid(1000));
        // The one without fractions of a second does not pass for the other.
        let seconds = || Time::parse(text).ok().map(|time| time.unix() * 1000);
        millis.or_else(seconds).map(Self)
    }

    /// As objects hold it.
    pub(crate) fn timestamp(self) -> String {
        Time::from_unix(self.0.div_euclid(1000)).to_string()
    }

    pub(crate) fn plus(self, delay: Duration) -> Self {
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long until then; zero when that has passed.
    pub(crate) fn until(self, then: Self) -> Duration {
        Duration::from_millis(u64::try_from(then.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Now(since.map_or(0, |since| since.as_millis() as i64))
    })
}
