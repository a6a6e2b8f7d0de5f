//! The text of one rule: `k8s:beta(since: "1.37")=+k8s:maxItems=32`.
//!
//! Formats that are not checked: `k8s-extended-resource-name`, `k8s-resource-fully-qualified-name`,
//! `k8s-resource-pool-name`.

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{CauseType, Value, names};

use crate::types::Field;

/// A rule without its stability and feature gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule<'a> {
    Plain(Plain<'a>),
    EachValue(&'a str),
    EachKey(&'a str),
    Subfield(&'a str, &'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    pub(super) name: &'a str,
    pub(super) argument: &'a str,
}

/// Feature gates that rules ask for and that are on by default in 1.37; the others are off.
const ENABLED: [&str; 1] = ["HPAScaleToZero"];

/// Reads a rule. None for those that do not apply under the default feature gates, or at all.
pub(super) fn parse(text: &str) -> Option<Rule<'_>> {
    let text = text.trim_start_matches('+').strip_prefix("k8s:")?;
    if let Some((head, inner)) = text.split_once("=+") {
        let (name, argument) = call(head);
        return match name {
            "alpha" | "beta" => parse(inner),
            "ifEnabled" if ENABLED.contains(&argument) => parse(inner),
            "ifDisabled" if !ENABLED.contains(&argument) => parse(inner),
            "eachVal" => Some(Rule::EachValue(inner)),
            "eachKey" => Some(Rule::EachKey(inner)),
            "subfield" => Some(Rule::Subfield(argument, inner)),
            _ => None,
        };
    }
    let (name, argument) = text.split_once('=').unwrap_or_else(|| call(text));
    Some(Rule::Plain(Plain {
        name,
        argument: argument.trim_matches('"'),
    }))
}

/// The plain rules of a field.
pub(super) fn plain(field: Field) -> impl Iterator<Item = Plain<'static>> {
    field.rules().filter_map(parse).filter_map(|rule| match rule {
        Rule::Plain(plain) => Some(plain),
        _ => None,
    })
}

/// `name(argument)` taken apart.
fn call(text: &str) -> (&str, &str) {
    text.strip_suffix(')')
        .and_then(|text| text.split_once('('))
        .map_or((text, ""), |(name, argument)| (name, argument.trim_matches('"')))
}

impl Plain<'_> {
    pub(super) fn number(&self) -> Option<i64> {
        self.argument.parse().ok()
    }

    /// The errors of a value that is set.
    pub(super) fn check(&self, value: &Value) -> Vec<(CauseType, String)> {
        match (self.name, value) {
            ("minimum", Value::Int(given)) => self.bound(*given, |given, bound| given < bound, "greater"),
            ("maximum", Value::Int(given)) => self.bound(*given, |given, bound| given > bound, "less"),
            ("maxLength", Value::String(text)) => self.too_long(text.chars().count(), "character"),
            ("maxBytes", Value::String(text)) => self.too_long(text.len(), "byte"),
            ("format", Value::String(text)) => format_errors(self.argument, text)
                .into_iter()
                .map(|detail| {
                    (
                        CauseType::Invalid,
                        format!("Invalid value: {}: {detail}", quote(text)),
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn bound(&self, given: i64, is_beyond: fn(i64, i64) -> bool, word: &str) -> Vec<(CauseType, String)> {
        match self.number() {
            Some(bound) if is_beyond(given, bound) => {
                let message = format!("Invalid value: {given}: must be {word} than or equal to {bound}");
                vec![(CauseType::Invalid, message)]
            }
            _ => Vec::new(),
        }
    }

    fn too_long(&self, size: usize, unit: &str) -> Vec<(CauseType, String)> {
        match self.number() {
            Some(max) if size as i64 > max => {
                let plural = if max == 1 { "" } else { "s" };
                vec![(
                    CauseType::TooLong,
                    format!("Too long: may not be more than {max} {unit}{plural}"),
                )]
            }
            _ => Vec::new(),
        }
    }
}

fn format_errors(format: &str, text: &str) -> Vec<String> {
    match format {
        "k8s-short-name" => names::dns1123_label(text),
        "k8s-long-name" => names::dns1123_subdomain(text),
        "k8s-long-name-caseless" => names::dns1123_subdomain(&text.to_lowercase()),
        "k8s-prefixed-label-key" if !text.contains('/') && names::qualified_name(text).is_empty() => {
            vec!["must include a prefix (e.g. 'example.com/key')".to_owned()]
        }
        "k8s-label-key" | "k8s-prefixed-label-key" => names::qualified_name(text),
        "k8s-uuid" if !is_uuid(text) => vec!["must be a lowercase UUID in 8-4-4-4-12 format".to_owned()],
        _ => Vec::new(),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TypeRef;

    #[test]
    fn stability_and_gates_are_taken_off() {
        let plain = |name, argument| Some(Rule::Plain(Plain { name, argument }));
        assert_eq!(
            parse(r#"k8s:beta(since: "1.37")=+k8s:maxItems=32"#),
            plain("maxItems", "32")
        );
        assert_eq!(
            parse(r#"k8s:format="k8s-short-name""#),
            plain("format", "k8s-short-name")
        );
        assert_eq!(
            parse(r#"k8s:dependentRequired("x")"#),
            plain("dependentRequired", "x")
        );
        assert_eq!(parse("k8s:ifDisabled(HPAScaleToZero)=+k8s:minimum=1"), None);
        assert_eq!(
            parse(r#"k8s:beta(since: "1.37")=+k8s:ifEnabled(HPAScaleToZero)=+k8s:minimum=0"#),
            plain("minimum", "0")
        );
        assert_eq!(
            parse("k8s:eachVal=+k8s:maxBytes=64"),
            Some(Rule::EachValue("k8s:maxBytes=64"))
        );
    }

    #[test]
    fn every_rule_of_the_table_is_known() {
        const KNOWN: [&str; 22] = [
            "required",
            "optional",
            "forbidden",
            "immutable",
            "update",
            "maxItems",
            "maxLength",
            "maxBytes",
            "minimum",
            "maximum",
            "format",
            "enum",
            "unique",
            "listType",
            "listMapKey",
            "unionMember",
            "dependentRequired",
            "dependentForbidden",
            "opaqueType",
            "supportsSubresource",
            "isSubresource",
            // Said in the module's header.
            "customValidation",
        ];
        let fields = TypeRef::all().flat_map(TypeRef::fields).flat_map(Field::rules);
        for text in TypeRef::all().flat_map(TypeRef::rules).chain(fields) {
            if let Some(Rule::Plain(rule)) = parse(text) {
                let known =
                    KNOWN.contains(&rule.name) || ["modeDiscriminator", "customUnique"].contains(&rule.name);
                assert!(known, "{text}");
            }
        }
    }
}
