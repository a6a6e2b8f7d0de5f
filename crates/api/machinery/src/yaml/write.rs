//! The YAML writer: block style, lists not indented under their key, long texts folded, as `kubectl get -o yaml`.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::scalar;
use crate::value::{Key, Map, Value};

/// Lines are folded at the first space beyond this column.
const WIDTH: usize = 80;
/// Longer keys are written with a question mark, since readers may look no further for the colon.
const LONGEST_SIMPLE_KEY: usize = 128;

/// One document, ending in a newline.
pub fn write(value: &Value) -> String {
    let mut writer = Writer {
        out: String::with_capacity(1024),
    };
    match value {
        Value::Object(members) if !members.is_empty() => writer.map(members, 0),
        Value::Array(items) if !items.is_empty() => writer.list(items, 0),
        other => {
            // Further lines of a text must be indented, even here.
            writer.scalar(other, 2, false);
            writer.out.push('\n');
        }
    }
    writer.out
}

struct Writer {
    out: String,
}

impl Writer {
    /// Members at column `indent`, where the writer stands already for the first.
    fn map(&mut self, members: &Map, indent: usize) {
        let mut sorted: Vec<(&Key, &Value)> = members.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| natural_order(a, b));
        for (i, (key, value)) in sorted.into_iter().enumerate() {
            if i > 0 {
                self.pad(indent);
            }
            if key.len() > LONGEST_SIMPLE_KEY {
                self.out.push_str("? ");
                self.text(key, indent + 2, true);
                self.out.push('\n');
                self.pad(indent);
                self.out.push(':');
            } else {
                self.text(key, indent + 2, true);
                self.out.push(':');
            }
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.out.push('\n');
                    self.pad(indent + 2);
                    self.map(inner, indent + 2);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.out.push('\n');
                    self.pad(indent);
                    self.list(items, indent);
                }
                scalar => {
                    self.out.push(' ');
                    self.scalar(scalar, indent + 2, false);
                    self.out.push('\n');
                }
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.pad(indent);
            }
            self.out.push_str("- ");
            match item {
                Value::Object(inner) if !inner.is_empty() => self.map(inner, indent + 2),
                Value::Array(inner) if !inner.is_empty() => self.list(inner, indent + 2),
                scalar => {
                    self.scalar(scalar, indent + 2, false);
                    self.out.push('\n');
                }
            }
        }
    }

    fn pad(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// A scalar or an empty container; its further lines stand at `indent`.
    fn scalar(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::Object(_) => self.out.push_str("{}"),
            Value::Array(_) => self.out.push_str("[]"),
            Value::String(text) => self.text(text, indent, key),
            Value::Float(number) => self.out.push_str(&go_float(*number)),
            other => write!(self.out, "{other}").expect("a string takes any text"),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        let traits = Traits::of(text);
        if text.contains('\n') && !key && traits.block {
            self.literal(text, indent);
        } else if text.contains('\n') || !resolves_to_itself(text) {
            self.double_quoted(text, indent, key);
        } else if traits.plain {
            self.folded(text, indent, key, false);
        } else if traits.single_quoted {
            self.out.push('\'');
            self.folded(text, indent, key, true);
            self.out.push('\'');
        } else {
            self.double_quoted(text, indent, key);
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        if !text.ends_with('\n') {
            self.out.push('-');
        } else if text.len() == 1 || text.ends_with("\n\n") {
            self.out.push('+');
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.pad(indent);
                self.out.push_str(line);
            }
        }
    }

    fn column(&self) -> usize {
        self.out
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count())
    }

    /// A plain or single-quoted text: breaks where a space stands alone beyond the width.
    fn folded(&mut self, text: &str, indent: usize, key: bool, quoted: bool) {
        let mut column = self.column();
        let mut chars = text.char_indices().peekable();
        let mut after_space = false;
        while let Some((at, c)) = chars.next() {
            let next_is_space = chars.peek().is_some_and(|(_, next)| *next == ' ');
            let inside = !quoted || (at > 0 && at + 1 < text.len());
            if c == ' ' && !key && !after_space && column > WIDTH && inside && !next_is_space {
                self.out.push('\n');
                self.pad(indent);
                column = indent;
            } else {
                self.out.push(c);
                column += 1;
                if c == '\'' && quoted {
                    self.out.push('\'');
                    column += 1;
                }
            }
            after_space = c == ' ';
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, key: bool) {
        self.out.push('"');
        let mut column = self.column();
        let mut chars = text.char_indices().peekable();
        let mut after_space = false;
        while let Some((at, c)) = chars.next() {
            let before = self.out.len();
            if c == ' ' && !key && !after_space && column > WIDTH && at > 0 && at + 1 < text.len() {
                self.out.push('\n');
                self.pad(indent);
                column = indent;
                if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                    self.out.push('\\');
                    column += 1;
                }
            } else {
                push_escaped(&mut self.out, c);
                column += self.out[before..].chars().count();
            }
            after_space = c == ' ';
        }
        self.out.push('"');
    }
}

fn push_escaped(out: &mut String, c: char) {
    let short = match c {
        '\0' => "\\0",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{b}' => "\\v",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        '\u{1b}' => "\\e",
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{85}' => "\\N",
        '\u{a0}' => "\\_",
        '\u{2028}' => "\\L",
        '\u{2029}' => "\\P",
        c if is_printable(c) => return out.push(c),
        c => {
            let code = u32::from(c);
            let written = match code {
                0..=0xff => write!(out, "\\x{code:02X}"),
                0x100..=0xffff => write!(out, "\\u{code:04X}"),
                _ => write!(out, "\\U{code:08X}"),
            };
            return written.expect("a string takes any text");
        }
    };
    out.push_str(short);
}

/// What a text may be written as.
struct Traits {
    plain: bool,
    single_quoted: bool,
    block: bool,
}

impl Traits {
    fn of(text: &str) -> Self {
        let special = text.chars().any(|c| c != '\n' && !is_printable(c)) || text.contains(" \n");
        let edge = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let break_space = text.contains("\n ");
        Self {
            plain: !special && !edge && !break_space && !text.is_empty() && !has_indicators(text),
            single_quoted: !special && !break_space,
            block: !special && !text.ends_with(' '),
        }
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{feff}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a text holds what means something to YAML in block style.
fn has_indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let bytes = text.as_bytes();
    let blank = |at: usize| {
        bytes
            .get(at)
            .is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
    };
    match bytes[0] {
        b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"' | b'%'
        | b'@' | b'`' => return true,
        b'-' | b'?' | b':' if blank(1) => return true,
        _ => {}
    }
    (1..bytes.len()).any(|at| match bytes[at] {
        b':' => blank(at + 1),
        b'#' => blank(at - 1),
        _ => false,
    })
}

/// Whether a plain text reads back as a text; times in base 60 are quoted for the sake of other readers, and the merge
/// key, which upstream forgets, for the sake of our own.
fn resolves_to_itself(text: &str) -> bool {
    if text == "<<" {
        return false;
    }
    scalar::plain_value(text).as_str().is_some() && !is_timestamp(text) && !is_base_60(text)
}

/// `2001-02-03`, `2001-02-03T04:05:06Z`: the library would take them for times.
fn is_timestamp(text: &str) -> bool {
    let digits = |text: &str, range: std::ops::RangeInclusive<usize>| {
        range.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let date_fits = parts.next().is_some_and(|year| digits(year, 4..=4))
        && parts.next().is_some_and(|month| digits(month, 1..=2))
        && parts.next().is_some_and(|day| digits(day, 1..=2))
        && parts.next().is_none();
    let Some(time) = time.filter(|_| date_fits) else {
        return date_fits;
    };
    let zoned = !text.contains(' ');
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], &time[at..]),
        None => (time, ""),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let clock_fits = clock.split(':').count() == 3 && clock.split(':').all(|part| digits(part, 1..=2));
    let zone_fits = match zone {
        "" => !zoned,
        "Z" => zoned,
        zone => {
            zoned && zone[1..].split(':').count() == 2 && zone[1..].split(':').all(|part| digits(part, 2..=2))
        }
    };
    clock_fits && zone_fits && digits(fraction, 1..=9)
}

/// `[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?`
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let first_fits = first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let mut rest = parts.peekable();
    let part_fits = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    first_fits
        && rest.peek().is_some()
        && rest.all(part_fits)
        && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// Go's `%g` with the fewest digits.
fn go_float(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The library's order of keys: letters after everything else, runs of digits by their number.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(l, r)| l != r) else {
        return left.len().cmp(&right.len());
    };
    let (l, r) = (left[at], right[at]);
    match (l.is_alphabetic(), r.is_alphabetic()) {
        (true, true) => return l.cmp(&r),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero counts for nothing at the start of a number, and for a digit inside one.
    let before = left[..at].iter().rev().take_while(|c| c.is_numeric());
    let inside = (l == '0' || r == '0') && before.into_iter().any(|c| *c != '0');
    let number = |chars: &[char]| -> (i64, usize) {
        let digits: Vec<i64> = chars[at..]
            .iter()
            .map_while(|c| c.to_digit(10))
            .map(i64::from)
            .collect();
        let start = i64::from(inside);
        (
            digits
                .iter()
                .fold(start, |sum, digit| sum.wrapping_mul(10).wrapping_add(*digit)),
            digits.len(),
        )
    };
    number(&left).cmp(&number(&right)).then(l.cmp(&r))
}
