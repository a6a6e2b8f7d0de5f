//! Joins the declarations into one table of types, as the API's JSON and protobuf forms see them.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

use super::resources::Discovery;
use super::sources::{FieldDecl, Package, TypeDecl, TypeExpr, import_path};

/// Types in the order of the table: structs and named scalars sorted by name, then everything anonymous.
pub(super) struct Model {
    pub(super) types: Vec<Type>,
    /// How many of the first types are sorted by name.
    pub(super) sorted: usize,
}

impl Model {
    pub(super) fn field_count(&self) -> usize {
        self.types.iter().map(|ty| ty.fields.len()).sum()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) fields: Vec<Field>,
    /// Protobuf sub-messages whose fields are inlined in JSON: tag and type.
    pub(super) inlined: Vec<(u16, usize)>,
    pub(super) enum_values: Vec<String>,
    pub(super) rules: Vec<String>,
    /// Has `apiVersion` and `kind`.
    pub(super) is_kind: bool,
    /// A list that protobuf wraps into a message of its own.
    pub(super) wrapped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar(Scalar),
    List { item: usize, kind: ListKind },
    Map { value: usize, atomic: bool },
    Struct { atomic: bool },
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    Atomic,
    Set,
    Map(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: usize,
    pub(super) tag: u16,
    pub(super) pointer: bool,
    pub(super) omit_empty: bool,
    pub(super) omit_zero: bool,
    pub(super) required: bool,
    pub(super) patch: Vec<String>,
    pub(super) merge_key: String,
    pub(super) default: Option<String>,
    pub(super) rules: Vec<String>,
    /// Rules stand on the field or on what it holds, at any depth.
    pub(super) leads_to_rules: bool,
    /// The same for defaults.
    pub(super) leads_to_defaults: bool,
}

const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";
const RUNTIME: &str = "k8s.io/apimachinery/pkg/runtime";
const EXTENSIONS: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1";

/// Types with JSON forms of their own, which no declaration shows.
fn special(pkg: &str, name: &str) -> Option<Shape> {
    Some(match (pkg, name) {
        ("k8s.io/apimachinery/pkg/api/resource", "Quantity") => Shape::Scalar(Scalar::Quantity),
        ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString") => Shape::Scalar(Scalar::IntOrString),
        (META, "Time") => Shape::Scalar(Scalar::Time),
        (META, "MicroTime") => Shape::Scalar(Scalar::MicroTime),
        (META, "Duration") => Shape::Scalar(Scalar::Duration),
        (META, "FieldsV1")
        | (RUNTIME, "RawExtension" | "Object")
        | (
            EXTENSIONS,
            "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray",
        ) => Shape::Any,
        _ => return None,
    })
}

struct Builder<'a> {
    packages: BTreeMap<&'a str, &'a Package>,
    declarations: HashMap<(&'a str, &'a str), &'a TypeDecl>,
    types: Vec<Type>,
    interned: HashMap<String, usize>,
}

/// Builds the table of every kind of the served group versions and all that they reach.
pub(super) fn build(packages: &[Package], discovery: &Discovery) -> Result<Model> {
    let mut builder = Builder {
        packages: packages
            .iter()
            .map(|package| (package.path.as_str(), package))
            .collect(),
        declarations: packages
            .iter()
            .flat_map(|package| {
                package
                    .types
                    .iter()
                    .map(move |ty| ((package.path.as_str(), ty.name.as_str()), ty))
            })
            .collect(),
        types: Vec::new(),
        interned: HashMap::new(),
    };
    let mut roots: Vec<String> = discovery
        .group_versions()
        .map(|(group, version)| import_path(group, version))
        .collect::<Result<_>>()?;
    roots.push(META.to_owned());
    for root in &roots {
        let package = builder.packages[root.as_str()];
        for ty in package
            .types
            .iter()
            .filter(|ty| is_kind(ty) || ty.expr.name == "List" || ty.name == "WatchEvent")
        {
            builder
                .named(&package.path, &ty.name, None)
                .with_context(|| format!("{root}.{}", ty.name))?;
        }
    }
    builder.scalar(Scalar::String);
    mark_ways(&mut builder.types);
    Ok(sort(builder.types))
}

/// Marks the fields that lead to rules and to defaults, so that walks need not enter the others.
fn mark_ways(types: &mut [Type]) {
    let has_rules = |field: &Field| !field.rules.is_empty();
    let has_default = |field: &Field| field.default.is_some();
    let to_rules = leading_types(types, |ty| {
        !ty.rules.is_empty() || ty.fields.iter().any(has_rules)
    });
    let to_defaults = leading_types(types, |ty| ty.fields.iter().any(has_default));
    for field in types.iter_mut().flat_map(|ty| &mut ty.fields) {
        field.leads_to_rules = has_rules(field) || to_rules[field.ty];
        field.leads_to_defaults = has_default(field) || to_defaults[field.ty];
    }
}

/// The types from which a type that `holds` can be reached.
fn leading_types(types: &[Type], holds: impl Fn(&Type) -> bool) -> Vec<bool> {
    let mut leads: Vec<bool> = types.iter().map(holds).collect();
    loop {
        let mut changed = false;
        for (at, ty) in types.iter().enumerate() {
            let inner = match &ty.shape {
                Shape::List { item: inner, .. } | Shape::Map { value: inner, .. } => leads[*inner],
                _ => ty.fields.iter().any(|field| leads[field.ty]),
            };
            changed |= inner && !leads[at];
            leads[at] |= inner;
        }
        if !changed {
            return leads;
        }
    }
}

fn is_kind(ty: &TypeDecl) -> bool {
    ty.fields
        .iter()
        .any(|field| field.embedded && field.name == "TypeMeta" && is_inline(field))
}

/// Puts structs and named scalars first, sorted by name.
fn sort(types: Vec<Type>) -> Model {
    let mut order: Vec<usize> = (0..types.len()).collect();
    let mut seen = HashMap::new();
    for (at, ty) in types.iter().enumerate() {
        if !ty.name.is_empty() && !matches!(ty.shape, Shape::List { .. } | Shape::Map { .. }) {
            seen.entry(ty.name.clone()).or_insert(at);
        }
    }
    let first = |at: usize| seen.get(&types[at].name) == Some(&at);
    order.sort_by_key(|&at| {
        if first(at) {
            (0, types[at].name.clone(), 0)
        } else {
            (1, String::new(), at)
        }
    });
    let mut moved = vec![0; types.len()];
    for (new, &old) in order.iter().enumerate() {
        moved[old] = new;
    }
    let sorted = seen.len();
    let types = order
        .iter()
        .map(|&old| renumber(types[old].clone(), &moved))
        .collect();
    Model { types, sorted }
}

fn renumber(mut ty: Type, moved: &[usize]) -> Type {
    match &mut ty.shape {
        Shape::List { item: inner, .. } | Shape::Map { value: inner, .. } => *inner = moved[*inner],
        _ => {}
    }
    for field in &mut ty.fields {
        field.ty = moved[field.ty];
    }
    for (_, inner) in &mut ty.inlined {
        *inner = moved[*inner];
    }
    ty
}

fn is_inline(field: &FieldDecl) -> bool {
    field.embedded && field.json.split(',').next() == Some("")
}

impl<'a> Builder<'a> {
    fn intern(&mut self, key: String, make: impl FnOnce() -> Type) -> usize {
        let next = self.types.len();
        match self.interned.entry(key) {
            std::collections::hash_map::Entry::Occupied(at) => *at.get(),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(next);
                self.types.push(make());
                next
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> usize {
        self.intern(format!("scalar {scalar:?}"), || {
            plain(String::new(), Shape::Scalar(scalar))
        })
    }

    /// The type of a named declaration; `atomic` overrides what the declaration says (a marker on a field).
    fn named(&mut self, pkg: &str, name: &str, atomic: Option<bool>) -> Result<usize> {
        if let Some(shape) = special(pkg, name) {
            let model = self.model_name(pkg, name);
            return Ok(self.intern(model.clone(), || plain(model, shape)));
        }
        let decl = *self
            .declarations
            .get(&(pkg, name))
            .with_context(|| format!("no declaration of {pkg}.{name}"))?;
        let model = self.model_name(pkg, name);
        match decl.expr.kind.as_str() {
            "struct" => self.structure(pkg, decl, model, atomic),
            "named" => {
                // A copy of another declaration, under its own name.
                let of = self.named(&decl.expr.pkg, &decl.expr.name, None)?;
                let copy = Type {
                    name: model.clone(),
                    ..self.types[of].clone()
                };
                Ok(self.intern(model, || copy))
            }
            "basic" => {
                let scalar = basic(&decl.expr.name)?;
                let enum_values = self.enum_values(pkg, decl);
                let rules = rules(&decl.markers);
                let ty = Type {
                    enum_values,
                    rules,
                    ..plain(model.clone(), Shape::Scalar(scalar))
                };
                Ok(self.intern(model, || ty))
            }
            other => bail!("{pkg}.{name} is a {other}"),
        }
    }

    fn model_name(&self, pkg: &str, name: &str) -> String {
        match self.packages.get(pkg) {
            Some(package) => format!("{}.{name}", package.model),
            None => format!("{}.{name}", pkg.replace("k8s.io/", "io.k8s.").replace('/', ".")),
        }
    }

    fn enum_values(&self, pkg: &str, decl: &TypeDecl) -> Vec<String> {
        let is_enum = decl
            .markers
            .iter()
            .any(|marker| marker == "enum" || marker.ends_with("k8s:enum"));
        let mut values: Vec<String> = self.packages[pkg]
            .consts
            .iter()
            .filter(|value| is_enum && value.of == decl.name)
            .map(|value| value.value.clone())
            .collect();
        values.sort();
        values.dedup();
        values
    }

    fn structure(
        &mut self,
        pkg: &str,
        decl: &'a TypeDecl,
        model: String,
        atomic: Option<bool>,
    ) -> Result<usize> {
        let declared =
            decl.marker("structType") == Some("atomic") || decl.marker("mapType") == Some("atomic");
        let atomic = atomic.unwrap_or(declared);
        let key = if atomic == declared {
            model.clone()
        } else {
            format!("{model} atomic={atomic}")
        };
        if let Some(&known) = self.interned.get(&key) {
            return Ok(known);
        }
        // Entered before its fields are looked at: types may contain themselves.
        let mut made = plain(model, Shape::Struct { atomic });
        made.is_kind = is_kind(decl);
        made.rules = rules(&decl.markers);
        let at = self.intern(key, || made);
        let mut fields = Vec::new();
        let mut inlined = Vec::new();
        for field in &decl.fields {
            self.add_field(field, &mut fields, &mut inlined)
                .with_context(|| format!("{pkg}.{}.{}", decl.name, field.name))?;
        }
        self.types[at].fields = fields;
        self.types[at].inlined = inlined;
        Ok(at)
    }

    fn add_field(
        &mut self,
        decl: &FieldDecl,
        fields: &mut Vec<Field>,
        inlined: &mut Vec<(u16, usize)>,
    ) -> Result<()> {
        let tag = protobuf_tag(&decl.protobuf)?;
        let mut json = decl.json.split(',');
        let name = json.next().unwrap_or_default().to_owned();
        if name == "-" {
            return Ok(());
        }
        if is_inline(decl) {
            let inner = self.expression(&decl.expr, decl)?;
            for field in self.types[inner].fields.clone() {
                fields.push(Field { tag: 0, ..field });
            }
            if tag != 0 {
                inlined.push((tag, inner));
            }
            return Ok(());
        }
        ensure!(!name.is_empty(), "no JSON name");
        let options: Vec<&str> = json.collect();
        let optional = if decl.has_marker("optional") {
            true
        } else if decl.has_marker("required") {
            false
        } else {
            options.contains(&"omitempty") || options.contains(&"omitzero")
        };
        let ty = self.expression(&decl.expr, decl)?;
        fields.push(Field {
            name,
            ty,
            tag,
            pointer: decl.expr.kind == "pointer",
            omit_empty: options.contains(&"omitempty"),
            omit_zero: options.contains(&"omitzero"),
            required: !optional,
            patch: decl
                .strategy
                .split(',')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            merge_key: decl.merge_key.clone(),
            default: self.default_of(decl)?,
            rules: rules(&decl.markers),
            leads_to_rules: false,
            leads_to_defaults: false,
        });
        Ok(())
    }

    /// The JSON text of the `+default=` marker.
    fn default_of(&self, decl: &FieldDecl) -> Result<Option<String>> {
        let Some(text) = decl.marker("default") else {
            return Ok(None);
        };
        let Some(name) = text.strip_prefix("ref(").and_then(|rest| rest.strip_suffix(')')) else {
            return Ok(Some(text.to_owned()));
        };
        let value = self
            .packages
            .values()
            .flat_map(|package| &package.consts)
            .find(|value| value.name == name)
            .with_context(|| format!("no constant {name}"))?;
        Ok(Some(serde_json::to_string(&value.value)?))
    }

    fn expression(&mut self, expr: &TypeExpr, decl: &FieldDecl) -> Result<usize> {
        match expr.kind.as_str() {
            "basic" => Ok(basic(&expr.name).map(|scalar| self.scalar(scalar))?),
            "pointer" => self.expression(element(expr)?, decl),
            "slice" | "map" => self.container(expr, decl, String::new(), false),
            "named" => {
                let Some(&named) = self.declarations.get(&(expr.pkg.as_str(), expr.name.as_str())) else {
                    return self.named(&expr.pkg, &expr.name, None);
                };
                if matches!(named.expr.kind.as_str(), "slice" | "map")
                    && special(&expr.pkg, &expr.name).is_none()
                {
                    let model = self.model_name(&expr.pkg, &expr.name);
                    let wrapped = named.marker("protobuf.nullable") == Some("true");
                    return self.container(&named.expr, decl, model, wrapped);
                }
                let atomic = decl
                    .marker("structType")
                    .or(decl.marker("mapType"))
                    .map(|kind| kind == "atomic");
                self.named(&expr.pkg, &expr.name, atomic)
            }
            // An interface, such as the cells of a Table's row.
            "other" => Ok(self.intern("any".to_owned(), || plain(String::new(), Shape::Any))),
            other => bail!("a {other} cannot be a field"),
        }
    }

    fn container(&mut self, expr: &TypeExpr, decl: &FieldDecl, name: String, wrapped: bool) -> Result<usize> {
        let element = element(expr)?;
        if expr.kind == "slice" && matches!(element.name.as_str(), "byte" | "uint8") {
            return Ok(self.scalar(Scalar::Bytes));
        }
        // Markers on the field speak of the outer container only.
        let bare = FieldDecl {
            name: String::new(),
            embedded: false,
            expr: element.clone(),
            json: String::new(),
            protobuf: String::new(),
            strategy: String::new(),
            merge_key: String::new(),
            markers: Vec::new(),
        };
        let inner = self.expression(element, &bare)?;
        let shape = if expr.kind == "map" {
            Shape::Map {
                value: inner,
                atomic: decl.marker("mapType") == Some("atomic"),
            }
        } else {
            Shape::List {
                item: inner,
                kind: list_kind(decl)?,
            }
        };
        let key = format!("{name} {shape:?} {wrapped}");
        Ok(self.intern(key, || Type {
            wrapped,
            ..plain(name, shape)
        }))
    }
}

fn plain(name: String, shape: Shape) -> Type {
    Type {
        name,
        shape,
        fields: Vec::new(),
        inlined: Vec::new(),
        enum_values: Vec::new(),
        rules: Vec::new(),
        is_kind: false,
        wrapped: false,
    }
}

fn list_kind(decl: &FieldDecl) -> Result<ListKind> {
    Ok(match decl.marker("listType") {
        None | Some("atomic") => ListKind::Atomic,
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(
            decl.markers
                .iter()
                .filter_map(|marker| marker.strip_prefix("listMapKey="))
                .map(str::to_owned)
                .collect(),
        ),
        Some(other) => bail!("list type {other}"),
    })
}

fn element(expr: &TypeExpr) -> Result<&TypeExpr> {
    expr.elem.as_deref().context("a container without an element")
}

fn basic(name: &str) -> Result<Scalar> {
    Ok(match name {
        "string" => Scalar::String,
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int" | "int64" => Scalar::Int64,
        "float64" => Scalar::Float,
        _ => bail!("no scalar for {name}"),
    })
}

/// The number in `bytes,3,opt,name=…`; 0 where there is none.
fn protobuf_tag(text: &str) -> Result<u16> {
    match text.split(',').nth(1) {
        None => Ok(0),
        Some(number) => number.parse().with_context(|| format!("protobuf tag {text}")),
    }
}

/// Declarative validation: the markers `k8s:…` that state rules.
fn rules(markers: &[String]) -> Vec<String> {
    const OTHER: [&str; 6] = [
        "k8s:deepcopy",
        "k8s:conversion",
        "k8s:prerelease",
        "k8s:openapi",
        "k8s:deprecated",
        "k8s:opaqueType",
    ];
    markers
        .iter()
        .filter(|marker| marker.starts_with("k8s:") && !OTHER.iter().any(|other| marker.starts_with(other)))
        .cloned()
        .collect()
}
