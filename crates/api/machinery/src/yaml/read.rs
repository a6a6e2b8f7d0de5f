//! From the parser's events to trees.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::YamlError;
use super::scalar;
use crate::json::MAX_DEPTH;
use crate::quote::quote;
use crate::value::{Key, Map, Value};

/// How many nodes aliases may add to a document, and how many may stand under anchors, each counted as often as anchors
/// stand above it: more than any manifest has, and only a few megabytes.
const MAX_ALIASED_NODES: usize = 100_000;

pub(super) struct Reader<'a, 'd> {
    parser: Parser<'a, StrInput<'a>>,
    duplicates: &'d mut Vec<String>,
    /// Finished nodes with an anchor.
    anchors: HashMap<usize, (Value, Size)>,
    aliased: usize,
    anchored: usize,
}

/// What a node comes to when aliases stand for what they repeat.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    /// Steps down to the deepest node.
    height: usize,
}

impl Size {
    const LEAF: Self = Self { nodes: 1, height: 0 };

    fn hold(&mut self, child: Self) {
        self.nodes += child.nodes;
        self.height = self.height.max(child.height + 1);
    }
}

/// One event with its line; scalars and tags owned.
struct Item<'a> {
    event: Event<'a>,
    line: usize,
}

impl<'a, 'd> Reader<'a, 'd> {
    pub(super) fn new(text: &'a str, duplicates: &'d mut Vec<String>) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            duplicates,
            anchors: HashMap::new(),
            aliased: 0,
            anchored: 0,
        }
    }

    /// The next document; `None` at the end of the stream.
    pub(super) fn next_document(&mut self) -> Result<Option<Value>, YamlError> {
        loop {
            match self.next()?.map(|item| item.event) {
                None | Some(Event::StreamEnd) => return Ok(None),
                Some(Event::DocumentStart(_)) => break,
                Some(_) => {}
            }
        }
        self.anchors.clear();
        self.aliased = 0;
        self.anchored = 0;
        let Some(first) = self.next()? else {
            return Ok(None);
        };
        Ok(Some(self.node(first, 0)?.0))
    }

    fn next(&mut self) -> Result<Option<Item<'a>>, YamlError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some(Item {
                event,
                line: span.start.line(),
            })),
            Some(Err(error)) => Err(syntax(&error)),
        }
    }

    fn expect(&mut self) -> Result<Item<'a>, YamlError> {
        self.next()?
            .ok_or_else(|| YamlError::Content("unexpected end of stream".into()))
    }

    /// The node that starts with `item`.
    fn node(&mut self, item: Item<'a>, depth: usize) -> Result<(Value, Size), YamlError> {
        if depth > MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        let (value, size, anchor) = match item.event {
            Event::Scalar(text, style, anchor, tag) => (
                scalar::resolve(&text, style == ScalarStyle::Plain, tag.as_deref())?,
                Size::LEAF,
                anchor,
            ),
            Event::SequenceStart(anchor, _) => {
                let (items, size) = self.sequence(depth)?;
                (Value::Array(items), size, anchor)
            }
            Event::MappingStart(anchor, _) => {
                let (members, size) = self.mapping(depth)?;
                (Value::Object(members), size, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, depth),
            _ => return Err(YamlError::Content("unexpected event".into())),
        };
        if anchor > 0 {
            self.anchored += size.nodes;
            if self.anchored > MAX_ALIASED_NODES {
                return Err(YamlError::ExcessiveAliasing);
            }
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok((value, size))
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<(Value, Size), YamlError> {
        let (value, size) = self
            .anchors
            .get(&anchor)
            .ok_or_else(|| YamlError::Content("anchor value contains itself".into()))?;
        self.aliased += size.nodes;
        if self.aliased > MAX_ALIASED_NODES {
            return Err(YamlError::ExcessiveAliasing);
        }
        if depth + size.height > MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        Ok((value.clone(), *size))
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Value>, Size), YamlError> {
        let (mut items, mut size) = (Vec::new(), Size::LEAF);
        loop {
            let item = self.expect()?;
            if matches!(item.event, Event::SequenceEnd) {
                return Ok((items, size));
            }
            let (value, inner) = self.node(item, depth + 1)?;
            size.hold(inner);
            items.push(value);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<(Map, Size), YamlError> {
        let (mut members, mut size) = (Vec::new(), Size::LEAF);
        loop {
            let item = self.expect()?;
            let line = item.line;
            if matches!(item.event, Event::MappingEnd) {
                return Ok((self.map(members), size));
            }
            let merges = is_merge(&item.event);
            let (key, key_size) = self.node(item, depth + 1)?;
            let next = self.expect()?;
            let (value, value_size) = self.node(next, depth + 1)?;
            size.hold(key_size);
            size.hold(value_size);
            if merges {
                merge(&mut members, value, line)?;
            } else {
                members.push((key_text(&key)?, value, line));
            }
        }
    }

    /// The members together, of equal keys the last.
    fn map(&mut self, members: Vec<Member>) -> Map {
        let mut seen = HashSet::with_capacity(members.len());
        for (key, _, line) in &members {
            if !seen.insert(key) {
                self.duplicates
                    .push(format!("line {line}: key {} already set in map", quote(key)));
            }
        }
        members.into_iter().map(|(key, value, _)| (key, value)).collect()
    }
}

/// Key, value and the line of the key.
type Member = (Key, Value, usize);

/// `<<: *base` or `<<: [*a, *b]`, of which the first wins.
fn merge(members: &mut Vec<Member>, value: Value, line: usize) -> Result<(), YamlError> {
    let sources = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    for source in sources.into_iter().rev() {
        let Value::Object(source) = source else {
            return Err(YamlError::Content(
                "map merge requires map or sequence of maps as the value".into(),
            ));
        };
        members.extend(source.into_iter().map(|(key, value)| (key, value, line)));
    }
    Ok(())
}

fn syntax(error: &ScanError) -> YamlError {
    YamlError::Syntax {
        line: error.marker().line(),
        problem: error.info().to_owned(),
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    let merge_tag = |tag: &Tag| tag.is_yaml_core_schema() && tag.suffix == "merge";
    match event {
        Event::Scalar(text, style, _, tag) => {
            text == "<<" && tag.as_deref().map_or(*style == ScalarStyle::Plain, merge_tag)
        }
        _ => false,
    }
}

/// The text that a key becomes in JSON.
fn key_text(key: &Value) -> Result<Key, YamlError> {
    Ok(match key {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => key.to_string().into(),
        Value::Null => return Err(YamlError::Content("unsupported map key of type: null".into())),
        Value::Array(_) | Value::Object(_) => {
            return Err(YamlError::Content(format!("invalid map key: {key}")));
        }
    })
}
