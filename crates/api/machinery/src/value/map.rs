//! The object of a value tree: a vector sorted by key.

use compact_str::CompactString;

use super::Value;

/// A member name. Up to 24 bytes are held inline.
pub type Key = CompactString;

/// Up to so many members are looked through one by one.
const SMALL: usize = 24;

/// Members sorted by the byte order of their keys, each key once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    entries: Vec<(Key, Value)>,
}

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(other, _)| other.as_str().cmp(key))
    }

    /// Where a member stands. Few keys are as long as the one looked for, so that in most maps looking at all of them
    /// is cheaper than comparing with some.
    fn position(&self, key: &str) -> Option<usize> {
        if self.entries.len() > SMALL {
            return self.find(key).ok();
        }
        let same = |other: &Key| other.len() == key.len() && other.as_bytes() == key.as_bytes();
        self.entries.iter().position(|(other, _)| same(other))
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.position(key).map(|at| &mut self.entries[at].1)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Sets a member and returns what stood there.
    pub fn insert(&mut self, key: impl AsRef<str>, value: Value) -> Option<Value> {
        let key = key.as_ref();
        match self.find(key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key.into(), value));
                None
            }
        }
    }

    /// The member, inserted as null when absent.
    pub fn get_or_insert_null(&mut self, key: &str) -> &mut Value {
        let at = self.find(key).unwrap_or_else(|at| {
            self.entries.insert(at, (key.into(), Value::Null));
            at
        });
        &mut self.entries[at].1
    }

    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.entries.remove(at).1)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Key, &mut Value)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.entries.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    /// Takes entries in any order. Of equal keys the last wins; `on_duplicate` is told each such key once per repeat.
    pub(crate) fn from_unsorted(mut entries: Vec<(Key, Value)>, mut on_duplicate: impl FnMut(&str)) -> Self {
        let sorted = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !sorted {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            // `dedup_by` keeps the first of a run; the later value is moved into it.
            entries.dedup_by(|later, kept| {
                if later.0 != kept.0 {
                    return false;
                }
                on_duplicate(&kept.0);
                std::mem::swap(&mut kept.1, &mut later.1);
                true
            });
        }
        Self { entries }
    }
}

impl Extend<(Key, Value)> for Map {
    /// Sets many members at once, in any order, of equal ones the last: a member set alone moves all that follow it.
    fn extend<I: IntoIterator<Item = (Key, Value)>>(&mut self, more: I) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(more);
        *self = Self::from_unsorted(entries, |_| {});
    }
}

impl IntoIterator for Map {
    type Item = (Key, Value);
    type IntoIter = std::vec::IntoIter<(Key, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K: Into<Key>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Self {
        Self::from_unsorted(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
            |_| {},
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_wins_and_each_repeat_is_told() {
        let entries = [("b", 1), ("a", 2), ("b", 3), ("b", 4)].map(|(k, v)| (Key::from(k), Value::from(v)));
        let mut told = Vec::new();
        let map = Map::from_unsorted(entries.to_vec(), |key| told.push(key.to_owned()));
        assert_eq!(map.get("b"), Some(&Value::Int(4)));
        assert_eq!(map.len(), 2);
        assert_eq!(told, ["b", "b"]);
    }

    #[test]
    fn what_is_added_at_once_goes_before_what_was_there() {
        let entry = |key: &str, number: i32| (Key::from(key), Value::from(number));
        let mut map: Map = [entry("b", 1), entry("d", 2)].into_iter().collect();
        map.extend([entry("c", 3), entry("b", 4), entry("a", 5), entry("c", 6)]);
        assert_eq!(Value::Object(map).to_string(), r#"{"a":5,"b":4,"c":6,"d":2}"#);
    }
}
