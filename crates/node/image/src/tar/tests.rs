use proptest::prelude::*;

use super::*;

fn walk(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        entries.push((entry, data));
    }
    reader.drain()?;
    Ok(entries)
}

fn archive(build: impl FnOnce(&mut ::tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn file(builder: &mut ::tar::Builder<Vec<u8>>, path: &str, data: &[u8]) {
    let mut header = ::tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_mtime(1_000_000_000);
    builder.append_data(&mut header, path, data).unwrap();
}

fn with_pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    archive(|builder| {
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        file(builder, "short", b"data");
    })
}

#[test]
fn long_names_of_gnu_are_joined_to_their_entry() {
    let long = "d/".repeat(90) + "file";
    let entries = walk(&archive(|b| file(b, &long, b"hello"))).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].0.path, long.as_bytes());
    assert_eq!((entries[0].0.mode, entries[0].0.uid), (0o4755, 7));
    assert_eq!(entries[0].1, b"hello");
}

#[test]
fn pax_records_override_the_header() {
    let records: &[(&str, &[u8])] = &[
        ("path", b"a/b"),
        ("uid", b"70000"),
        ("gid", b"3000000"),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.security.capability", b"\x01\0=\n"),
    ];
    let entry = walk(&with_pax(records)).unwrap().remove(0).0;
    assert_eq!(entry.path, b"a/b");
    assert_eq!((entry.uid, entry.gid), (70000, 3_000_000));
    assert_eq!(
        entry.mtime,
        Mtime {
            seconds: -2,
            nanoseconds: 750_000_000
        }
    );
    assert_eq!(
        entry.xattrs,
        [(b"security.capability".to_vec(), b"\x01\0=\n".to_vec())]
    );
}

#[test]
fn ids_that_mean_nothing_or_everything_are_refused() {
    assert!(matches!(
        walk(&with_pax(&[("uid", b"4294967295")])),
        Err(TarError::Field("uid"))
    ));
    assert!(matches!(
        walk(&with_pax(&[("gid", b"-1")])),
        Err(TarError::Field("gid"))
    ));
    assert!(matches!(
        walk(&with_pax(&[("size", b"99999999999999999999")])),
        Err(TarError::Field("size"))
    ));
}

#[test]
fn sparse_entries_are_refused_rather_than_misread() {
    assert!(matches!(
        walk(&with_pax(&[("GNU.sparse.major", b"1")])),
        Err(TarError::Sparse)
    ));
}

#[test]
fn an_extension_of_any_stated_size_allocates_no_more_than_the_limit() {
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    assert!(matches!(
        walk(header.as_bytes()),
        Err(TarError::ExtensionTooLarge)
    ));
}

#[test]
fn many_extensions_of_one_entry_hold_no_more_together_than_one_may() {
    let attribute = vec![b'x'; 600 << 10];
    let bytes = |count: u32| {
        archive(|builder| {
            for number in 0..count {
                let name = format!("SCHILY.xattr.user.{number}");
                let records = [(name.as_str(), attribute.as_slice())];
                builder.append_pax_extensions(records).unwrap();
            }
            file(builder, "a", b"1");
        })
    };
    assert!(matches!(walk(&bytes(2)), Err(TarError::ExtensionTooLarge)));
    // The next entry begins anew.
    let twice = [bytes(1)[..].strip_suffix(&[0; 1024]).unwrap(), &bytes(1)].concat();
    assert_eq!(walk(&twice).unwrap().len(), 2);
}

#[test]
fn a_cut_archive_is_an_error_except_at_a_header() {
    let whole = archive(|b| file(b, "x", &[7; 700]));
    assert!(walk(&whole[..512 + 600]).is_err());
    assert!(walk(&whole[..300]).is_err());
    assert_eq!(walk(&whole[..512 + 1024]).unwrap().len(), 1);
}

#[test]
fn a_flipped_header_is_noticed() {
    let mut archive = archive(|b| file(b, "x", b"1"));
    archive[0] ^= 1;
    assert!(matches!(walk(&archive), Err(TarError::Checksum)));
}

#[test]
fn binary_numbers_are_read_up_to_their_limits() {
    assert_eq!(binary(&[0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 24));
    assert_eq!(binary(&[0xff; 12]), Some(-1));
    assert_eq!(binary(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = walk(&bytes);
    }

    #[test]
    fn no_damage_to_an_archive_makes_the_reader_panic_or_read_beyond_it(
        at in 0usize..3000, value in any::<u8>(), fix_checksum in any::<bool>(),
    ) {
        let mut bytes = with_pax(&[("path", b"a/b"), ("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"y")]);
        let at = at % bytes.len();
        bytes[at] = value;
        if fix_checksum {
            let block = at / BLOCK * BLOCK;
            let mut header = ::tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[block..block + BLOCK]);
            header.set_cksum();
            bytes[block..block + BLOCK].copy_from_slice(header.as_bytes());
        }
        let read: usize = walk(&bytes).map_or(0, |entries| entries.iter().map(|e| e.1.len()).sum());
        prop_assert!(read <= bytes.len());
    }

    #[test]
    fn what_another_writer_wrote_is_read_back(
        files in proptest::collection::vec(("[a-z]{1,9}(/[a-z.]{1,60}[a-z]){0,5}", proptest::collection::vec(any::<u8>(), 0..1500)), 0..6),
    ) {
        let bytes = archive(|b| files.iter().for_each(|(path, data)| file(b, path, data)));
        let entries = walk(&bytes).unwrap();
        prop_assert_eq!(entries.len(), files.len());
        for ((entry, data), (path, wanted)) in entries.iter().zip(&files) {
            prop_assert_eq!(&entry.path, path.as_bytes());
            prop_assert_eq!(data, wanted);
        }
    }
}
