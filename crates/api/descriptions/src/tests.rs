use cloudeck_schema::openapi::Descriptions;

use crate::layout::{Described, DescribedTypes, write};

fn sample() -> DescribedTypes {
    let described = |text: &str, fields: &[(&str, &str)]| Described {
        text: text.into(),
        fields: fields
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect(),
    };
    DescribedTypes::from([
        (
            "a.Lamp".into(),
            described(
                "Gives light.\n\nNot heat.",
                &[("on", "Whether = it is lit."), ("watts", "Power.")],
            ),
        ),
        (
            "a.Lantern".into(),
            described("", &[("on", "Whether = it is lit.")]),
        ),
    ])
}

#[test]
fn what_is_written_is_read_back() {
    let read = Descriptions::parse(write(&sample())).unwrap();
    assert_eq!(read.of_type("a.Lamp"), Some("Gives light.\n\nNot heat."));
    assert_eq!(read.of_field("a.Lamp", "on"), Some("Whether = it is lit."));
    assert_eq!(read.of_field("a.Lamp", "watts"), Some("Power."));
    assert_eq!(read.of_field("a.Lantern", "on"), Some("Whether = it is lit."));
}

#[test]
fn what_nobody_described_has_no_text() {
    let read = Descriptions::parse(write(&sample())).unwrap();
    assert_eq!(read.of_type("a.Lantern"), None);
    assert_eq!(read.of_type("a.La"), None);
    assert_eq!(read.of_field("a.Lamp", "o"), None);
    assert_eq!(read.of_field("a.Torch", "on"), None);
}

#[test]
fn a_text_that_occurs_twice_is_written_once() {
    assert_eq!(write(&sample()).matches("it is lit").count(), 1);
}

#[test]
fn a_text_cut_short_is_refused() {
    let whole = write(&sample());
    for end in [0, 1, 10, whole.find("a.Lamp").unwrap() - 1] {
        assert!(
            Descriptions::parse(whole[..end].to_owned()).is_err(),
            "cut at {end}"
        );
    }
    assert!(Descriptions::parse(format!("{whole}a.Zenith\t99\n")).is_err());
}

#[cfg(feature = "full")]
mod full {
    use cloudeck_schema::openapi::Documents;
    use cloudeck_schema::resources;

    use crate::load;

    #[test]
    fn containers_of_a_pod_are_described() {
        let read = load();
        let text = read.of_field("io.k8s.api.core.v1.PodSpec", "containers").unwrap();
        assert!(
            text.starts_with("List of containers belonging to the pod."),
            "{text}"
        );
    }

    #[test]
    fn every_served_kind_and_all_its_fields_are_described() {
        let read = load();
        // Upstream says nothing about these.
        let known = ["io.k8s.api.certificates.v1.CertificateSigningRequest.metadata"];
        let mut silent = Vec::new();
        for ty in resources().filter_map(|info| info.root) {
            if read.of_type(ty.name()).is_none() {
                silent.push(ty.name().to_owned());
            }
            let fields = ty
                .fields()
                .filter(|field| read.of_field(ty.name(), field.name()).is_none());
            silent.extend(fields.map(|field| format!("{}.{}", ty.name(), field.name())));
        }
        assert_eq!(silent, known);
    }

    #[test]
    fn documents_carry_the_texts_and_other_hashes() {
        let (plain, full) = (Documents::default(), Documents::new(Some(load)));
        let document = String::from_utf8(full.document("apps", "v1").unwrap()).unwrap();
        assert!(document.contains("List of containers belonging to the pod."));
        let (plain, full) = (plain.index(), full.index());
        assert_eq!(plain.len(), full.len());
        for (without, with) in plain.iter().zip(full) {
            assert_eq!(without.0, with.0);
            assert_ne!(without.1, with.1, "{}", with.0);
        }
        assert_eq!(full, Documents::new(Some(load)).index());
    }

    #[test]
    fn the_packed_texts_take_less_than_300_kib() {
        assert!(crate::PACKED.len() < 300 << 10, "{}", crate::PACKED.len());
    }
}
