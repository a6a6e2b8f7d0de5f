use super::*;

/// A field of wire type 2.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2, content.len() as u8];
    out.extend(content);
    out
}

fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
}

#[test]
fn an_enveloped_review_becomes_its_tree() {
    let attributes = [field(1, b"default"), field(2, b"list"), field(5, b"pods")].concat();
    let body = enveloped(
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        &field(2, &field(1, &attributes)),
    );
    let (meta, tree) = decode_envelope(&body).unwrap();
    assert_eq!(meta.kind, "SelfSubjectAccessReview");
    assert_eq!(
        tree.at(&["spec", "resourceAttributes"]).unwrap().to_string(),
        r#"{"namespace":"default","resource":"pods","verb":"list"}"#
    );
    assert_eq!(tree.str_at(&["apiVersion"]), Some("authorization.k8s.io/v1"));
}

#[test]
fn broken_bodies_are_refused() {
    assert_eq!(decode_envelope(b"{}"), Err(DecodeError::NoEnvelope));
    let unknown = enveloped("v9", "Pod", b"");
    assert!(matches!(
        decode_envelope(&unknown),
        Err(DecodeError::UnknownKind { .. })
    ));
    let good = enveloped(
        "v1",
        "ConfigMap",
        &field(2, &[field(1, b"k"), field(2, b"v")].concat()),
    );
    assert!(decode_envelope(&good).is_ok());
    // Between the two fields of the envelope a cut leaves an empty object, which is one.
    let between = enveloped("v1", "ConfigMap", b"").len() - 2;
    for end in (MAGIC.len() + 1..good.len()).filter(|end| *end != between) {
        assert!(decode_envelope(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn nesting_has_a_bound() {
    let mut schema = Vec::new();
    for _ in 0..400 {
        // JSONSchemaProps.not
        let mut outer = long_field(0, &schema);
        // The tag 28 takes two bytes.
        outer.splice(..1, [28 << 3 & 0x7F | 0x80 | 2, 28 >> 4]);
        schema = outer;
    }
    let ty =
        TypeRef::by_name("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    assert_eq!(ty.field("not").unwrap().tag(), 28);
    assert_eq!(decode(ty, &schema), Err(DecodeError::TooDeep));
}

#[test]
fn nested_envelopes_have_a_bound() {
    let mut body = enveloped("v1", "List", b"");
    for _ in 0..300 {
        let raw = long_field(2, &long_field(1, &body));
        let meta = [field(1, b"v1"), field(2, b"List")].concat();
        body = [MAGIC.to_vec(), field(1, &meta), long_field(2, &raw)].concat();
    }
    assert_eq!(decode_envelope(&body), Err(DecodeError::TooDeep));
}

#[test]
fn raw_json_nests_no_deeper_than_what_it_stands_in_leaves() {
    let revision = |levels: usize| {
        let raw = [r#"{"a":"#.repeat(levels), "1".into(), "}".repeat(levels)].concat();
        // ControllerRevision.data, a RawExtension.
        let raw = [long_field(2, &long_field(1, raw.as_bytes())), vec![3 << 3, 1]].concat();
        let meta = [field(1, b"apps/v1"), field(2, b"ControllerRevision")].concat();
        let body = [MAGIC.to_vec(), field(1, &meta), long_field(2, &raw)].concat();
        decode_envelope(&body)
    };
    let (_, tree) = revision(MAX_DEPTH - 1).unwrap();
    assert!(tree.is_deeper_than(MAX_DEPTH - 1));
    assert!(revision(MAX_DEPTH).is_err());
    assert!(revision(MAX_DEPTH + 50).is_err());
}

/// As [`field`], of any length.
fn long_field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut size = content.len();
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
    out.extend(content);
    out
}
