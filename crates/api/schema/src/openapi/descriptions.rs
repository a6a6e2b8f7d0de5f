//! What documents say about types and fields beside the facts; others bring the text.

use std::ops::Range;

use thiserror::Error;

/// Texts on types and fields, packed: one string, and where in it what stands.
///
/// The string has the number of texts on a line; every text, ended by a NUL; then a line for every type, sorted by
/// name, of the name, the number of its text, and `field=number` for its fields, separated by tabs.
#[derive(Debug)]
pub struct Descriptions {
    packed: String,
    texts: Vec<Range<usize>>,
    types: Vec<Range<usize>>,
}

/// Packed texts that are not as [`Descriptions`] says.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DescriptionsError {
    #[error("read descriptions: they do not begin with their number")]
    Number,
    #[error("read descriptions: text {0} has no end")]
    Text(usize),
    #[error("read descriptions: the line of a type is not complete: {0:?}")]
    Line(String),
    #[error("read descriptions: types are not sorted at {0:?}")]
    Order(String),
}

impl Descriptions {
    /// # Errors
    /// When the string is not in the form.
    pub fn parse(packed: String) -> Result<Self, DescriptionsError> {
        let (count, _) = packed.split_once('\n').ok_or(DescriptionsError::Number)?;
        let mut position = count.len() + 1;
        let count: usize = count.parse().map_err(|_| DescriptionsError::Number)?;
        let mut texts = Vec::new();
        for number in 0..count {
            let length = packed[position..]
                .find('\0')
                .ok_or(DescriptionsError::Text(number))?;
            texts.push(position..position + length);
            position += length + 1;
        }
        let mut types: Vec<Range<usize>> = Vec::new();
        for line in packed[position..].split_inclusive('\n') {
            check_line(line, texts.len()).ok_or_else(|| DescriptionsError::Line(line.to_owned()))?;
            let before = types.last().map(|range| name_of(&packed[range.clone()]));
            if before.is_some_and(|before| before >= name_of(line)) {
                return Err(DescriptionsError::Order(name_of(line).to_owned()));
            }
            types.push(position..position + line.len() - 1);
            position += line.len();
        }
        Ok(Self { packed, texts, types })
    }

    /// What is said about a type, by its name in OpenAPI.
    pub fn of_type(&self, name: &str) -> Option<&str> {
        self.text(self.line(name)?.split('\t').nth(1)?)
    }

    /// What is said about a field of a type.
    pub fn of_field(&self, name: &str, field: &str) -> Option<&str> {
        let mut fields = self.line(name)?.split('\t').skip(2);
        self.text(fields.find_map(|entry| entry.strip_prefix(field)?.strip_prefix('='))?)
    }

    fn line(&self, name: &str) -> Option<&str> {
        let lines = &self.types;
        let found = lines.binary_search_by(|range| name_of(&self.packed[range.clone()]).cmp(name));
        Some(&self.packed[lines[found.ok()?].clone()])
    }

    /// Empty texts are as good as none.
    fn text(&self, number: &str) -> Option<&str> {
        let range = self.texts.get(number.parse::<usize>().ok()?)?;
        Some(&self.packed[range.clone()]).filter(|text| !text.is_empty())
    }
}

fn name_of(line: &str) -> &str {
    line.split('\t').next().unwrap_or_default()
}

/// Whether the line is ended, and names only texts that are there.
fn check_line(line: &str, texts: usize) -> Option<()> {
    let mut parts = line.strip_suffix('\n')?.split('\t');
    let known = |number: &str| number.parse::<usize>().is_ok_and(|number| number < texts);
    let named = parts.next().is_some_and(|name| !name.is_empty());
    let described = parts.next().is_some_and(known);
    let fields = parts.all(|part| part.split_once('=').is_some_and(|(_, number)| known(number)));
    (named && described && fields).then_some(())
}
