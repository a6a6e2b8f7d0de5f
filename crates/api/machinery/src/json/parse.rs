//! The JSON parser.

use compact_str::CompactString;

use crate::path::FieldPath;
use crate::value::{Key, Map, Value};

/// How deeply arrays and objects may nest in what a client sends and in what is stored: far beyond real objects, and
/// well within a worker's stack.
pub const MAX_DEPTH: usize = 200;

/// How deeply a text may nest that is only read: what is stored can always be read again, also as an item of a list.
/// Twice as deep as what may be written, and still less than half of a worker's stack of 2 MiB in an unoptimised build.
pub const MAX_READ_DEPTH: usize = 2 * MAX_DEPTH;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("unexpected end of JSON input")]
    UnexpectedEnd,
    #[error("invalid character {found:?} {wanted} at offset {offset}")]
    Unexpected {
        found: char,
        wanted: &'static str,
        offset: usize,
    },
    #[error("invalid UTF-8 in string at offset {offset}")]
    InvalidUtf8 { offset: usize },
    #[error("exceeded max depth of {limit} at offset {offset}")]
    TooDeep { limit: usize, offset: usize },
}

/// Parses one JSON value, at most [`MAX_READ_DEPTH`] deep; of duplicate members the last wins.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    parse_within(text, MAX_READ_DEPTH)
}

/// As [`parse`], at most `limit` deep: for a part of something that has a limit as a whole.
pub fn parse_within(text: &[u8], limit: usize) -> Result<Value, JsonError> {
    read(text, limit.min(MAX_READ_DEPTH), &mut Vec::new())
}

/// Parses what a client sends, at most [`MAX_DEPTH`] deep, and appends the path of every duplicate member to
/// `duplicates`.
pub fn parse_reporting(text: &[u8], duplicates: &mut Vec<String>) -> Result<Value, JsonError> {
    read(text, MAX_DEPTH, duplicates)
}

fn read(text: &[u8], limit: usize, duplicates: &mut Vec<String>) -> Result<Value, JsonError> {
    let mut parser = Parser {
        text,
        limit,
        valid: std::str::from_utf8(text).ok(),
        at: 0,
        duplicates,
        here: Vec::new(),
        entries: Vec::new(),
    };
    parser.skip_space();
    let value = parser.value()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.unexpected("after top-level value")),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    /// The text, when all of it is UTF-8: then its strings need no check.
    valid: Option<&'a str>,
    at: usize,
    limit: usize,
    duplicates: &'a mut Vec<String>,
    here: Vec<Step>,
    /// The members read so far of all open objects, so that each object is allocated once, in its size.
    entries: Vec<(Key, Value)>,
}

enum Step {
    Member(Key),
    Index(usize),
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &'static str) -> JsonError {
        match self.text.get(self.at) {
            None => JsonError::UnexpectedEnd,
            Some(&byte) => JsonError::Unexpected {
                found: byte.into(),
                wanted,
                offset: self.at,
            },
        }
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn word(&mut self, word: &'static [u8], value: Value) -> Result<Value, JsonError> {
        for &byte in word {
            if self.peek() != Some(byte) {
                return Err(self.unexpected("in literal"));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn enter(&mut self, step: Step) -> Result<(), JsonError> {
        if self.here.len() >= self.limit {
            return Err(JsonError::TooDeep {
                limit: self.limit,
                offset: self.at,
            });
        }
        self.here.push(step);
        Ok(())
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        let mine = self.entries.len();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(Map::new()));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.skip_space();
            self.enter(Step::Member(key))?;
            let value = self.value()?;
            if let Some(Step::Member(key)) = self.here.pop() {
                self.entries.push((key, value));
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
        self.at += 1;
        let entries = self.entries.drain(mine..).collect();
        let Self { here, duplicates, .. } = self;
        Ok(Value::Object(Map::from_unsorted(entries, |key| {
            duplicates.push(render(here, key));
        })))
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.skip_space();
            self.enter(Step::Index(items.len()))?;
            items.push(self.value()?);
            self.here.pop();
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("after array element")),
            }
        }
        self.at += 1;
        Ok(Value::Array(items))
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let mut integral = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            integral = false;
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integral = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).expect("digits and signs are ASCII");
        if integral && let Ok(number) = text.parse::<i64>() {
            return Ok(Value::Int(number));
        }
        let number: f64 = text
            .parse()
            .expect("the grammar above is a subset of Rust's floats");
        if number.is_finite() {
            Ok(Value::Float(number))
        } else {
            Err(JsonError::Unexpected {
                found: text.chars().next().unwrap_or('-'),
                wanted: "in a number out of range",
                offset: start,
            })
        }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected("in numeric literal"));
        }
        self.digits();
        Ok(())
    }

    fn string(&mut self) -> Result<CompactString, JsonError> {
        self.at += 1;
        let start = self.at;
        self.skip_plain();
        match self.peek() {
            Some(b'"') => {
                let plain = CompactString::new(self.utf8(start, self.at)?);
                self.at += 1;
                Ok(plain)
            }
            Some(b'\\') => self.escaped_string(start),
            _ => Err(self.unexpected("in string literal")),
        }
    }

    /// To the next byte that means something in a string.
    fn skip_plain(&mut self) {
        let rest = &self.text[self.at..];
        let plain = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0x00..=0x1F));
        self.at += plain.unwrap_or(rest.len());
    }

    fn utf8(&self, start: usize, end: usize) -> Result<&str, JsonError> {
        if let Some(part) = self.valid.and_then(|text| text.get(start..end)) {
            return Ok(part);
        }
        std::str::from_utf8(&self.text[start..end]).map_err(|e| JsonError::InvalidUtf8 {
            offset: start + e.valid_up_to(),
        })
    }

    fn escaped_string(&mut self, start: usize) -> Result<CompactString, JsonError> {
        let mut out = self.utf8(start, self.at)?.to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(CompactString::from(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(0x00..=0x1F) | None => return Err(self.unexpected("in string literal")),
                Some(_) => {
                    let from = self.at;
                    self.skip_plain();
                    out.push_str(self.utf8(from, self.at)?);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let simple = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(simple)
    }

    /// As Go: an unpaired surrogate becomes U+FFFD.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if (0xD800..0xDC00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// The path of a duplicate as upstream prints it: `spec.containers[0].name`.
fn render(here: &[Step], key: &str) -> String {
    let parent = here.iter().fold(FieldPath::root(), |path, step| match step {
        Step::Member(name) => path.child(name),
        Step::Index(index) => path.index(*index),
    });
    parent.child(key).as_str().to_owned()
}
