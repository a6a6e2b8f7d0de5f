//! Amounts of resources: `100m`, `1.5Gi`, `12e6`.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`. Held as nano-units, which is the finest step that upstream keeps.
//! Deviation: amounts beyond 1.7e29 are refused; upstream holds any number.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use compact_str::{CompactString, ToCompactString as _};

/// An amount and the family of suffixes in which it is printed. Compared by amount only.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `100m`, `5`, `2k`.
    #[default]
    DecimalSi,
    /// `64Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// Why a text is not a quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// As many digits as an `i128` has at most.
const MAX_DIGITS: usize = 39;
const NANOS: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [(&str, i32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Whole units: bytes, pods, cores.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANOS,
            format,
        }
    }

    /// Thousandths: millicores.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(milli) * (NANOS / 1000),
            format,
        }
    }

    /// Whole units, rounded away from zero, as upstream's `Value()`; saturates.
    pub fn value(self) -> i64 {
        saturate(divide_away(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero, as upstream's `MilliValue()`; saturates.
    pub fn milli_value(self) -> i64 {
        saturate(divide_away(self.nanos, NANOS / 1000))
    }

    /// The nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub fn format(self) -> Format {
        self.format
    }

    /// The amount times a number; saturates.
    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        Self {
            nanos: self.nanos.saturating_mul(factor.into()),
            ..self
        }
    }

    /// Not a whole number of units.
    pub fn is_fractional(self) -> bool {
        self.nanos % NANOS != 0
    }
}

/// The form in which upstream stores `text`: mostly canonical, but some texts are kept as they were written.
pub fn canonical(text: &str) -> Result<CompactString, QuantityError> {
    let parts = Parts::split(text)?;
    let quantity = parts.evaluate()?;
    if parts.is_kept() {
        Ok(text.into())
    } else {
        Ok(quantity.to_compact_string())
    }
}

/// A quantity taken apart, without its sign and leading zeros.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    base: i32,
    exponent: i32,
    format: Format,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let rest = rest.trim_start_matches('0');
        let (whole, rest) = split_digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        check_suffix(suffix)?;
        let (base, exponent, format) = suffix_value(suffix)?;
        Ok(Self {
            negative,
            whole,
            fraction,
            base,
            exponent,
            format,
        })
    }

    fn digits(&self) -> usize {
        self.whole.len().max(1) + self.fraction.len()
    }

    fn evaluate(&self) -> Result<Quantity, QuantityError> {
        // Leading zeros of the whole were stripped, and digits that no limit allows are not looked at.
        if self.whole.len() > MAX_DIGITS {
            return Err(QuantityError::Numeric);
        }
        let room = (MAX_DIGITS - 1).saturating_sub(self.whole.len());
        let fraction = &self.fraction[..self.fraction.len().min(room)];
        let lost = self.fraction[fraction.len()..].bytes().any(|digit| digit != b'0');
        let mantissa = self
            .whole
            .bytes()
            .chain(fraction.bytes())
            .try_fold(0_i128, |sum, digit| {
                sum.checked_mul(10)?.checked_add((digit - b'0').into())
            })
            .ok_or(QuantityError::Numeric)?;
        let mut power = 9 - fraction.len() as i32;
        let mut mantissa = mantissa;
        if self.base == 2 {
            // What overflows here is far beyond the cap.
            mantissa = mantissa.saturating_mul(1_i128 << self.exponent);
        } else {
            power = power.saturating_add(self.exponent);
        }
        match scale_up(mantissa, power, lost) {
            Err(_) if self.base == 2 => Ok(self.bounded(i128::MAX)),
            nanos => Ok(self.bounded(nanos?)),
        }
    }

    /// Binary amounts are capped, and those below one are printed as decimals.
    fn bounded(&self, mut nanos: i128) -> Quantity {
        let mut format = self.format;
        if format == Format::BinarySi {
            nanos = nanos.min(i128::from(i64::MAX) * NANOS);
            if nanos > 0 && nanos < NANOS {
                format = Format::DecimalSi;
            }
        }
        Quantity {
            nanos: if self.negative { -nanos } else { nanos },
            format,
        }
    }

    /// Whether upstream takes the text for canonical and stores it unchanged.
    fn is_kept(&self) -> bool {
        let value = |digits: &str| digits.parse::<i64>().unwrap_or(0);
        if self.base == 2 {
            let room = 14 - self.whole.len().max(1) as i32 - self.exponent * 3 / 10;
            return self.fraction.is_empty() && room >= 0 && value(self.whole) & 7 != 0;
        }
        let scale = self.exponent.saturating_sub(self.fraction.len() as i32);
        let last = if self.fraction.len() >= 3 {
            self.fraction.ends_with("000")
        } else {
            format!("{}{}", self.whole, self.fraction).ends_with("000")
        };
        self.digits() <= 18 && scale >= -9 && scale % 3 == 0 && !last && !self.whole.is_empty()
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Letters, an optional sign, digits.
fn check_suffix(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(QuantityError::Format)
    }
}

fn suffix_value(suffix: &str) -> Result<(i32, i32, Format), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((10, *exponent, Format::DecimalSi));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((2, *exponent, Format::BinarySi));
    }
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = digits.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((10, exponent, Format::DecimalExponent))
}

/// `mantissa × 10^power`, rounded up.
fn scale_up(mantissa: i128, power: i32, lost: bool) -> Result<i128, QuantityError> {
    if mantissa == 0 {
        return Ok(i128::from(lost));
    }
    if power >= 0 {
        let factor = u32::try_from(power)
            .ok()
            .and_then(|power| 10_i128.checked_pow(power));
        return factor
            .and_then(|factor| mantissa.checked_mul(factor))
            .ok_or(QuantityError::Numeric);
    }
    let Some(divisor) = 10_i128.checked_pow(power.unsigned_abs()) else {
        return Ok(1);
    };
    let exact = mantissa % divisor == 0 && !lost;
    Ok(mantissa / divisor + i128::from(!exact))
}

fn divide_away(nanos: i128, unit: i128) -> i128 {
    let quotient = nanos / unit;
    quotient + if nanos % unit == 0 { 0 } else { nanos.signum() }
}

fn saturate(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Parts::split(text)?.evaluate()
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.unsigned_abs() < 1024 * NANOS.unsigned_abs();
        if self.format == Format::BinarySi && !small && !self.is_fractional() {
            return write_binary(self.nanos / NANOS, f);
        }
        let (mut amount, mut exponent) = (self.nanos, -9);
        while amount % 10 == 0 {
            amount /= 10;
            exponent += 1;
        }
        // Down to a multiple of three; no suffix goes beyond E (upstream prints such amounts without any).
        let decimal = self.format != Format::DecimalExponent;
        while exponent % 3 != 0 || (decimal && exponent > 18) {
            amount *= 10;
            exponent -= 1;
        }
        match DECIMAL.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) if decimal => write!(f, "{amount}{suffix}"),
            _ if exponent == 0 => write!(f, "{amount}"),
            _ => write!(f, "{amount}e{exponent}"),
        }
    }
}

fn write_binary(mut amount: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut steps = 0;
    while amount % 1024 == 0 && amount.abs() >= 1024 && steps < BINARY.len() {
        amount /= 1024;
        steps += 1;
    }
    let suffix = if steps == 0 { "" } else { BINARY[steps - 1].0 };
    write!(f, "{amount}{suffix}")
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Zero takes the other's format; saturates.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format,
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests;
