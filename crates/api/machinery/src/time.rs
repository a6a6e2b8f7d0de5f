//! Points in time as objects hold them, and durations as people and Go print them. No clock: `now` is always given.
//!
//! Source: `metav1.Time`, `metav1.MicroTime`, `k8s.io/apimachinery/pkg/util/duration`, Go's `time` package.

pub mod duration;

use std::fmt;
use std::time::SystemTime;

const DAY: i64 = 86_400;

/// A second since the epoch, as `metav1.Time`; printed in RFC 3339, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A microsecond since the epoch, as `metav1.MicroTime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(i64);

/// Why a text is not a time, in the words of Go's `time.Parse`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimeError {
    #[error("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {wanted:?}")]
    Layout {
        text: String,
        layout: &'static str,
        rest: String,
        wanted: &'static str,
    },
    #[error("parsing time {text:?}: {what} out of range")]
    Range { text: String, what: &'static str },
    #[error("parsing time {text:?}: extra text: {rest:?}")]
    Extra { text: String, rest: String },
}

/// Go's zero time, which objects hold as null: the first of January of the year one.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// The seconds of the years 0 to 9999, which RFC 3339 can write.
const READABLE: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

impl Time {
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    pub fn unix(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339; fractions of a second are cut off.
    pub fn parse(text: &str) -> Result<Self, ParseTimeError> {
        parse(text, Fraction::Optional).map(|(seconds, _)| Self(seconds))
    }

    /// Go's zero time, which is stored as null.
    pub fn is_zero(self) -> bool {
        self.0 == ZERO_SECONDS
    }
}

/// Cut to the second before; of times before the epoch nothing is left.
impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

impl MicroTime {
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub fn unix_micros(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 with exactly six digits of a second, as upstream demands.
    pub fn parse(text: &str) -> Result<Self, ParseTimeError> {
        parse(text, Fraction::Six).map(|(seconds, micros)| Self(seconds * 1_000_000 + micros))
    }

    pub fn is_zero(self) -> bool {
        self.0 == ZERO_SECONDS * 1_000_000
    }
}

/// Cut to the microsecond before; of times before the epoch nothing is left.
impl From<SystemTime> for MicroTime {
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0, f)?;
        f.write_str("Z")
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_seconds(self.0.div_euclid(1_000_000), f)?;
        write!(f, ".{:06}Z", self.0.rem_euclid(1_000_000))
    }
}

fn write_seconds(seconds: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(
        f,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
}

/// Days since the epoch of a date of the Gregorian calendar. Years are counted from March, in eras of 400.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days`]: year, month, day.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days(next_year, next, 1) - days(year, month, 1)
}

#[derive(Clone, Copy, PartialEq)]
enum Fraction {
    Optional,
    Six,
}

impl Fraction {
    fn layout(self) -> &'static str {
        match self {
            Self::Optional => "2006-01-02T15:04:05Z07:00",
            Self::Six => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// What is left of a text, and the text for errors.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn unlike(&self, wanted: &'static str) -> ParseTimeError {
        ParseTimeError::Layout {
            text: self.text.to_owned(),
            layout: self.layout,
            rest: self.rest.to_owned(),
            wanted,
        }
    }

    fn range(&self, what: &'static str) -> ParseTimeError {
        ParseTimeError::Range {
            text: self.text.to_owned(),
            what,
        }
    }

    fn number(&mut self, size: usize, wanted: &'static str) -> Result<i64, ParseTimeError> {
        let digits = self
            .rest
            .get(..size)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = digits.and_then(|digits| digits.parse().ok()) else {
            return Err(self.unlike(wanted));
        };
        self.rest = &self.rest[size..];
        Ok(number)
    }

    fn bounded(
        &mut self,
        wanted: &'static str,
        bounds: std::ops::RangeInclusive<i64>,
        what: &'static str,
    ) -> Result<i64, ParseTimeError> {
        let number = self.number(2, wanted)?;
        if bounds.contains(&number) {
            Ok(number)
        } else {
            Err(self.range(what))
        }
    }

    fn literal(&mut self, wanted: &'static str) -> Result<(), ParseTimeError> {
        self.rest = self
            .rest
            .strip_prefix(wanted)
            .ok_or_else(|| self.unlike(wanted))?;
        Ok(())
    }

    /// Microseconds.
    fn fraction(&mut self, fraction: Fraction) -> Result<i64, ParseTimeError> {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else {
            return if fraction == Fraction::Six {
                Err(self.unlike(".000000"))
            } else {
                Ok(0)
            };
        };
        let size = rest.bytes().take_while(u8::is_ascii_digit).count();
        if fraction == Fraction::Six && size < 6 {
            return Err(self.unlike(".000000"));
        }
        if fraction == Fraction::Optional && size == 0 {
            return Ok(0);
        }
        // Only six digits belong to the layout of a MicroTime; more are text that the zone cannot begin with.
        let taken = if fraction == Fraction::Six { 6 } else { size };
        let micros = rest[..taken].bytes().chain(std::iter::repeat(b'0')).take(6);
        self.rest = &rest[taken..];
        Ok(micros.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    /// Seconds east of Greenwich.
    fn zone(&mut self) -> Result<i64, ParseTimeError> {
        const ZONE: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.unlike(ZONE)),
        };
        let whole = self.rest;
        let unlike = |reader: &mut Self| {
            reader.rest = whole;
            reader.unlike(ZONE)
        };
        self.rest = &self.rest[1..];
        let hour = self.number(2, ZONE).map_err(|_| unlike(self))?;
        self.literal(":").map_err(|_| unlike(self))?;
        let minute = self.number(2, ZONE).map_err(|_| unlike(self))?;
        if hour > 24 {
            return Err(self.range("time zone offset hour"));
        }
        if minute > 60 {
            return Err(self.range("time zone offset minute"));
        }
        Ok(sign * (hour * 3600 + minute * 60))
    }
}

/// Seconds since the epoch, and microseconds.
fn parse(text: &str, fraction: Fraction) -> Result<(i64, i64), ParseTimeError> {
    let mut reader = Reader {
        text,
        rest: text,
        layout: fraction.layout(),
    };
    let year = reader.number(4, "2006")?;
    reader.literal("-")?;
    let month = reader.bounded("01", 1..=12, "month")?;
    reader.literal("-")?;
    let day = reader.number(2, "02")?;
    reader.literal("T")?;
    let hour = reader.bounded("15", 0..=23, "hour")?;
    reader.literal(":")?;
    let minute = reader.bounded("04", 0..=59, "minute")?;
    reader.literal(":")?;
    let second = reader.bounded("05", 0..=59, "second")?;
    let micros = reader.fraction(fraction)?;
    let offset = reader.zone()?;
    if !reader.rest.is_empty() {
        return Err(ParseTimeError::Extra {
            text: text.to_owned(),
            rest: reader.rest.to_owned(),
        });
    }
    if day < 1 || day > days_in_month(year, month) {
        return Err(reader.range("day"));
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    // Go takes it, and prints what nobody can read back.
    if !READABLE.contains(&seconds) {
        return Err(reader.range("year"));
    }
    Ok((seconds, micros))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_cut_to_seconds_and_moved_to_utc() {
        let check = |text: &str, printed: &str| assert_eq!(Time::parse(text).unwrap().to_string(), printed);
        check("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z");
        check("2024-03-01T01:00:00.999+02:00", "2024-02-29T23:00:00Z");
        check("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        assert!(Time::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        assert_eq!(Time::parse("1970-01-01T00:00:00Z").unwrap().unix(), 0);
    }

    #[test]
    fn the_systems_times_are_cut() {
        let at = |millis| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        assert_eq!(
            Time::from(at(951_782_400_999)).to_string(),
            "2000-02-29T00:00:00Z"
        );
        assert_eq!(
            MicroTime::from(at(1_795_357_330_120)).to_string(),
            "2026-11-22T14:22:10.120000Z"
        );
    }

    #[test]
    fn micro_times_have_six_digits() {
        let micro = MicroTime::parse("2024-01-01T00:00:00.000120Z").unwrap();
        assert_eq!(micro.to_string(), "2024-01-01T00:00:00.000120Z");
        assert!(MicroTime::parse("2024-01-01T00:00:00Z").is_err());
        assert!(MicroTime::parse("2024-01-01T00:00:00.12Z").is_err());
    }

    #[test]
    fn refusals_are_gos() {
        let check = |text: &str, said: &str| assert_eq!(Time::parse(text).unwrap_err().to_string(), said);
        check(
            "abc",
            r#"parsing time "abc" as "2006-01-02T15:04:05Z07:00": cannot parse "abc" as "2006""#,
        );
        check(
            "2024-01-01 00:00:00Z",
            r#"parsing time "2024-01-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T""#,
        );
        check(
            "2024-13-01T00:00:00Z",
            r#"parsing time "2024-13-01T00:00:00Z": month out of range"#,
        );
        check(
            "2023-02-29T00:00:00Z",
            r#"parsing time "2023-02-29T00:00:00Z": day out of range"#,
        );
        check(
            "9999-12-31T23:59:59-01:00",
            r#"parsing time "9999-12-31T23:59:59-01:00": year out of range"#,
        );
        assert!(Time::parse("9999-12-31T23:59:59Z").is_ok() && Time::parse("0000-01-01T00:00:00Z").is_ok());
        assert!(Time::parse("0000-01-01T00:00:00+00:01").is_err());
        check(
            "2024-01-01T00:00:00Zx",
            r#"parsing time "2024-01-01T00:00:00Zx": extra text: "x""#,
        );
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(seconds in ZERO_SECONDS..253_402_300_800) {
            prop_assert_eq!(Time::parse(&Time(seconds).to_string()), Ok(Time(seconds)));
            let micro = MicroTime(seconds * 1_000_000 + 7);
            prop_assert_eq!(MicroTime::parse(&micro.to_string()), Ok(micro));
        }

        #[test]
        fn no_text_panics(text in "[0-9TZ:.,+-]{0,36}|\\PC{0,30}") {
            let _ = Time::parse(&text);
            let _ = MicroTime::parse(&text);
        }
    }
}
