use proptest::prelude::*;

use super::*;

const STORE: StoreId = StoreId([3; 16]);
const START: Link = Link {
    epoch: 1,
    sequence: 0,
    checksum: 0,
};

fn version(at: u64, deleted: bool) -> Version<()> {
    let revision = Revision::new(at).unwrap();
    Version {
        mod_revision: revision,
        create_revision: revision,
        version: 1,
        lease: None,
        deleted,
        value: (),
    }
}

fn sample() -> Vec<u8> {
    let mut writer = BatchWriter::new(STORE);
    writer.version(b"key", b"value", &version(2, false));
    writer.version(b"gone", b"", &version(2, true));
    writer.compact(Revision::new(1).unwrap());
    writer.lease_grant(LeaseId(5), 1000);
    writer.lease_revoke(LeaseId(5));
    writer.finish(START, 77).0.clone()
}

#[test]
fn a_batch_reads_back() {
    let bytes = sample();
    let (header, body) = decode_batch(STORE, &bytes).unwrap();
    assert_eq!(
        (header.epoch, header.sequence, header.previous, header.time_ms),
        (1, 1, 0, 77)
    );
    let records: Vec<_> = decode_records(body).map(Result::unwrap).collect();
    let Record::Version { key, version } = &records[0] else {
        panic!("{records:?}")
    };
    assert_eq!(
        (*key, version.mod_revision.get(), version.deleted),
        (&b"key"[..], 2, false)
    );
    assert_eq!(
        &body[version.value.offset as usize..][..version.value.bytes as usize],
        b"value"
    );
    assert_eq!(records[2], Record::Compact(Revision::new(1).unwrap()));
    assert_eq!(
        records[3],
        Record::LeaseGrant {
            id: LeaseId(5),
            ttl_ms: 1000
        }
    );
    assert_eq!(records[4], Record::LeaseRevoke(LeaseId(5)));
    assert_eq!(records.len(), 5);
}

#[test]
fn every_flipped_bit_but_the_padding_is_noticed() {
    let bytes = sample();
    let (header, _) = decode_batch(STORE, &bytes).unwrap();
    for at in 0..HEADER_BYTES + header.body_bytes as usize {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode_batch(STORE, &flipped).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_batch_of_another_store_is_none() {
    assert!(decode_batch(StoreId([4; 16]), &sample()).is_err());
    // The same beginning, another secret.
    let mut near = STORE;
    near.0[15] ^= 1;
    assert_eq!(decode_batch(near, &sample()), Err(BatchFault::Checksum));
}

#[test]
fn a_value_that_holds_a_batch_of_another_store_is_not_taken_for_one() {
    let mut forged = BatchWriter::new(StoreId([4; 16]));
    forged.version(b"key", b"value", &version(9, false));
    let forged = forged.finish(START, 0).0.clone();
    assert_eq!(find_batch(STORE, &forged, 0), None);
    let bytes = [vec![1; 24], sample()].concat();
    assert_eq!(find_batch(STORE, &bytes, 0).map(|(at, _)| at), Some(24));
}

#[test]
fn unwritten_space_is_no_batch() {
    assert_eq!(
        decode_batch(StoreId([0; 16]), &[0; 128]),
        Err(BatchFault::NoMagic)
    );
}

proptest! {
    #[test]
    fn any_bytes_give_an_error_or_records_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_batch(STORE, &bytes);
        let _ = find_batch(STORE, &bytes, 0);
        for record in decode_records(&bytes).flatten() {
            if let Record::Version { version, .. } = record {
                let span = version.value;
                prop_assert!(span.offset as usize + span.bytes as usize <= bytes.len());
            }
        }
    }

    #[test]
    fn damaged_records_never_panic(at in 0_usize..200, with in prop::collection::vec(any::<u8>(), 1..20)) {
        let mut body = sample()[HEADER_BYTES..].to_vec();
        let at = at % body.len();
        let end = (at + with.len()).min(body.len());
        body[at..end].copy_from_slice(&with[..end - at]);
        decode_records(&body).for_each(drop);
    }

    #[test]
    fn versions_read_back(
        versions in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1..40), prop::collection::vec(any::<u8>(), 0..100), any::<bool>(), 1..=i64::MAX as u64, any::<u64>()),
            0..20,
        ),
    ) {
        let mut writer = BatchWriter::new(STORE);
        let mut expected = Vec::new();
        for (key, value, deleted, at, lease) in &versions {
            let lease = (*lease != 0).then_some(LeaseId(*lease));
            let version = Version { lease, ..version(*at, *deleted) };
            let span = writer.version(key, value, &version);
            expected.push((key.clone(), value.clone(), version, span));
        }
        let bytes = writer.finish(START, 0).0.clone();
        let (_, body) = decode_batch(STORE, &bytes).unwrap();
        let found: Vec<_> = decode_records(body).map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), expected.len());
        for (record, (key, value, head, span)) in found.iter().zip(&expected) {
            let Record::Version { key: found_key, version } = record else { panic!("{record:?}") };
            prop_assert_eq!(*found_key, &key[..]);
            prop_assert_eq!(version, &head.clone().with(BodySpan { offset: span.offset - HEADER_BYTES as u32, ..*span }));
            prop_assert_eq!(&bytes[span.offset as usize..][..value.len()], &value[..]);
        }
    }
}
