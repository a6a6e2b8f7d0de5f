use super::*;

fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn entry(n: u8, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
    Descriptor {
        media_type: media_type::OCI_MANIFEST.to_owned(),
        digest: digest(n),
        size: 1,
        annotations: BTreeMap::new(),
        platform: platform.map(|(os, architecture, variant)| Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
        }),
    }
}

fn select(entries: Vec<Descriptor>, architecture: &str) -> Option<Digest> {
    let index = Index {
        schema_version: 2,
        media_type: String::new(),
        manifests: entries,
    };
    let wanted = Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: None,
    };
    index.select(&wanted).map(|d| d.digest)
}

#[test]
fn the_matching_platform_is_selected_and_attestations_are_not() {
    let entries = || {
        vec![
            entry(1, Some(("unknown", "unknown", None))),
            entry(2, Some(("linux", "arm64", Some("v8")))),
            entry(3, Some(("linux", "amd64", None))),
            entry(4, Some(("windows", "amd64", None))),
        ]
    };
    assert_eq!(select(entries(), "amd64"), Some(digest(3)));
    assert_eq!(select(entries(), "arm64"), Some(digest(2)));
    assert_eq!(select(entries(), "riscv64"), None);
}

#[test]
fn a_variant_above_the_processor_is_not_selected() {
    let v3 = entry(1, Some(("linux", "amd64", Some("v3"))));
    assert_eq!(select(vec![v3.clone()], "amd64"), None);
    assert_eq!(
        select(vec![v3, entry(2, Some(("linux", "amd64", None)))], "amd64"),
        Some(digest(2))
    );
}

#[test]
fn an_entry_without_a_platform_is_the_last_resort() {
    assert_eq!(select(vec![entry(1, None)], "amd64"), Some(digest(1)));
    assert_eq!(
        select(
            vec![entry(1, None), entry(2, Some(("linux", "amd64", None)))],
            "amd64"
        ),
        Some(digest(2))
    );
}

fn parse(json: &str, content_type: Option<&str>) -> Result<Document, String> {
    Document::parse(json.as_bytes(), content_type).map_err(|e| e.to_string())
}

#[test]
fn documents_are_told_apart_by_type_and_shape() {
    let index = r#"{"schemaVersion":2,"manifests":null}"#;
    assert!(matches!(
        parse(index, Some(media_type::OCI_INDEX)),
        Ok(Document::Index(_))
    ));
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    assert!(matches!(parse(index, Some("text/plain")), Ok(Document::Index(_))));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":2}},"layers":[]}}"#,
        digest(1)
    );
    assert!(matches!(parse(&manifest, None), Ok(Document::Manifest(_))));
}

#[test]
fn a_document_that_is_two_things_or_too_old_is_refused() {
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    assert!(parse(both, None).unwrap_err().contains("both"));
    let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
    assert_eq!(
        parse(old, None).unwrap_err(),
        "image format schema 1 is not supported"
    );
    let other = r#"{"schemaVersion":2,"mediaType":"application/json"}"#;
    assert_eq!(
        parse(other, None).unwrap_err(),
        "unsupported manifest media type \"application/json\""
    );
}
