//! Label and field selectors: which objects of a list or watch are meant.
//!
//! Grammar and error texts are upstream's (`apimachinery/pkg/labels`, `pkg/fields`).

mod field;
mod parse;

pub use field::{FieldRequirement, FieldSelector, escape_field_value};

use std::fmt;

use compact_str::CompactString;

use crate::names;
use crate::object::Object;
use crate::quote::quote;
use crate::value::{Map, Value};

/// Why a text or an object is not a selector; the text is upstream's and goes into a `BadRequest` as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

/// What a selector asks labels from.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for Object {
    fn label(&self, key: &str) -> Option<&str> {
        Object::label(self, key)
    }
}

/// `metadata.labels` of a tree.
impl Labels for Map {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// Sorted by key, as [`Object::labels`].
impl Labels for [(CompactString, CompactString)] {
    fn label(&self, key: &str) -> Option<&str> {
        let at = self.binary_search_by(|(other, _)| other.as_str().cmp(key)).ok()?;
        Some(&self[at].1)
    }
}

/// How a requirement relates a label to its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: CompactString,
    pub operator: Operator,
    pub values: Vec<CompactString>,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// The key, a value or their number does not fit the operator.
    pub fn new(key: &str, operator: Operator, values: Vec<CompactString>) -> Result<Self, SelectorError> {
        let mut problems = Vec::new();
        if let Some(problem) = invalid("key", key, &names::qualified_name(key)) {
            problems.push(problem);
        }
        let number = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(problem) = number {
            let list = Value::Array(values.iter().map(|value| Value::String(value.clone())).collect());
            problems.push(format!("values: Invalid value: {list}: {problem}"));
        }
        for (i, value) in values.iter().enumerate() {
            let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if numeric && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                problems.push(format!("values[{i}]: Invalid value: {}: {why}", quote(value)));
            }
        }
        for (i, value) in values.iter().enumerate() {
            problems.extend(invalid(
                &format!("values[{i}][{key}]"),
                value,
                &names::label_value(value),
            ));
        }
        match problems.as_slice() {
            [] => Ok(Self {
                key: key.into(),
                operator,
                values,
            }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        let listed = |value: &str| self.values.iter().any(|other| other == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().and_then(|bound| bound.parse::<i64>().ok());
                match (value.and_then(|value| value.parse::<i64>().ok()), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::GreaterThan => value > bound,
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
        }
    }
}

/// `path: Invalid value: "x": a; b`, unless there is nothing to complain of.
fn invalid(path: &str, value: &str, problems: &[String]) -> Option<String> {
    (!problems.is_empty())
        .then(|| format!("{path}: Invalid value: {}: {}", quote(value), problems.join("; ")))
}

/// A label selector: all of its requirements, sorted by key; or nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// `None` matches nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self {
            requirements: Some(Vec::new()),
        }
    }

    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    pub fn from_requirements(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements: Some(requirements),
        }
    }

    /// Reads the text form: `a=b,c!=d,e in (f,g),!h,i,j>3`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Self::from_requirements)
    }

    /// Reads a `metav1.LabelSelector`. An absent or null one matches nothing, an empty one everything.
    pub fn from_value(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        let equal = selector.at(&["matchLabels"]).and_then(Value::as_object);
        for (key, value) in equal.into_iter().flat_map(Map::iter) {
            let value = value.as_str().unwrap_or_default();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.into()])?);
        }
        for expression in selector.items_at(&["matchExpressions"]) {
            requirements.push(Self::expression(expression)?);
        }
        Ok(Self::from_requirements(requirements))
    }

    fn expression(expression: &Value) -> Result<Requirement, SelectorError> {
        let word = expression.str_at(&["operator"]).unwrap_or_default();
        let operator = match word {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => {
                return Err(SelectorError(format!(
                    "{} is not a valid label selector operator",
                    quote(word)
                )));
            }
        };
        let values = expression.items_at(&["values"]).iter();
        let values = values
            .map(|value| value.as_str().unwrap_or_default().into())
            .collect();
        Requirement::new(expression.str_at(&["key"]).unwrap_or_default(), operator, values)
    }

    /// The selector of a map of labels, as a Service has it. Not validated. An absent or empty map gives
    /// everything: callers for whom it means nothing check first.
    pub fn from_map(labels: Option<&Map>) -> Self {
        let requirements = labels
            .into_iter()
            .flat_map(Map::iter)
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: vec![value.as_str().unwrap_or_default().into()],
            });
        Self {
            requirements: Some(requirements.collect()),
        }
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|requirements| requirements.iter().all(|requirement| requirement.matches(labels)))
    }

    /// Whether it matches the labels of a whole object's tree.
    pub fn matches_tree(&self, object: &Value) -> bool {
        match object.at(&["metadata", "labels"]).and_then(Value::as_object) {
            Some(labels) => self.matches(labels),
            None => self.matches(&Map::new()),
        }
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// The one value that the label must have, when the selector demands one.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        let requirement = self
            .requirements()
            .iter()
            .find(|requirement| requirement.key == key)?;
        let exact = matches!(
            requirement.operator,
            Operator::Equals | Operator::DoubleEquals | Operator::In
        );
        match requirement.values.as_slice() {
            [value] if exact => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    /// The canonical text form; empty for everything and for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests;
