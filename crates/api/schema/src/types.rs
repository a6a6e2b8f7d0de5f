//! Handles into the table of types.

use std::fmt;

use crate::blob::{self, FieldRecord, TypeRecord, note};

/// A type of the API: a struct, a list, a map, a scalar. A number; everything else is read from the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeRef(u16);

/// What a type is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Scalar(Scalar),
    List {
        item: TypeRef,
        kind: ListKind,
    },
    Map {
        value: TypeRef,
        atomic: bool,
    },
    Struct {
        atomic: bool,
    },
    /// Untyped: RawExtension, JSON, FieldsV1, the cells of a Table.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    String,
    Bool,
    Int32,
    Int64,
    Float,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
}

/// How apply merges a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    Map(ListKeys),
}

/// The keys of a list of kind map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListKeys(TypeRef);

impl ListKeys {
    /// Each key's name and the JSON text of its default.
    pub fn iter(self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let item = TypeRef(self.0.record().item());
        self.0
            .record()
            .notes()
            .texts(note::LIST_KEY)
            .map(move |key| (key, item.field(key).and_then(Field::default)))
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.record().notes().texts(note::LIST_KEY)
    }
}

const FLAG_ATOMIC: u8 = 1;
const FLAG_WRAPPED: u8 = 1 << 3;
const FLAG_KIND: u8 = 1 << 4;

impl TypeRef {
    /// The struct or scalar called `name`, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn by_name(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, blob::sorted_count());
        while low < high {
            let middle = usize::midpoint(low, high);
            match TypeRecord::new(middle as u16).name().cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Self(middle as u16)),
            }
        }
        None
    }

    /// Every type of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..blob::type_count()).map(|index| Self(index as u16))
    }

    /// OpenAPI's name of a declared type, such as `io.k8s.api.core.v1.PodSpec`; empty for lists, maps and plain scalars.
    pub fn name(self) -> &'static str {
        self.record().name()
    }

    pub fn shape(self) -> Shape {
        let record = self.record();
        let atomic = record.flags() & FLAG_ATOMIC != 0;
        match record.kind() {
            0 => Shape::Scalar(scalar(record.item())),
            1 => Shape::List {
                item: Self(record.item()),
                kind: self.list_kind(),
            },
            2 => Shape::Map {
                value: Self(record.item()),
                atomic,
            },
            3 => Shape::Struct { atomic },
            _ => Shape::Any,
        }
    }

    fn list_kind(self) -> ListKind {
        match (self.record().flags() >> 1) & 3 {
            0 => ListKind::Atomic,
            1 => ListKind::Set,
            _ => ListKind::Map(ListKeys(self)),
        }
    }

    /// The JSON fields of a struct, in the order in which Go encodes them. Inlined structs are flattened.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> + use<> {
        let record = self.record();
        let first = record.first_field();
        (first..first + record.field_count()).map(Field)
    }

    /// The field of this exact name (Kubernetes' JSON is case-sensitive).
    pub fn field(self, json_name: &str) -> Option<Field> {
        let record = self.record();
        let first = record.first_field();
        blob::field_by_name(first..first + record.field_count(), json_name).map(Field)
    }

    /// Has `apiVersion` and `kind`.
    pub fn is_kind(self) -> bool {
        self.record().flags() & FLAG_KIND != 0
    }

    /// The closed set of values of an enumerated string, sorted; empty for others.
    pub fn enum_values(self) -> impl Iterator<Item = &'static str> {
        self.record().notes().texts(note::ENUM)
    }

    /// Declarative validation rules on the type, as upstream's markers write them.
    pub fn rules(self) -> impl Iterator<Item = &'static str> {
        self.record().notes().texts(note::RULE)
    }

    /// The item of a list or the value of a map.
    pub fn element(self) -> Option<TypeRef> {
        match self.shape() {
            Shape::List { item, .. } => Some(item),
            Shape::Map { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Protobuf sub-messages whose fields stand inline in JSON: tag and type.
    pub(crate) fn inlined(self) -> impl Iterator<Item = (u16, TypeRef)> {
        self.record()
            .notes()
            .all(note::INLINED)
            .map(|(tag, inner)| (tag, TypeRef(inner as u16)))
    }

    /// A list that protobuf wraps into a message with the one field `items`.
    pub(crate) fn wrapped(self) -> bool {
        self.record().flags() & FLAG_WRAPPED != 0
    }

    fn record(self) -> TypeRecord {
        TypeRecord::new(self.0)
    }
}

fn scalar(code: u16) -> Scalar {
    const ALL: [Scalar; 11] = [
        Scalar::String,
        Scalar::Bool,
        Scalar::Int32,
        Scalar::Int64,
        Scalar::Float,
        Scalar::Bytes,
        Scalar::Quantity,
        Scalar::IntOrString,
        Scalar::Time,
        Scalar::MicroTime,
        Scalar::Duration,
    ];
    ALL[usize::from(code)]
}

impl fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeRef({} {:?})", self.0, self.name())
    }
}

/// When Go's encoder leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    Never,
    /// `omitempty`: false, 0, "", null, and lists and maps without members; structs never.
    Empty,
    /// `omitzero`: as [`Omit::Empty`], and a struct or time that is its zero value.
    Zero,
}

/// A field of a struct. A number; everything else is read from the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field(u32);

impl Field {
    pub fn name(self) -> &'static str {
        self.record().name()
    }

    /// Grows in Go's order within a type.
    pub(crate) fn position(self) -> usize {
        self.0 as usize
    }

    pub fn ty(self) -> TypeRef {
        TypeRef(self.record().ty())
    }

    /// A pointer in Go: told apart from its zero value.
    pub fn pointer(self) -> bool {
        self.has(1)
    }

    pub fn omit(self) -> Omit {
        if self.has(1 << 2) {
            Omit::Zero
        } else if self.has(1 << 1) {
            Omit::Empty
        } else {
            Omit::Never
        }
    }

    pub(crate) fn omits_empty(self) -> bool {
        self.has(1 << 1)
    }

    pub(crate) fn omits_zero(self) -> bool {
        self.has(1 << 2)
    }

    /// Listed as required in OpenAPI.
    pub fn required(self) -> bool {
        self.has(1 << 3)
    }

    /// Strategic merge patch: lists are merged by [`Field::patch_merge_key`], or as sets without one.
    pub fn patch_merge(self) -> bool {
        self.has(1 << 4)
    }

    pub fn patch_replace(self) -> bool {
        self.has(1 << 5)
    }

    pub fn patch_retain_keys(self) -> bool {
        self.has(1 << 6)
    }

    /// Rules stand on the field or on what it holds, at any depth.
    pub(crate) fn leads_to_rules(self) -> bool {
        self.has(1 << 7)
    }

    /// Defaults stand on the field or on what it holds, at any depth.
    pub(crate) fn leads_to_defaults(self) -> bool {
        self.has(1 << 8)
    }

    pub fn patch_merge_key(self) -> Option<&'static str> {
        self.record().notes().text(note::MERGE_KEY)
    }

    /// The JSON text of the `+default=` marker. (Most defaults are code upstream, not markers.)
    pub fn default(self) -> Option<&'static str> {
        self.record().notes().text(note::DEFAULT)
    }

    /// The protobuf tag; 0 for fields that are not in this message (inlined, or kept in the envelope).
    pub fn tag(self) -> u32 {
        self.record().tag()
    }

    /// Declarative validation rules, as upstream's markers write them: `k8s:maxItems=32`.
    pub fn rules(self) -> impl Iterator<Item = &'static str> {
        self.record().notes().texts(note::RULE)
    }

    fn has(self, flag: u16) -> bool {
        self.record().flags() & flag != 0
    }

    fn record(self) -> FieldRecord {
        FieldRecord::new(self.0)
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({} {:?})", self.name(), self.ty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str) -> TypeRef {
        TypeRef::by_name(name).unwrap()
    }

    #[test]
    fn a_container_has_its_fields_in_gos_order_with_their_facts() {
        let container = ty("io.k8s.api.core.v1.Container");
        let names: Vec<_> = container.fields().take(4).map(Field::name).collect();
        assert_eq!(names, ["name", "image", "command", "args"]);
        let ports = container.field("ports").unwrap();
        assert!(ports.patch_merge());
        assert_eq!(ports.patch_merge_key(), Some("containerPort"));
        let Shape::List {
            kind: ListKind::Map(keys),
            ..
        } = ports.ty().shape()
        else {
            panic!("not a list map")
        };
        assert_eq!(
            keys.iter().collect::<Vec<_>>(),
            [("containerPort", None), ("protocol", Some("\"TCP\""))]
        );
        assert!(container.field("Name").is_none());
    }

    #[test]
    fn every_field_is_found_by_its_name_in_its_own_type_only() {
        for ty in TypeRef::all() {
            for field in ty.fields() {
                assert_eq!(ty.field(field.name()), Some(field));
            }
            assert_eq!(ty.field("no such field"), None);
        }
        assert_eq!(ty("io.k8s.api.core.v1.Secret").field("containers"), None);
    }

    #[test]
    fn inlined_structs_are_flattened_and_known_to_protobuf() {
        let volume = ty("io.k8s.api.core.v1.Volume");
        assert_eq!(volume.fields().nth(1).map(Field::name), Some("hostPath"));
        assert_eq!(
            volume.inlined().collect::<Vec<_>>(),
            [(2, ty("io.k8s.api.core.v1.VolumeSource"))]
        );
    }

    #[test]
    fn markers_on_types_and_fields_reach_the_table() {
        let phase = ty("io.k8s.api.core.v1.PodStatus").field("phase").unwrap();
        assert_eq!(
            phase.ty().enum_values().collect::<Vec<_>>(),
            ["Failed", "Pending", "Running", "Succeeded", "Unknown"]
        );
        let created = ty("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
            .field("creationTimestamp")
            .unwrap();
        assert_eq!((created.omit(), created.tag()), (Omit::Zero, 8));
        assert_eq!(
            ty("io.k8s.api.core.v1.ObjectReference").shape(),
            Shape::Struct { atomic: true }
        );
        let claim = ty("io.k8s.api.core.v1.PersistentVolumeSpec")
            .field("claimRef")
            .unwrap();
        assert_eq!(claim.ty().shape(), Shape::Struct { atomic: false });
        assert_eq!(claim.ty().name(), "io.k8s.api.core.v1.ObjectReference");
    }
}
