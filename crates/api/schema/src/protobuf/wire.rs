//! The wire format: tags, varints, lengths.

use super::DecodeError;

/// The content of one occurrence of a field.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    pub(super) fn bytes(self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::WrongWireType(field)),
        }
    }

    pub(super) fn text(self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::InvalidUtf8(field))
    }

    pub(super) fn number(self, field: &'static str) -> Result<u64, DecodeError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(DecodeError::WrongWireType(field)),
        }
    }
}

/// Yields the fields of a message: tag and content.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::UnexpectedEnd)
    }

    fn take(&mut self, size: u64) -> Result<&'a [u8], DecodeError> {
        let size = usize::try_from(size).map_err(|_| DecodeError::UnexpectedEnd)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Content<'a>), DecodeError> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| DecodeError::IllegalTag(key))?;
        let content = match key & 7 {
            _ if tag == 0 => return Err(DecodeError::IllegalTag(key)),
            0 => Content::Number(self.varint()?),
            1 => Content::Fixed(little_endian(self.take(8)?)),
            2 => {
                let size = self.varint()?;
                Content::Bytes(self.take(size)?)
            }
            5 => Content::Fixed(little_endian(self.take(4)?)),
            _ => return Err(DecodeError::IllegalTag(key)),
        };
        Ok((tag, content))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Content<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
