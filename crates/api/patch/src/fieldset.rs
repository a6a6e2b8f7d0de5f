//! Sets of fields, held in the very form in which `metadata.managedFields` carries them (`FieldsV1`).
//!
//! A set is an object whose members are path elements: `f:name` a field, `k:{"name":"a"}` an item of a list with keys,
//! `v:"x"` an item of a set, `i:0` an item by index. A node with the member `.`, or without any, belongs to the set itself;
//! other nodes only hold members further down. Elements are canonical text, so that equal elements are equal strings and
//! the algebra needs no parsing: what is stored is what is computed with.
//!
//! Source: `structured-merge-diff/fieldpath`. Upstream orders items of lists by value (80 before 443), a tree by text;
//! order means nothing in the object.

use std::fmt::Write as _;

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Key, Map, Value, json};

const SELF: &str = ".";

/// A set of fields; its root belongs to no set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldSet(Map);

/// A node under construction: whether it is a member itself, and its children in any order.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) member: bool,
    pub(crate) children: Vec<(Key, Value)>,
}

impl Node {
    /// Hangs `child` below, unless it holds nothing.
    pub(crate) fn attach(&mut self, element: Key, child: Node) {
        if !child.is_empty() {
            self.children.push((element, Value::Object(child.into_tree())));
        }
    }

    /// Adds a leaf.
    pub(crate) fn insert(&mut self, element: Key) {
        self.children.push((element, Value::object()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(crate) fn into_set(self) -> FieldSet {
        FieldSet(self.children.into_iter().collect())
    }

    /// The node's form in a set; a leaf has no members.
    pub(crate) fn into_tree(self) -> Map {
        if !self.member || self.children.is_empty() {
            return self.children.into_iter().collect();
        }
        let itself = (Key::const_new(SELF), Value::object());
        std::iter::once(itself).chain(self.children).collect()
    }
}

/// The element of a field.
pub(crate) fn field_element(name: &str) -> Key {
    let mut element = Key::with_capacity(name.len() + 2);
    element.push_str("f:");
    element.push_str(name);
    element
}

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of plain fields, each given by its path of names.
    pub fn of_paths(paths: &[&[&str]]) -> Self {
        let mut root = Map::new();
        for path in paths {
            insert_path(&mut root, path);
        }
        Self(root)
    }

    /// Reads `FieldsV1` that a client may have written: elements become canonical, unknown ones are dropped.
    ///
    /// # Errors
    /// An element is malformed; the text is upstream's reason.
    pub fn from_value(fields: &Value) -> Result<Self, String> {
        match fields {
            Value::Null => Ok(Self::new()),
            Value::Object(members) => Ok(Self(canonical_members(members)?)),
            _ => Err("FieldsV1 is not an object".to_owned()),
        }
    }

    /// Takes `FieldsV1` that this module made.
    pub(crate) fn from_canonical(fields: Value) -> Self {
        match fields {
            Value::Object(members) => Self(members),
            _ => Self::new(),
        }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn members(&self) -> &Map {
        &self.0
    }

    /// Adds the members of another set.
    pub fn absorb(&mut self, other: Self) {
        absorb(&mut self.0, other.0);
    }

    /// Takes the members of another set away; children of a removed parent stay.
    pub fn subtract(&mut self, other: &Self) {
        subtract(&mut self.0, &other.0, false);
    }

    /// As [`FieldSet::subtract`], and everything below a member of the other set goes too.
    pub fn subtract_below(&mut self, other: &Self) {
        subtract(&mut self.0, &other.0, true);
    }

    /// Takes one plain field away.
    pub fn remove_path(&mut self, path: &[&str]) {
        remove_path(&mut self.0, path);
    }

    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        self.absorb(other);
        self
    }

    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(intersection(&self.0, &other.0).into_iter().collect())
    }

    /// The members' paths as messages print them (`.spec.containers[name="a"].image`), parents' leaves before children's.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        print_paths(&self.0, "", &mut out);
        out
    }
}

fn insert_path(node: &mut Map, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let element = field_element(first);
    let known = node.contains_key(&element);
    if let Value::Object(child) = slot(node, &element) {
        match (rest.is_empty(), known) {
            // A node without children is a member already.
            (true, _) if child.is_empty() => {}
            (true, _) => {
                child.insert(SELF, Value::object());
            }
            (false, true) if child.is_empty() => {
                child.insert(SELF, Value::object());
                insert_path(child, rest);
            }
            (false, _) => insert_path(child, rest),
        }
    }
}

fn slot<'a>(node: &'a mut Map, element: &str) -> &'a mut Value {
    let slot = node.get_or_insert_null(element);
    if slot.is_null() {
        *slot = Value::object();
    }
    slot
}

/// The node below an element; a missing one is `None`.
pub(crate) fn child<'a>(node: &'a Map, element: &str) -> Option<&'a Map> {
    node.get(element)?.as_object()
}

/// Whether a node belongs to the set itself.
pub(crate) fn is_member(node: &Map) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Whether anything below a node belongs to the set.
pub(crate) fn has_children(node: &Map) -> bool {
    node.len() > usize::from(node.contains_key(SELF))
}

/// A node's children: elements and nodes.
pub(crate) fn children(node: &Map) -> impl Iterator<Item = (&Key, &Map)> {
    node.iter()
        .filter(|(element, _)| element.as_str() != SELF)
        .filter_map(|(element, child)| Some((element, child.as_object()?)))
}

type Entries = Vec<(Key, Value)>;

fn node(member: bool, children: Entries) -> Option<Value> {
    let node = Node { member, children };
    (!node.is_empty()).then(|| Value::Object(node.into_tree()))
}

/// Brings the mark of membership in line: none beside no children, where the bare node says it already.
fn mark(node: &mut Map, member: bool) {
    if !has_children(node) {
        *node = Map::new();
    } else if member {
        node.insert(SELF, Value::object());
    } else {
        node.remove(SELF);
    }
}

fn absorb(left: &mut Map, right: Map) {
    for (element, more) in right {
        let Value::Object(more) = more else {
            continue;
        };
        if element == SELF {
            continue;
        }
        match left.get_mut(&element) {
            Some(Value::Object(below)) => {
                let member = is_member(below) || is_member(&more);
                absorb(below, more);
                mark(below, member);
            }
            _ => {
                left.insert(&element, Value::Object(more));
            }
        }
    }
}

fn subtract(left: &mut Map, right: &Map, recursive: bool) {
    for (element, less) in children(right) {
        let Some(Value::Object(below)) = left.get_mut(element) else {
            continue;
        };
        let member = is_member(below) && !is_member(less);
        let mut gone = recursive && is_member(less);
        if !gone {
            subtract(below, less, recursive);
            gone = !member && !has_children(below);
            mark(below, member);
        }
        if gone {
            left.remove(element);
        }
    }
}

fn remove_path(node: &mut Map, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let element = field_element(first);
    let Some(Value::Object(below)) = node.get_mut(&element) else {
        return;
    };
    let member = is_member(below) && !rest.is_empty();
    remove_path(below, rest);
    if member || has_children(below) {
        mark(below, member);
    } else {
        node.remove(&element);
    }
}

fn intersection(left: &Map, right: &Map) -> Entries {
    let mut out = Vec::new();
    for (element, l) in children(left) {
        if let Some(r) = child(right, element)
            && let Some(common) = node(is_member(l) && is_member(r), intersection(l, r))
        {
            out.push((element.clone(), common));
        }
    }
    out
}

/// The members of a node in canonical form.
fn canonical_members(members: &Map) -> Result<Map, String> {
    let mut out: Entries = Vec::with_capacity(members.len());
    for (element, below) in members.iter() {
        let below = match below {
            Value::Object(below) => canonical_members(below)?,
            Value::Null => Map::new(),
            _ => return Err(format!("the member {} is not an object", quote(element))),
        };
        if let Some(element) = canonical_element(element)? {
            out.push((element, Value::Object(below)));
        }
    }
    Ok(out.into_iter().collect())
}

/// The element in canonical form; `None` for kinds of elements that are not known.
fn canonical_element(element: &str) -> Result<Option<Key>, String> {
    if element == SELF {
        return Ok(Some(SELF.into()));
    }
    if element.len() < 2 {
        return Err("key must be 2 characters long:".to_owned());
    }
    let Some((kind, content)) = element.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
        return Err(format!("missing colon: {element}"));
    };
    let parse = || json::parse(content.as_bytes()).map_err(|error| error.to_string());
    Ok(match kind {
        "f" => Some(element.into()),
        "v" => Some(format!("v:{}", parse()?).into()),
        "k" => match parse()? {
            key @ Value::Object(_) => Some(format!("k:{key}").into()),
            _ => return Err(format!("the key {content} is not an object")),
        },
        "i" => {
            let index: i64 = content
                .parse()
                .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", quote(content)))?;
            Some(format!("i:{index}").into())
        }
        _ => None,
    })
}

fn print_paths(node: &Map, prefix: &str, out: &mut Vec<String>) {
    let mut below: Vec<(&Key, &Map)> = children(node).collect();
    if below.iter().any(|(element, _)| !element.starts_with("f:")) {
        below.sort_by_cached_key(|(element, _)| ElementOrder::of(element));
    }
    for (element, child) in &below {
        if is_member(child) {
            out.push(format!("{prefix}{}", print_element(element)));
        }
    }
    for (element, child) in below {
        if has_children(child) {
            print_paths(child, &format!("{prefix}{}", print_element(element)), out);
        }
    }
}

/// Upstream's order of elements: fields, keys, values, indices; numbers by size, before texts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ElementOrder {
    Field(Key),
    Fields(Vec<(Key, ValueOrder)>),
    Value(ValueOrder),
    Index(i64),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum ValueOrder {
    /// The bits of the number, ordered as the number.
    Number(i64),
    Text(String),
    Other(String),
}

impl ElementOrder {
    fn of(element: &str) -> Self {
        let (kind, content) = element.split_once(':').unwrap_or_default();
        let parsed = || json::parse(content.as_bytes()).unwrap_or_default();
        match kind {
            "k" => match parsed() {
                Value::Object(key) => Self::Fields(
                    key.into_iter()
                        .map(|(name, value)| (name, ValueOrder::of(&value)))
                        .collect(),
                ),
                _ => Self::Fields(Vec::new()),
            },
            "v" => Self::Value(ValueOrder::of(&parsed())),
            "i" => Self::Index(content.parse().unwrap_or_default()),
            _ => Self::Field(content.into()),
        }
    }
}

impl ValueOrder {
    fn of(value: &Value) -> Self {
        match value {
            Value::Int(number) => Self::float(*number as f64),
            Value::Float(number) => Self::float(*number),
            Value::String(text) => Self::Text(text.to_string()),
            other => Self::Other(other.to_string()),
        }
    }

    /// The order of `f64::total_cmp`.
    fn float(number: f64) -> Self {
        let bits = number.to_bits() as i64;
        Self::Number(bits ^ (((bits >> 63) as u64) >> 1) as i64)
    }
}

/// `.name`, `[name="a",port=80]`, `[="x"]`, `[0]`.
pub(crate) fn print_element(element: &str) -> String {
    let Some((kind, content)) = element.split_once(':') else {
        return element.to_owned();
    };
    match kind {
        "f" => format!(".{content}"),
        "i" => format!("[{content}]"),
        "v" => format!(
            "[={}]",
            json::parse(content.as_bytes()).map_or_else(|_| content.into(), |v| print(&v))
        ),
        _ => {
            let key = json::parse(content.as_bytes()).unwrap_or_default();
            let fields = key.as_object().into_iter().flat_map(Map::iter);
            let fields: Vec<String> = fields
                .map(|(name, value)| format!("{name}={}", print(value)))
                .collect();
            format!("[{}]", fields.join(","))
        }
    }
}

fn print(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(",")),
        Value::Object(members) => members.iter().fold(String::new(), |mut out, (name, member)| {
            write!(out, "{name}={}", print(member)).expect("a string takes any text");
            out
        }),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
