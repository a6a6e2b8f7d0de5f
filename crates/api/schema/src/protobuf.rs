//! Protobuf bodies into trees, driven by the tags of the table. Bodies come from clients: every length is checked.
//!
//! Source: the `k8s\0` envelope of `k8s.io/apimachinery/pkg/runtime/serializer/protobuf` and the messages of
//! `generated.proto`. Only decoding: answers are JSON.

mod special;
mod wire;

use std::collections::BTreeMap;

use cloudeck_machinery::value::Key;
use cloudeck_machinery::{Map, Value, json};

use crate::normalise::{TypeError, normalise};
use crate::type_of_kind;
use crate::types::{Field, Scalar, Shape, TypeRef};
use wire::{Content, Reader};

/// What stands before every protobuf body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deeply messages may nest, and trees made of them.
const MAX_DEPTH: usize = json::MAX_DEPTH;

/// What the envelope says its body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeMeta {
    /// `v1` or `apps/v1`.
    pub api_version: String,
    pub kind: String,
}

/// Why a protobuf body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    NoEnvelope,
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("unexpected EOF")]
    UnexpectedEnd,
    #[error("proto: illegal tag or wire type {0}")]
    IllegalTag(u64),
    #[error("proto: wrong wireType for field {0}")]
    WrongWireType(&'static str),
    #[error("proto: invalid UTF-8 in field {0}")]
    InvalidUtf8(&'static str),
    #[error("exceeded max depth of {MAX_DEPTH}")]
    TooDeep,
    #[error("unsupported content type {0:?} in the envelope")]
    ContentType(String),
    #[error("reading JSON inside a protobuf message")]
    Json(#[source] json::JsonError),
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// Reads an enveloped object of any known kind into its normalised tree.
pub fn decode_envelope(body: &[u8]) -> Result<(TypeMeta, Value), DecodeError> {
    let (meta, value) = envelope(body, 0)?;
    // A message in a list is one level of messages, but two of the tree.
    if value.is_deeper_than(MAX_DEPTH) {
        return Err(DecodeError::TooDeep);
    }
    Ok((meta, value))
}

fn envelope(body: &[u8], depth: usize) -> Result<(TypeMeta, Value), DecodeError> {
    let body = body.strip_prefix(MAGIC).ok_or(DecodeError::NoEnvelope)?;
    let mut meta = TypeMeta {
        api_version: String::new(),
        kind: String::new(),
    };
    let (mut raw, mut content_type): (&[u8], _) = (&[], String::new());
    for part in Reader::new(body) {
        let (tag, content) = part?;
        match tag {
            1 => read_type_meta(content.bytes("typeMeta")?, &mut meta)?,
            2 => raw = content.bytes("raw")?,
            4 => content.text("contentType")?.clone_into(&mut content_type),
            _ => {}
        }
    }
    let (group, version) = meta
        .api_version
        .split_once('/')
        .unwrap_or(("", &meta.api_version));
    let ty = type_of_kind(group, version, &meta.kind).ok_or_else(|| DecodeError::UnknownKind {
        api_version: meta.api_version.clone(),
        kind: meta.kind.clone(),
    })?;
    let mut value = match content_type.as_str() {
        "" | "application/vnd.kubernetes.protobuf" => message(ty, raw, depth)?,
        "application/json" => {
            json::parse_within(raw, MAX_DEPTH.saturating_sub(depth)).map_err(DecodeError::Json)?
        }
        _ => return Err(DecodeError::ContentType(content_type)),
    };
    normalise(ty, &mut value).map_err(|errors| errors.into_iter().next().expect("a failure has an error"))?;
    if let Value::Object(map) = &mut value
        && ty.is_kind()
    {
        map.insert("apiVersion", meta.api_version.as_str().into());
        map.insert("kind", meta.kind.as_str().into());
    }
    Ok((meta, value))
}

fn read_type_meta(bytes: &[u8], meta: &mut TypeMeta) -> Result<(), DecodeError> {
    for part in Reader::new(bytes) {
        match part? {
            (1, content) => content.text("apiVersion")?.clone_into(&mut meta.api_version),
            (2, content) => content.text("kind")?.clone_into(&mut meta.kind),
            _ => {}
        }
    }
    Ok(())
}

/// Reads one message of type `ty`, without an envelope. The tree holds what the message holds and is not normalised.
pub fn decode(ty: TypeRef, bytes: &[u8]) -> Result<Value, DecodeError> {
    message(ty, bytes, 0)
}

fn message(ty: TypeRef, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let mut map = Map::new();
    merge(ty, bytes, &mut map, depth)?;
    Ok(Value::Object(map))
}

/// Adds a message's fields to `map`: a repeated sub-message continues the one before it.
fn merge(ty: TypeRef, bytes: &[u8], map: &mut Map, depth: usize) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let mut members = BTreeMap::new();
    for part in Reader::new(bytes) {
        let (tag, content) = part?;
        if let Some(field) = ty.fields().find(|field| field.tag() == tag) {
            if let Shape::Map { value: member, .. } = field.ty().shape() {
                let member = entry(member, content.bytes(field.name())?, field.name(), depth)?;
                members.entry(field.name()).or_insert_with(Vec::new).push(member);
            } else {
                add(field, content, map.get_or_insert_null(field.name()), depth)?;
            }
        } else if let Some((_, inner)) = ty.inlined().find(|(inlined, _)| u32::from(*inlined) == tag) {
            merge(inner, content.bytes("inlined")?, map, depth + 1)?;
        }
    }
    // The members of a map all at once: there may be many, in any order.
    for (name, members) in members {
        let slot = map.get_or_insert_null(name);
        if slot.is_null() {
            *slot = Value::object();
        }
        slot.as_object_mut()
            .expect("a map field holds a map")
            .extend(members);
    }
    Ok(())
}

/// Adds one occurrence of a field that is no map to what stands there.
fn add(field: Field, content: Content<'_>, slot: &mut Value, depth: usize) -> Result<(), DecodeError> {
    let (ty, name) = (field.ty(), field.name());
    match ty.shape() {
        Shape::List { .. } if ty.wrapped() => {
            *slot = value(ty, content, name, depth)?;
        }
        Shape::List { item, .. } => {
            if slot.is_null() {
                *slot = Value::Array(Vec::new());
            }
            let items = slot.as_array_mut().expect("a list field holds a list");
            push(item, content, items, name, depth)?;
        }
        Shape::Struct { .. } => {
            if slot.is_null() {
                *slot = Value::object();
            }
            let map = slot.as_object_mut().expect("a struct field holds an object");
            merge(ty, content.bytes(name)?, map, depth + 1)?;
        }
        Shape::Scalar(_) | Shape::Any | Shape::Map { .. } => *slot = value(ty, content, name, depth)?,
    }
    Ok(())
}

/// Adds one occurrence of a repeated field; numbers may come packed.
fn push(
    item: TypeRef,
    content: Content<'_>,
    items: &mut Vec<Value>,
    name: &'static str,
    depth: usize,
) -> Result<(), DecodeError> {
    if let (Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool), Content::Bytes(packed)) =
        (item.shape(), content)
    {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            items.push(value(item, Content::Number(reader.varint()?), name, depth)?);
        }
    } else {
        items.push(value(item, content, name, depth)?);
    }
    Ok(())
}

fn entry(
    member: TypeRef,
    bytes: &[u8],
    name: &'static str,
    depth: usize,
) -> Result<(Key, Value), DecodeError> {
    let (mut key, mut found) = (Key::default(), None);
    for part in Reader::new(bytes) {
        match part? {
            (1, content) => key = content.text(name)?.into(),
            (2, content) => found = Some(value(member, content, name, depth + 1)?),
            _ => {}
        }
    }
    Ok((key, found.unwrap_or_default()))
}

fn value(ty: TypeRef, content: Content<'_>, name: &'static str, depth: usize) -> Result<Value, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    match ty.shape() {
        Shape::Scalar(scalar) => special::scalar(scalar, content, name),
        Shape::Any => special::untyped(ty, content.bytes(name)?, depth),
        Shape::Struct { .. } => message(ty, content.bytes(name)?, depth + 1),
        Shape::List { item, .. } => {
            // A list inside a map or list is a message with the one field `items`.
            let mut items = Vec::new();
            for part in Reader::new(content.bytes(name)?) {
                if let (1, content) = part? {
                    push(item, content, &mut items, name, depth + 1)?;
                }
            }
            Ok(Value::Array(items))
        }
        Shape::Map { value: member, .. } => {
            entry(member, content.bytes(name)?, name, depth).map(|(key, value)| {
                let mut map = Map::new();
                map.insert(key, value);
                Value::Object(map)
            })
        }
    }
}

#[cfg(test)]
mod tests;
