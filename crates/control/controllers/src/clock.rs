//! The time as controllers are given it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudeck_machinery::time::{MicroTime, Time};

/// Tells the time. Injected, so that tests may set it.
pub(crate) type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// A point in time, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now(pub(crate) i64);

impl Now {
    /// As objects hold it.
    pub(crate) fn timestamp(self) -> String {
        self.time().to_string()
    }

    pub(crate) fn at(time: Time) -> Self {
        Self(time.unix().saturating_mul(1000))
    }

    pub(crate) fn micro_time(self) -> MicroTime {
        MicroTime::from_unix_micros(self.0.saturating_mul(1000))
    }

    pub(crate) fn time(self) -> Time {
        Time::from_unix(self.0.div_euclid(1000))
    }

    /// How long until `seconds` after `start`; `None` when that has passed.
    pub(crate) fn until(self, start: Time, seconds: i64) -> Option<Duration> {
        let left = (start.unix().saturating_add(seconds))
            .saturating_mul(1000)
            .saturating_sub(self.0);
        u64::try_from(left)
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_millis)
    }
}

pub(crate) fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Now(since.map_or(0, |since| since.as_millis() as i64))
    })
}
