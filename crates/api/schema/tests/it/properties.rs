//! Properties over random objects: each is grown from a type and a string of bytes, mostly right, sometimes wrong.

use cloudeck_machinery::{Map, Value, json};
use cloudeck_schema::{
    Scalar, Shape, TypeRef, apply_defaults, declarative_errors, normalise, protobuf, resources,
    unknown_fields, write_json,
};
use proptest::prelude::*;

/// Choices read from bytes; zeros when they run out, so that growth ends.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[usize::from(self.next()) % texts.len()]
    }
}

fn grow(ty: TypeRef, choices: &mut Choices<'_>, depth: usize) -> Value {
    match choices.next() {
        250.. => Value::Null,
        248.. => Value::from(choices.pick(&["", "x"])),
        246.. => Value::Int(choices.next().into()),
        _ if depth > 12 => Value::Null,
        _ => grow_shape(ty, choices, depth),
    }
}

fn grow_shape(ty: TypeRef, choices: &mut Choices<'_>, depth: usize) -> Value {
    match ty.shape() {
        Shape::Scalar(scalar) => grow_scalar(scalar, choices),
        Shape::Any => Value::from(vec![Value::Int(1), Value::Null]),
        Shape::List { item, .. } => {
            let size = choices.next() % 4;
            Value::Array((0..size).map(|_| grow(item, choices, depth + 1)).collect())
        }
        Shape::Map { value, .. } => {
            let size = choices.next() % 3;
            let members: Map = (0..size)
                .map(|i| (format!("k{i}"), grow(value, choices, depth + 1)))
                .collect();
            Value::Object(members)
        }
        Shape::Struct { .. } => {
            let mut members = Map::new();
            for field in ty.fields() {
                match choices.next() {
                    0..160 => {}
                    160..254 => drop(members.insert(field.name(), grow(field.ty(), choices, depth + 1))),
                    _ => drop(members.insert("unknownField", Value::Bool(true))),
                }
            }
            Value::Object(members)
        }
    }
}

fn grow_scalar(scalar: Scalar, choices: &mut Choices<'_>) -> Value {
    match scalar {
        Scalar::String => choices
            .pick(&["", "a", "Pending", "10.0.0.1", "\u{2028}<é>"])
            .into(),
        Scalar::Bool => Value::Bool(choices.next().is_multiple_of(2)),
        Scalar::Int32 | Scalar::Int64 => Value::Int(i64::from(choices.next()) - 100),
        Scalar::Float => Value::Float(f64::from(choices.next()) / 8.0),
        Scalar::Bytes => choices.pick(&["", "aGk=", "aGk", "aG\nk="]).into(),
        Scalar::Quantity => match choices.next() % 2 {
            0 => choices
                .pick(&["1000m", "0.5", "1024Mi", "-1", "1e3", "bad"])
                .into(),
            _ => Value::Float(f64::from(choices.next()) / 4.0),
        },
        Scalar::IntOrString => match choices.next() % 2 {
            0 => "25%".into(),
            _ => Value::Int(80),
        },
        Scalar::Time => choices
            .pick(&["2024-02-29T01:02:03.5+02:00", "0001-01-01T00:00:00Z", "bad"])
            .into(),
        Scalar::MicroTime => choices
            .pick(&["2024-02-29T01:02:03.000005Z", "2024-02-29T01:02:03Z"])
            .into(),
        Scalar::Duration => choices.pick(&["90s", "0", "-1.5h", "bad"]).into(),
    }
}

/// An object of a random kind.
fn any_object() -> impl Strategy<Value = (TypeRef, Value)> {
    let roots: Vec<TypeRef> = resources().filter_map(|info| info.root).collect();
    (
        prop::sample::select(roots),
        prop::collection::vec(any::<u8>(), 0..600),
    )
        .prop_map(|(ty, bytes)| {
            let value = grow_shape(ty, &mut Choices(bytes.iter()), 0);
            (ty, value)
        })
}

proptest! {
    #[test]
    fn what_is_normal_stays_as_it_is((ty, mut value) in any_object()) {
        if normalise(ty, &mut value).is_ok() {
            let mut again = value.clone();
            normalise(ty, &mut again).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert!(unknown_fields(ty, &value).is_empty());
        }
    }

    #[test]
    fn written_objects_read_back((ty, mut value) in any_object()) {
        if normalise(ty, &mut value).is_ok() {
            let mut text = Vec::new();
            write_json(Some(ty), &value, &mut text);
            let mut read = json::parse(&text).unwrap();
            // Whole floats are written without a point, as Go does.
            normalise(ty, &mut read).unwrap();
            prop_assert_eq!(read.to_string(), value.to_string());
        }
    }

    #[test]
    fn defaults_are_set_once((ty, mut value) in any_object()) {
        if normalise(ty, &mut value).is_ok() {
            apply_defaults(ty, &mut value);
            let mut again = value.clone();
            apply_defaults(ty, &mut again);
            prop_assert_eq!(again, value);
        }
    }

    #[test]
    fn an_update_that_changes_nothing_has_no_errors((ty, value) in any_object()) {
        prop_assert_eq!(declarative_errors(ty, &value, Some(&value)), []);
        // And none of this panics on what was never normalised.
        let _ = declarative_errors(ty, &value, None);
        let _ = unknown_fields(ty, &value);
    }

    #[test]
    fn no_bytes_make_the_protobuf_decoder_panic((ty, _) in any_object(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = protobuf::decode(ty, &bytes);
        let _ = protobuf::decode_envelope(&[protobuf::MAGIC.as_slice(), &bytes].concat());
    }
}
