//! Schemas of types, and of everything that they refer to.

use std::collections::BTreeSet;

use cloudeck_machinery::{Map, Value, json, value};

use super::{Descriptions, reference};
use crate::resources::{GroupVersionInfo, group_versions};
use crate::types::{Field, ListKind, Omit, Scalar, Shape, TypeRef};

/// The type of patches, which no Go field has.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Collects the types that a document refers to.
pub(super) struct Schemas<'a> {
    served: GroupVersionInfo,
    descriptions: Option<&'a Descriptions>,
    wanted: Vec<TypeRef>,
    seen: BTreeSet<&'static str>,
    patch: bool,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(served: GroupVersionInfo, descriptions: Option<&'a Descriptions>) -> Self {
        Self {
            served,
            descriptions,
            wanted: Vec::new(),
            seen: BTreeSet::new(),
            patch: false,
        }
    }

    /// A reference to a declared type.
    pub(super) fn refer(&mut self, ty: TypeRef) -> Value {
        if self.seen.insert(ty.name()) {
            // A variant that a field made stands for the type itself.
            self.wanted.push(TypeRef::by_name(ty.name()).unwrap_or(ty));
        }
        reference(ty.name())
    }

    pub(super) fn refer_to_patch(&mut self) -> Value {
        self.patch = true;
        reference(PATCH)
    }

    /// The schemas of everything referred to.
    pub(super) fn finish(mut self) -> Map {
        let mut schemas = Map::new();
        while let Some(ty) = self.wanted.pop() {
            let mut schema = self.declared(ty);
            self.describe(&mut schema, ty.name());
            schemas.insert(ty.name(), schema);
        }
        if self.patch {
            let mut schema = value!({"type": "object"});
            self.describe(&mut schema, PATCH);
            schemas.insert(PATCH, schema);
        }
        schemas
    }

    fn describe(&self, schema: &mut Value, name: &str) {
        if let Some(text) = self.descriptions.and_then(|texts| texts.of_type(name)) {
            schema.set_at(&["description"], text);
        }
    }

    /// The schema under a declared type's name.
    fn declared(&mut self, ty: TypeRef) -> Value {
        match ty.shape() {
            Shape::Struct { atomic } => self.structure(ty, atomic),
            Shape::Scalar(Scalar::Quantity) => value!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Shape::Scalar(Scalar::IntOrString) => {
                value!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Shape::Scalar(scalar) => scalar_schema(scalar),
            // JSON of any kind; the other untyped ones are objects.
            _ if ty.name().contains(".apiextensions.") => Value::object(),
            _ => value!({"type": "object"}),
        }
    }

    fn structure(&mut self, ty: TypeRef, atomic: bool) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in ty.fields() {
            let mut property = self.property(field);
            let text = self
                .descriptions
                .and_then(|texts| texts.of_field(ty.name(), field.name()));
            if let Some(text) = text {
                property.set_at(&["description"], text);
            }
            // The items of a list kind are never merged and have no marker.
            if ty.is_kind() && field.name() == "items" {
                property.remove_at(&["x-kubernetes-list-type"]);
            }
            properties.insert(field.name(), property);
            if field.required() {
                required.push(Value::from(field.name()));
            }
        }
        let mut schema = value!({"type": "object"});
        if !properties.is_empty() {
            schema.set_at(&["properties"], properties);
        }
        if !required.is_empty() {
            schema.set_at(&["required"], required);
        }
        if atomic {
            schema.set_at(&["x-kubernetes-map-type"], "atomic");
        }
        let kinds = kinds_of(ty, self.served);
        if !kinds.is_empty() {
            schema.set_at(&["x-kubernetes-group-version-kind"], kinds);
        }
        schema
    }

    fn property(&mut self, field: Field) -> Value {
        let ty = field.ty();
        let mut schema = self.inline(ty);
        // A reference takes no siblings in OpenAPI v3.0.
        if schema.get("$ref").is_some() {
            schema = value!({"allOf": [(schema)]});
        }
        if let Some(default) = default_of(field) {
            schema.set_at(&["default"], default);
        }
        add_merge_facts(field, &mut schema);
        schema
    }

    /// The schema of a type where it is used: declared structs are referred to, the rest stands in place.
    fn inline(&mut self, ty: TypeRef) -> Value {
        match ty.shape() {
            Shape::List { item, .. } => value!({"type": "array", "items": (self.inline(item))}),
            Shape::Map { value, .. } => {
                value!({"type": "object", "additionalProperties": (self.inline(value))})
            }
            Shape::Scalar(
                Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime | Scalar::Duration,
            )
            | Shape::Struct { .. } => self.refer(ty),
            Shape::Any if !ty.name().is_empty() => self.refer(ty),
            Shape::Any => Value::object(),
            Shape::Scalar(scalar) => {
                let mut schema = scalar_schema(scalar);
                let values: Vec<Value> = ty.enum_values().map(Value::from).collect();
                if !values.is_empty() {
                    schema.set_at(&["enum"], values);
                }
                schema
            }
        }
    }
}

fn add_merge_facts(field: Field, schema: &mut Value) {
    let ty = field.ty();
    match ty.shape() {
        Shape::List { kind, .. } => add_list_facts(kind, schema),
        Shape::Map { atomic: true, .. } => {
            schema.set_at(&["x-kubernetes-map-type"], "atomic");
        }
        Shape::Struct { atomic } if TypeRef::by_name(ty.name()) != Some(ty) => {
            schema.set_at(
                &["x-kubernetes-map-type"],
                if atomic { "atomic" } else { "granular" },
            );
        }
        _ => {}
    }
    if let Some(key) = field.patch_merge_key() {
        schema.set_at(&["x-kubernetes-patch-merge-key"], key);
    }
    let strategies = [
        (field.patch_merge(), "merge"),
        (field.patch_replace(), "replace"),
        (field.patch_retain_keys(), "retainKeys"),
    ];
    let strategy: Vec<&str> = strategies
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name)
        .collect();
    if !strategy.is_empty() {
        schema.set_at(&["x-kubernetes-patch-strategy"], strategy.join(","));
    }
}

fn add_list_facts(kind: ListKind, schema: &mut Value) {
    let name = match kind {
        ListKind::Atomic => "atomic",
        ListKind::Set => "set",
        ListKind::Map(keys) => {
            let keys: Vec<Value> = keys.names().map(Value::from).collect();
            schema.set_at(&["x-kubernetes-list-map-keys"], keys);
            "map"
        }
    };
    schema.set_at(&["x-kubernetes-list-type"], name);
}

fn scalar_schema(scalar: Scalar) -> Value {
    match scalar {
        Scalar::Bool => value!({"type": "boolean"}),
        Scalar::Int32 => value!({"type": "integer", "format": "int32"}),
        Scalar::Int64 => value!({"type": "integer", "format": "int64"}),
        Scalar::Float => value!({"type": "number", "format": "double"}),
        Scalar::Bytes => value!({"type": "string", "format": "byte"}),
        Scalar::Time | Scalar::MicroTime => value!({"type": "string", "format": "date-time"}),
        _ => value!({"type": "string"}),
    }
}

/// The default that upstream's documents show: the marker's, or the zero value of what is always there.
fn default_of(field: Field) -> Option<Value> {
    if let Some(text) = field.default() {
        return json::parse(text.as_bytes()).ok();
    }
    if field.pointer() {
        return None;
    }
    match field.ty().shape() {
        Shape::Struct { .. } => Some(Value::object()),
        Shape::Scalar(scalar) if field.omit() == Omit::Never => match scalar {
            Scalar::String => Some("".into()),
            Scalar::Bool => Some(false.into()),
            Scalar::Int32 | Scalar::Int64 | Scalar::Float => Some(0.into()),
            _ => None,
        },
        _ => None,
    }
}

/// The kinds that a type stands for. Options stand for one of the document's group version too.
fn kinds_of(ty: TypeRef, document: GroupVersionInfo) -> Vec<Value> {
    let (package, kind) = ty.name().rsplit_once('.').unwrap_or_default();
    let kind_of =
        |group: &str, version: &str| value!({"group": (group), "version": (version), "kind": (kind)});
    match kind {
        "Status" | "APIResourceList" => vec![kind_of("", "v1")],
        "DeleteOptions" if document.group.is_empty() => vec![kind_of("", "v1")],
        "DeleteOptions" => vec![kind_of("", "v1"), kind_of(document.group, document.version)],
        _ if !ty.is_kind() => Vec::new(),
        _ => group_versions()
            .filter(|served| served.package() == package)
            .map(|served| kind_of(served.group, served.version))
            .collect(),
    }
}
