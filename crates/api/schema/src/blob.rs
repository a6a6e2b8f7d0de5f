//! The reader of `tables/types.bin`; `xtask/src/codegen/blob.rs` writes it and documents the layout.

use std::ops::Range;

static TYPES: &[u8] = include_bytes!("../tables/types.bin");
static STRINGS: &str = include_str!("../tables/strings.txt");

const HEADER_SIZE: usize = 20;
const TYPE_SIZE: usize = 20;
const FIELD_SIZE: usize = 16;
const NOTE_SIZE: usize = 8;

/// Keys of notes: facts that few types or fields have.
pub(crate) mod note {
    pub(crate) const END: u16 = 0;
    pub(crate) const DEFAULT: u16 = 1;
    pub(crate) const MERGE_KEY: u16 = 2;
    pub(crate) const ENUM: u16 = 3;
    pub(crate) const LIST_KEY: u16 = 4;
    pub(crate) const RULE: u16 = 5;
    pub(crate) const INLINED: u16 = 6;
}

fn word(at: usize) -> u32 {
    let bytes = TYPES[at..at + 4].try_into().expect("four bytes were taken");
    u32::from_le_bytes(bytes)
}

fn half(at: usize) -> u16 {
    u16::from_le_bytes([TYPES[at], TYPES[at + 1]])
}

pub(crate) fn type_count() -> usize {
    word(4) as usize
}

/// How many of the first types are sorted by name.
pub(crate) fn sorted_count() -> usize {
    word(8) as usize
}

fn field_count() -> usize {
    word(12) as usize
}

/// The text that a string word stands for.
pub(crate) fn string(word: u32) -> &'static str {
    let at = (word >> 12) as usize;
    &STRINGS[at..at + (word & 0xFFF) as usize]
}

/// One type's record.
#[derive(Clone, Copy)]
pub(crate) struct TypeRecord(usize);

impl TypeRecord {
    pub(crate) fn new(index: u16) -> Self {
        Self(HEADER_SIZE + usize::from(index) * TYPE_SIZE)
    }

    pub(crate) fn name(self) -> &'static str {
        string(word(self.0))
    }

    pub(crate) fn kind(self) -> u8 {
        TYPES[self.0 + 4]
    }

    pub(crate) fn flags(self) -> u8 {
        TYPES[self.0 + 5]
    }

    /// The element's type, or the scalar's code.
    pub(crate) fn item(self) -> u16 {
        half(self.0 + 6)
    }

    pub(crate) fn first_field(self) -> u32 {
        word(self.0 + 8)
    }

    pub(crate) fn field_count(self) -> u32 {
        word(self.0 + 12)
    }

    pub(crate) fn notes(self) -> Notes {
        Notes(word(self.0 + 16) as usize)
    }
}

/// One field's record.
#[derive(Clone, Copy)]
pub(crate) struct FieldRecord(usize);

impl FieldRecord {
    pub(crate) fn new(index: u32) -> Self {
        Self(HEADER_SIZE + type_count() * TYPE_SIZE + index as usize * FIELD_SIZE)
    }

    pub(crate) fn name(self) -> &'static str {
        string(word(self.0))
    }

    pub(crate) fn ty(self) -> u16 {
        half(self.0 + 4)
    }

    pub(crate) fn flags(self) -> u16 {
        half(self.0 + 6)
    }

    pub(crate) fn tag(self) -> u32 {
        word(self.0 + 8)
    }

    pub(crate) fn notes(self) -> Notes {
        Notes(word(self.0 + 12) as usize)
    }
}

/// The number of the field called `name`, of the type with these fields.
pub(crate) fn field_by_name(fields: Range<u32>, name: &str) -> Option<u32> {
    let (slots, count) = (
        HEADER_SIZE + type_count() * TYPE_SIZE + field_count() * FIELD_SIZE,
        slot_count(),
    );
    let mut at = hash(fields.start, name);
    loop {
        at &= count - 1;
        let number = u32::from(half(slots + at * 2)).checked_sub(1)?;
        if fields.contains(&number) && FieldRecord::new(number).name() == name {
            return Some(number);
        }
        at += 1;
    }
}

fn slot_count() -> usize {
    (field_count() * 2).next_power_of_two()
}

/// FNV-1a over the name, begun with the number of the type's first field.
fn hash(first_field: u32, name: &str) -> usize {
    let begin = 0x811c_9dc5 ^ first_field.wrapping_mul(0x9e37_79b9);
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = name.bytes().fold(begin, step);
    (hash ^ (hash >> 15)) as usize
}

/// Where the notes begin.
fn notes_start() -> usize {
    HEADER_SIZE + type_count() * TYPE_SIZE + field_count() * FIELD_SIZE + slot_count() * 2
}

/// A run of notes: key, small number, value.
pub(crate) struct Notes(usize);

impl Notes {
    pub(crate) fn all(self, key: u16) -> impl Iterator<Item = (u16, u32)> {
        self.filter_map(move |(found, aux, value)| (found == key).then_some((aux, value)))
    }

    pub(crate) fn text(self, key: u16) -> Option<&'static str> {
        self.all(key).next().map(|(_, value)| string(value))
    }

    pub(crate) fn texts(self, key: u16) -> impl Iterator<Item = &'static str> {
        self.all(key).map(|(_, value)| string(value))
    }
}

impl Iterator for Notes {
    type Item = (u16, u16, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let at = notes_start() + self.0 * NOTE_SIZE;
        let key = half(at);
        if key == note::END {
            return None;
        }
        self.0 += 1;
        Some((key, half(at + 2), word(at + 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blob_has_the_size_that_its_header_says() {
        assert_eq!(&TYPES[..4], b"CKT2");
        assert_eq!(TYPES.len(), notes_start() + word(16) as usize * NOTE_SIZE);
    }

    #[test]
    fn the_sorted_types_are_sorted() {
        let names: Vec<_> = (0..sorted_count())
            .map(|at| TypeRecord::new(at as u16).name())
            .collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
