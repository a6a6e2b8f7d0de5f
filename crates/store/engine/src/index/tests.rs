use super::*;

fn revision(n: u64) -> Revision {
    Revision::new(n).unwrap()
}

fn put(index: &mut Index<Bytes>, at: u64, key: &'static str, value: &'static str) {
    let version = next(index, at, key, value, false);
    index.apply(&Bytes::from(key), version);
}

fn delete(index: &mut Index<Bytes>, at: u64, key: &'static str) {
    let version = next(index, at, key, "", true);
    index.apply(&Bytes::from(key), version);
}

fn next(index: &Index<Bytes>, at: u64, key: &str, value: &'static str, deleted: bool) -> Version<Bytes> {
    let old = index
        .get(key.as_bytes())
        .map(|(_, v)| (v.create_revision, v.version));
    let (create_revision, version) = old.map_or((revision(at), 1), |(c, v)| (c, v + 1));
    Version {
        mod_revision: revision(at),
        create_revision,
        version,
        lease: None,
        deleted,
        value: value.into(),
    }
}

fn seen(index: &Index<Bytes>, at: u64) -> Vec<(String, String)> {
    let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
    index
        .range(&KeyRange::all(), revision(at))
        .flatten()
        .map(|(k, v)| (text(k), text(&v.value)))
        .collect()
}

fn sample() -> Index<Bytes> {
    let mut index = Index::new();
    put(&mut index, 2, "a", "1");
    put(&mut index, 3, "b", "1");
    put(&mut index, 4, "a", "2");
    delete(&mut index, 5, "b");
    put(&mut index, 6, "b", "2");
    index
}

#[test]
fn every_revision_above_the_horizon_reads_as_it_was() {
    let mut index = sample();
    let expected = |at| match at {
        2 => vec![("a".into(), "1".into())],
        3 => vec![("a".into(), "1".into()), ("b".into(), "1".into())],
        4 => vec![("a".into(), "2".into()), ("b".into(), "1".into())],
        5 => vec![("a".into(), "2".into())],
        _ => vec![("a".into(), "2".into()), ("b".into(), "2".into())],
    };
    for horizon in 2..=6 {
        index.trim(revision(horizon));
        for at in horizon..=6 {
            assert_eq!(seen(&index, at), expected(at), "horizon {horizon}, revision {at}");
        }
    }
    assert_eq!(index.superseded_bytes(), 0);
    assert_eq!(index.history_len(), 0);
}

#[test]
fn a_deleted_key_is_forgotten_with_its_history() {
    let mut index = Index::new();
    put(&mut index, 2, "a", "1");
    delete(&mut index, 3, "a");
    assert_eq!(index.live_keys(), 0);
    index.trim(revision(3));
    assert!(index.keys.is_empty());
    assert_eq!(index.superseded_bytes(), 0);
}

#[test]
fn replay_tells_what_each_change_replaced() {
    let index = sample();
    let (changes, next) = index.replay(&KeyRange::single(b"b"), revision(3), usize::MAX);
    let prevs: Vec<_> = changes
        .iter()
        .map(|c| c.prev.as_ref().map(|p| p.mod_revision.get()))
        .collect();
    assert_eq!(prevs, [None, Some(3), None]);
    assert_eq!(
        changes.iter().map(|c| c.version.deleted).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(next, revision(7));
}

#[test]
fn replay_in_chunks_never_splits_a_revision() {
    let mut index = Index::new();
    for key in ["a", "b", "c"] {
        put(&mut index, 2, key, "1");
    }
    put(&mut index, 3, "a", "2");
    let (changes, next) = index.replay(&KeyRange::all(), revision(2), 2);
    assert_eq!(changes.len(), 3);
    assert_eq!(next, revision(3));
}

#[test]
fn a_rebuild_in_any_order_and_with_duplicates_gives_the_same() {
    let index = sample();
    let mut versions: Vec<_> = index
        .replay(&KeyRange::all(), revision(2), usize::MAX)
        .0
        .into_iter()
        .map(|r| (r.key, r.version))
        .collect();
    versions.extend(versions.clone());
    versions.reverse();
    for horizon in 1..=6 {
        let mut trimmed = sample();
        trimmed.trim(revision(horizon));
        let mut rebuilt = IndexBuilder::new(revision(horizon));
        versions
            .iter()
            .cloned()
            .for_each(|(key, version)| rebuilt.add(key, version));
        let rebuilt = rebuilt.finish(Revision::ZERO);
        for at in horizon..=6 {
            assert_eq!(seen(&rebuilt, at), seen(&trimmed, at));
        }
        assert_eq!(rebuilt.history_len(), trimmed.history_len());
        assert_eq!(rebuilt.superseded_bytes(), trimmed.superseded_bytes());
        assert_eq!(rebuilt.live_keys(), trimmed.live_keys());
        assert_eq!(rebuilt.keys.len(), trimmed.keys.len());
    }
}

#[test]
fn an_inverted_range_is_empty() {
    let index = sample();
    assert_eq!(index.range(&KeyRange::between("z", "a"), revision(6)).count(), 0);
}
