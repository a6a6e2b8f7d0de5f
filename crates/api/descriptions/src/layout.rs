//! Writes the text that [`cloudeck_schema::openapi::Descriptions`] reads. Shared with the build script.
//!
//! Many texts occur dozens of times (`apiVersion`, what versions of a group have in common), further apart than the
//! compression looks back: each is written once and referred to by number.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// What is said about a type and about its fields.
#[derive(Default)]
pub(crate) struct Described {
    pub(crate) text: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// By the types' names in OpenAPI.
pub(crate) type DescribedTypes = BTreeMap<String, Described>;

/// The number of texts on a line; every text, ended by a NUL; a line for every type, sorted by name: name, number of
/// its text, then `field=number`, separated by tabs.
pub(crate) fn write(types: &DescribedTypes) -> String {
    let mut texts = Texts::default();
    let mut lines = String::new();
    for (name, described) in types {
        write!(lines, "{name}\t{}", texts.number(&described.text)).expect("writing to a string cannot fail");
        for (field, text) in &described.fields {
            write!(lines, "\t{field}={}", texts.number(text)).expect("writing to a string cannot fail");
        }
        lines.push('\n');
    }
    let mut out = format!("{}\n", texts.numbers.len());
    out.push_str(&texts.joined);
    out.push_str(&lines);
    out
}

#[derive(Default)]
struct Texts<'a> {
    numbers: HashMap<&'a str, usize>,
    joined: String,
}

impl<'a> Texts<'a> {
    fn number(&mut self, text: &'a str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(text).or_insert_with(|| {
            assert!(!text.contains('\0'), "a NUL ends texts");
            self.joined.push_str(text);
            self.joined.push('\0');
            next
        })
    }
}
