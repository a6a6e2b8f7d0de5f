use proptest::prelude::*;

use super::*;

fn check(text: &str, stored: &str) {
    assert_eq!(canonical(text).as_deref(), Ok(stored), "{text}");
}

#[test]
fn texts_are_stored_as_upstream_stores_them() {
    for (text, stored) in [
        ("0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("100m", "100m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1536Mi", "1536Mi"),
        ("8Mi", "8Mi"),
        ("0.5Mi", "512Ki"),
        ("0.0001Ki", "102400u"),
        ("12e6", "12e6"),
        ("1200e3", "1200e3"),
        ("12000e3", "12e6"),
        ("1E", "1E"),
        ("1e3", "1e3"),
        ("10000", "10k"),
        ("1000k", "1M"),
        ("0.1n", "1n"),
        ("1.1n", "2n"),
        ("-100m", "-100m"),
        ("-1000m", "-1"),
        ("100000000000000000000", "100E"),
        (
            "111111111111111111111111111110.11111111",
            "111111111111111111111111111110111111110n",
        ),
        (
            "111111111111111111111111111110111111110n",
            "111111111111111111111111111110111111110n",
        ),
        ("9223372036854775808Ki", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("1000", "1k"),
        ("500", "500"),
        ("1023Ki", "1023Ki"),
        ("0Mi", "0"),
        (".5", "500m"),
        ("1.", "1."),
    ] {
        check(text, stored);
    }
}

#[test]
fn some_texts_are_kept_as_written_like_upstream_does() {
    for text in ["0100", "+100", "1.001", "1.500k", "+5Mi"] {
        check(text, text);
    }
}

#[test]
fn what_is_no_quantity_is_refused_in_upstreams_words() {
    for text in ["", "abc", "1x", "1 Gi", "1.2.3", "١"] {
        assert_eq!(canonical(text), Err(QuantityError::Format), "{text}");
    }
    for text in [
        "1mm",
        "1ki",
        "1KiB".trim_end_matches('B').trim_end_matches('i'),
        "1e",
        "1i",
    ] {
        assert_eq!(canonical(text), Err(QuantityError::Suffix), "{text}");
    }
}

#[test]
fn values_are_rounded_away_from_zero() {
    let quantity = |text: &str| text.parse::<Quantity>().unwrap();
    assert_eq!(quantity("100m").value(), 1);
    assert_eq!(quantity("-100m").value(), -1);
    assert_eq!(quantity("1500u").milli_value(), 2);
    assert_eq!(quantity("2").milli_value(), 2000);
    assert_eq!(quantity("64Mi").value(), 64 << 20);
    assert_eq!(quantity("100E").value(), i64::MAX);
}

#[test]
fn sums_take_the_format_of_the_first_amount() {
    let sum: Quantity = ["512Mi", "512Mi", "1G"]
        .iter()
        .map(|text| text.parse::<Quantity>().unwrap())
        .sum();
    assert_eq!((sum - "1G".parse().unwrap()).to_string(), "1Gi");
    assert_eq!(
        ("1".parse::<Quantity>().unwrap() - "250m".parse().unwrap()).to_string(),
        "750m"
    );
}

fn any_text() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec![
        "", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi", "e3", "E-2", "e0",
    ]);
    ("[+-]?[0-9]{1,9}(\\.[0-9]{0,6})?", suffix).prop_map(|(number, suffix)| format!("{number}{suffix}"))
}

proptest! {
    #[test]
    fn storing_twice_changes_nothing(text in any_text()) {
        let once = canonical(&text).unwrap();
        prop_assert_eq!(canonical(&once).unwrap(), once);
    }

    #[test]
    fn storing_keeps_the_amount(text in any_text()) {
        let before: Quantity = text.parse().unwrap();
        let after: Quantity = canonical(&text).unwrap().parse().unwrap();
        prop_assert_eq!(before, after);
        prop_assert_eq!(before.to_string().parse::<Quantity>().unwrap(), before);
    }

    #[test]
    fn adding_and_taking_away_gives_the_same_amount(a in any_text(), b in any_text()) {
        let (a, b): (Quantity, Quantity) = (a.parse().unwrap(), b.parse().unwrap());
        prop_assert_eq!(a + b - b, a);
        prop_assert_eq!(a + b, b + a);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = canonical(&text);
    }

    #[test]
    fn no_quantity_like_text_panics(text in "[+-]?[0-9.]{0,45}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,12}") {
        let _ = canonical(&text);
    }
}
