//! JSON patch (RFC 6902), with the latitude of the library that upstream uses: negative indices, `replace` of a member
//! that is not there, a missing member equal to null in `test`.

use cloudeck_machinery::{Map, Reason, Status, Value, json};

/// More operations than this are refused.
pub const MAX_OPERATIONS: usize = 10_000;
/// All `copy` operations of one patch together may add so much.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// The patch is no list of operations.
    #[error("json: cannot unmarshal {0} into Go value of type jsonpatch.Patch")]
    NotAPatch(&'static str),
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// An operation does not fit the document.
    #[error("{0}")]
    Operation(String),
}

impl From<JsonPatchError> for Status {
    fn from(error: JsonPatchError) -> Self {
        match error {
            JsonPatchError::NotAPatch(_) => Status::new(Reason::BadRequest, error.to_string()),
            JsonPatchError::TooManyOperations(_) => {
                Status::new(Reason::RequestEntityTooLarge, error.to_string())
            }
            // Upstream keeps the cause to itself: a generic answer without details is all a client sees.
            JsonPatchError::Operation(_) => {
                let message = "the server rejected our request due to an error in our request";
                Status::new(Reason::Invalid, message).with_details("", "", "")
            }
        }
    }
}

/// Applies `patch` to `document`: all operations, or none.
///
/// # Errors
/// The patch is malformed or does not fit; the document is then unchanged.
pub fn apply(document: &mut Value, patch: &Value) -> Result<(), JsonPatchError> {
    let operations = patch
        .as_array()
        .ok_or(JsonPatchError::NotAPatch(patch.type_name()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    if let Some(odd) = operations
        .iter()
        .find(|operation| operation.as_object().is_none())
    {
        return Err(JsonPatchError::NotAPatch(odd.type_name()));
    }
    let mut result = document.clone();
    let mut copied = 0;
    for operation in operations {
        step(&mut result, operation, &mut copied).map_err(JsonPatchError::Operation)?;
    }
    *document = result;
    Ok(())
}

fn step(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), String> {
    let value = || operation.get("value").cloned().unwrap_or_default();
    match operation.str_at(&["op"]).unwrap_or("unknown") {
        "add" => {
            let path = path_of(operation, "add", "path")?;
            let value = value();
            check_depth(path, &value)?;
            let (parent, key) = parent(document, path).ok_or_else(|| {
                missing(&format!(
                    "add operation does not apply: doc is missing path: \"{path}\""
                ))
            })?;
            add(parent, &key, value).map_err(|why| format!("error in add for path: '{path}': {why}"))
        }
        "remove" => {
            let path = path_of(operation, "remove", "path")?;
            let (parent, key) = parent(document, path).ok_or_else(|| {
                missing(&format!(
                    "remove operation does not apply: doc is missing path: \"{path}\""
                ))
            })?;
            remove(parent, &key).map_err(|why| format!("error in remove for path: '{path}': {why}"))?;
            Ok(())
        }
        "replace" => replace(document, path_of(operation, "replace", "path")?, value()),
        "move" => {
            let from = path_of(operation, "move", "from")?;
            let (parent, key) = parent(document, from).ok_or_else(|| {
                missing(&format!(
                    "move operation does not apply: doc is missing from path: {from}"
                ))
            })?;
            let moved =
                remove(parent, &key).map_err(|why| format!("error in move for path: '{key}': {why}"))?;
            place(document, path_of(operation, "move", "path")?, moved, "move")
        }
        "copy" => copy(document, operation, copied),
        "test" => test(document, operation),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn missing(what: &str) -> String {
    format!("{what}: missing value")
}

fn path_of<'a>(operation: &'a Value, op: &str, member: &str) -> Result<&'a str, String> {
    operation
        .str_at(&[member])
        .ok_or_else(|| missing(&format!("{op} operation failed to decode {member}")))
}

/// Whether `value` may stand at `path`: operations that each nest a little could together nest without end.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let steps = path.matches('/').count();
    let room = json::MAX_DEPTH.checked_sub(steps);
    if room.is_none_or(|room| value.is_deeper_than(room)) {
        return Err(format!("exceeded max depth of {}", json::MAX_DEPTH));
    }
    Ok(())
}

fn place(document: &mut Value, path: &str, value: Value, op: &str) -> Result<(), String> {
    check_depth(path, &value)?;
    let (parent, key) = parent(document, path).ok_or_else(|| {
        missing(&format!(
            "{op} operation does not apply: doc is missing destination path: {path}"
        ))
    })?;
    add(parent, &key, value).map_err(|why| match op {
        "copy" => format!("error while adding value during copy: {why}"),
        _ => format!("error in {op} for path: '{path}': {why}"),
    })
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    if path.is_empty() {
        if value.as_array().is_none() && value.as_object().is_none() {
            // The odd end is upstream's.
            return Err("replace operation value must be object or array: %!w(<nil>)".into());
        }
        *document = value;
        return Ok(());
    }
    let (parent, key) = parent(document, path).ok_or_else(|| {
        missing(&format!(
            "replace operation does not apply: doc is missing path: {path}"
        ))
    })?;
    match parent {
        Container::Object(members) => {
            members.insert(&key, value);
        }
        Container::Array(items) => {
            let at = index(&key, items.len()).map_err(|_| {
                missing(&format!(
                    "replace operation does not apply: doc is missing key: {path}"
                ))
            })?;
            items[at] = value;
        }
    }
    Ok(())
}

fn copy(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), String> {
    let from = path_of(operation, "copy", "from")?;
    let (source, key) = parent(document, from).ok_or_else(|| {
        missing(&format!(
            "copy operation does not apply: doc is missing from path: {from}"
        ))
    })?;
    let value = get(&source, &key).map_err(|why| format!("error in copy for from: '{from}': {why}"))?;
    let value = value.cloned().unwrap_or_default();
    *copied += json::to_vec(&value).len();
    if *copied > MAX_COPIED_BYTES {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
        ));
    }
    place(document, path_of(operation, "copy", "path")?, value, "copy")
}

fn test(document: &mut Value, operation: &Value) -> Result<(), String> {
    let path = path_of(operation, "test", "path")?;
    let wanted = operation.get("value").unwrap_or(&Value::Null);
    let failed = || format!("testing value {path} failed: test failed");
    if path.is_empty() {
        return if document == wanted { Ok(()) } else { Err(failed()) };
    }
    let (container, key) = parent(document, path)
        .ok_or_else(|| missing(&format!("test operation does not apply: is missing path: {path}")))?;
    let found = get(&container, &key).map_err(|why| format!("error in test for path: '{path}': {why}"))?;
    if found.unwrap_or(&Value::Null) == wanted {
        Ok(())
    } else {
        Err(failed())
    }
}

/// What an operation's last step stands in.
enum Container<'a> {
    Object(&'a mut Map),
    Array(&'a mut Vec<Value>),
}

impl<'a> Container<'a> {
    fn of(value: &'a mut Value) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self::Object(members)),
            Value::Array(items) => Some(Self::Array(items)),
            _ => None,
        }
    }
}

/// The container of the path's last step, and that step.
fn parent<'a>(document: &'a mut Value, path: &str) -> Option<(Container<'a>, String)> {
    // What stands before the first slash is ignored, as upstream's library does.
    let (_, rest) = path.split_once('/')?;
    let (parents, last) = rest
        .rsplit_once('/')
        .map_or((None, rest), |(parents, last)| (Some(parents), last));
    let mut here = document;
    for step in parents.into_iter().flat_map(|parents| parents.split('/')) {
        let step = decode(step);
        here = match here {
            Value::Object(members) => members.get_mut(&step)?,
            Value::Array(items) => {
                let at = index(&step, items.len()).ok()?;
                items.get_mut(at)?
            }
            _ => return None,
        };
    }
    Some((Container::of(here)?, decode(last)))
}

fn decode(step: &str) -> String {
    let mut out = String::with_capacity(step.len());
    let mut rest = step;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (text, length) = match rest.as_bytes().get(at + 1) {
            Some(b'0') => ("~", 2),
            Some(b'1') => ("/", 2),
            _ => ("~", 1),
        };
        out.push_str(text);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// The place that `key` names among `length` items; negative ones count from the end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let number: i64 = key.parse().map_err(|_| {
        format!(
            "strconv.Atoi: parsing {}: invalid syntax",
            cloudeck_machinery::quote::quote(key)
        )
    })?;
    let length = length as i64;
    let at = if number < 0 {
        number.saturating_add(length)
    } else {
        number
    };
    if (0..length).contains(&at) {
        Ok(at as usize)
    } else {
        Err(format!(
            "Unable to access invalid index: {number}: invalid index referenced"
        ))
    }
}

fn get<'a>(container: &'a Container<'_>, key: &str) -> Result<Option<&'a Value>, String> {
    match container {
        Container::Object(members) => Ok(members.get(key)),
        Container::Array(items) => Ok(items.get(index(key, items.len())?)),
    }
}

fn add(container: Container<'_>, key: &str, value: Value) -> Result<(), String> {
    match container {
        Container::Object(members) => {
            members.insert(key, value);
        }
        Container::Array(items) if key == "-" => items.push(value),
        Container::Array(items) => {
            // One more place than there are items: adding at the end is allowed.
            let proper = |why: String| match key.parse::<i64>() {
                Ok(_) => why,
                Err(_) => format!("value was not a proper array index: '{key}': {why}"),
            };
            let at = index(key, items.len() + 1).map_err(proper)?;
            items.insert(at, value);
        }
    }
    Ok(())
}

fn remove(container: Container<'_>, key: &str) -> Result<Value, String> {
    match container {
        Container::Object(members) => members
            .remove(key)
            .ok_or_else(|| missing(&format!("Unable to remove nonexistent key: {key}"))),
        Container::Array(items) => {
            let at = index(key, items.len())?;
            Ok(items.remove(at))
        }
    }
}

#[cfg(test)]
mod tests;
