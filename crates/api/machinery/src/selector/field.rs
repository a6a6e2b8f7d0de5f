//! Field selectors: `metadata.name=a,spec.nodeName!=b`.

use std::fmt;

use compact_str::CompactString;

use super::SelectorError;

/// One condition: the field's value equals the wanted one, or does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    pub field: CompactString,
    pub equals: bool,
    pub value: CompactString,
}

/// All of its requirements. Which fields a kind has is the caller's to check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    /// `field=value`.
    pub fn equal(field: &str, value: &str) -> Self {
        let requirement = FieldRequirement {
            field: field.into(),
            equals: true,
            value: value.into(),
        };
        Self {
            requirements: vec![requirement],
        }
    }

    /// Reads the text form. `\`, `,` and `=` in values are escaped with a backslash.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equals, value)) = split_term(term) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            let value = unescape(value)?;
            // `=` alone asks for nothing.
            if !(field.is_empty() && value.is_empty()) {
                let field = field.into();
                requirements.push(FieldRequirement { field, equals, value });
            }
        }
        Ok(Self { requirements })
    }

    /// The same of fields with other names: those of another version of the kind.
    #[must_use]
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<&'static str>) -> Self {
        for requirement in &mut self.requirements {
            if let Some(other) = name(&requirement.field) {
                requirement.field = other.into();
            }
        }
        self
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// `value` tells a field's value; fields it does not know count as empty.
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|wanted| (value(&wanted.field).unwrap_or_default() == wanted.value) == wanted.equals)
    }

    /// The one value that the field must have, when the selector demands one: a list by name is a get.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|requirement| requirement.equals && requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if requirement.equals { "=" } else { "!=" };
            write!(
                f,
                "{comma}{}{operator}{}",
                requirement.field,
                escape_field_value(&requirement.value)
            )?;
        }
        Ok(())
    }
}

/// A literal made fit to stand as a value in a field selector.
pub fn escape_field_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let comma = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        comma
    })
    .collect()
}

/// Field, whether it is to be equal, and the raw value. The first operator splits.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let equal = term.find('=')?;
    let at = term.find("!=").map_or(equal, |not| not.min(equal));
    let (field, rest) = term.split_at(at);
    let (operator, equals) = match rest {
        _ if rest.starts_with("!=") => (2, false),
        _ if rest.starts_with("==") => (2, true),
        _ => (1, true),
    };
    Some((field, equals, &rest[operator..]))
}

fn unescape(value: &str) -> Result<CompactString, SelectorError> {
    let mut out = CompactString::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                next => {
                    let sequence: String = std::iter::once('\\').chain(next).collect();
                    let why = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(SelectorError(why));
                }
            },
            ',' | '=' => {
                // Upstream prints the character's number.
                let why = format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                );
                return Err(SelectorError(why));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
