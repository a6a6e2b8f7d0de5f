//! The binary form of the type table. `crates/api/schema/src/blob.rs` reads it; the two change together.
//!
//! Little-endian. Header: magic, number of types, of sorted types, of fields, of notes. Then 20-byte types, 16-byte
//! fields, a hash table of fields, and 8-byte notes.
//! The hash table has 2-byte slots, a power of two and at least twice the number of fields: a field's number plus one, or 0;
//! a field stands at the [`hash`] of its type's first field and its name, or in the next free slot.
//! A string is one word: offset into `strings.txt` (20 bits) and length (12 bits).

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};

use super::model::{Field, ListKind, Model, Scalar, Shape, Type};

pub(super) struct Blob {
    pub(super) types: Vec<u8>,
    pub(super) strings: String,
}

const MAGIC: &[u8; 4] = b"CKT2";

mod note {
    pub(super) const END: u16 = 0;
    pub(super) const DEFAULT: u16 = 1;
    pub(super) const MERGE_KEY: u16 = 2;
    pub(super) const ENUM: u16 = 3;
    pub(super) const LIST_KEY: u16 = 4;
    pub(super) const RULE: u16 = 5;
    pub(super) const INLINED: u16 = 6;
}

#[derive(Default)]
struct Writer {
    strings: String,
    known: HashMap<String, u32>,
    fields: Vec<u8>,
    /// Of each field, what [`hash`] says.
    hashes: Vec<usize>,
    notes: Vec<u8>,
    field_count: u32,
}

pub(super) fn write(model: &Model) -> Result<Blob> {
    let mut writer = Writer::default();
    writer.note(note::END, 0, 0);
    let mut types = Vec::new();
    for ty in &model.types {
        writer.write_type(ty, &mut types)?;
    }
    let mut out = MAGIC.to_vec();
    for count in [
        model.types.len() as u32,
        model.sorted as u32,
        writer.field_count,
        (writer.notes.len() / 8) as u32,
    ] {
        out.extend(count.to_le_bytes());
    }
    let slots = slots(&writer.hashes)?;
    for section in [&types, &writer.fields, &slots, &writer.notes] {
        out.extend(section);
    }
    Ok(Blob {
        types: out,
        strings: writer.strings,
    })
}

fn slots(hashes: &[usize]) -> Result<Vec<u8>> {
    let mut slots = vec![0_u16; (hashes.len() * 2).next_power_of_two()];
    for (number, hash) in hashes.iter().enumerate() {
        let mut at = hash & (slots.len() - 1);
        while slots[at] != 0 {
            at = (at + 1) & (slots.len() - 1);
        }
        slots[at] = u16::try_from(number + 1).context("too many fields")?;
    }
    Ok(slots.into_iter().flat_map(u16::to_le_bytes).collect())
}

/// FNV-1a over the name, begun with the number of the type's first field.
fn hash(first_field: u32, name: &str) -> usize {
    let begin = 0x811c_9dc5 ^ first_field.wrapping_mul(0x9e37_79b9);
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = name.bytes().fold(begin, step);
    (hash ^ (hash >> 15)) as usize
}

impl Writer {
    fn string(&mut self, text: &str) -> Result<u32> {
        if let Some(&known) = self.known.get(text) {
            return Ok(known);
        }
        let at = self.strings.find(text).unwrap_or(self.strings.len());
        if at == self.strings.len() {
            self.strings.push_str(text);
        }
        ensure!(
            at < 1 << 20 && text.len() < 1 << 12,
            "the string pool is full at {text:?}"
        );
        let word = (at as u32) << 12 | text.len() as u32;
        self.known.insert(text.to_owned(), word);
        Ok(word)
    }

    fn note(&mut self, key: u16, aux: u16, value: u32) {
        self.notes.extend(key.to_le_bytes());
        self.notes.extend(aux.to_le_bytes());
        self.notes.extend(value.to_le_bytes());
    }

    /// Writes notes and their end; 0 when there are none.
    fn notes(&mut self, notes: Vec<(u16, u16, u32)>) -> u32 {
        if notes.is_empty() {
            return 0;
        }
        let at = (self.notes.len() / 8) as u32;
        for (key, aux, value) in notes {
            self.note(key, aux, value);
        }
        self.note(note::END, 0, 0);
        at
    }

    fn write_type(&mut self, ty: &Type, out: &mut Vec<u8>) -> Result<()> {
        let mut notes = Vec::new();
        let (kind, item, mut flags) = match &ty.shape {
            Shape::Scalar(scalar) => (0_u8, scalar_code(*scalar), 0_u8),
            Shape::List { item, kind } => (1, *item as u16, self.list_flags(kind, &mut notes)?),
            Shape::Map { value, atomic } => (2, *value as u16, u8::from(*atomic)),
            Shape::Struct { atomic } => (3, 0, u8::from(*atomic)),
            Shape::Any => (4, 0, 0),
        };
        flags |= u8::from(ty.wrapped) << 3 | u8::from(ty.is_kind) << 4;
        for value in &ty.enum_values {
            notes.push((note::ENUM, 0, self.string(value)?));
        }
        for rule in &ty.rules {
            notes.push((note::RULE, 0, self.string(rule)?));
        }
        notes.extend(
            ty.inlined
                .iter()
                .map(|(tag, inner)| (note::INLINED, *tag, *inner as u32)),
        );
        let notes = self.notes(notes);
        ensure!(ty.fields.len() < 256, "{} has too many fields", ty.name);
        out.extend(self.string(&ty.name)?.to_le_bytes());
        out.extend([kind, flags]);
        out.extend(item.to_le_bytes());
        out.extend(self.field_count.to_le_bytes());
        out.extend((ty.fields.len() as u32).to_le_bytes());
        out.extend(notes.to_le_bytes());
        self.write_fields(&ty.fields)
    }

    fn list_flags(&mut self, kind: &ListKind, notes: &mut Vec<(u16, u16, u32)>) -> Result<u8> {
        Ok(match kind {
            ListKind::Atomic => 0,
            ListKind::Set => 1 << 1,
            ListKind::Map(keys) => {
                for key in keys {
                    notes.push((note::LIST_KEY, 0, self.string(key)?));
                }
                2 << 1
            }
        })
    }

    fn write_fields(&mut self, fields: &[Field]) -> Result<()> {
        for field in fields {
            self.write_field(field)?;
        }
        let first = self.field_count;
        self.hashes
            .extend(fields.iter().map(|field| hash(first, &field.name)));
        self.field_count += fields.len() as u32;
        Ok(())
    }

    fn write_field(&mut self, field: &Field) -> Result<()> {
        let mut notes = Vec::new();
        if let Some(default) = &field.default {
            notes.push((note::DEFAULT, 0, self.string(default)?));
        }
        if !field.merge_key.is_empty() {
            notes.push((note::MERGE_KEY, 0, self.string(&field.merge_key)?));
        }
        for rule in &field.rules {
            notes.push((note::RULE, 0, self.string(rule)?));
        }
        let notes = self.notes(notes);
        let patch = |word: &str| field.patch.iter().any(|strategy| strategy == word);
        let flags = [
            field.pointer,
            field.omit_empty,
            field.omit_zero,
            field.required,
            patch("merge"),
            patch("replace"),
            patch("retainKeys"),
            field.leads_to_rules,
            field.leads_to_defaults,
        ];
        let flags = flags
            .iter()
            .enumerate()
            .fold(0_u16, |all, (bit, set)| all | u16::from(*set) << bit);
        let name = self.string(&field.name)?;
        self.fields.extend(name.to_le_bytes());
        self.fields.extend((field.ty as u16).to_le_bytes());
        self.fields.extend(flags.to_le_bytes());
        self.fields.extend(u32::from(field.tag).to_le_bytes());
        self.fields.extend(notes.to_le_bytes());
        Ok(())
    }
}

fn scalar_code(scalar: Scalar) -> u16 {
    match scalar {
        Scalar::String => 0,
        Scalar::Bool => 1,
        Scalar::Int32 => 2,
        Scalar::Int64 => 3,
        Scalar::Float => 4,
        Scalar::Bytes => 5,
        Scalar::Quantity => 6,
        Scalar::IntOrString => 7,
        Scalar::Time => 8,
        Scalar::MicroTime => 9,
        Scalar::Duration => 10,
    }
}
