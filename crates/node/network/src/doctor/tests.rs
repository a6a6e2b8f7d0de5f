use super::*;

fn chain(table: &str, name: &str, hook: Option<u32>, drops_by_policy: bool) -> Chain {
    Chain {
        family: 2,
        table: table.to_owned(),
        name: name.to_owned(),
        hook,
        drops_by_policy,
    }
}

#[test]
fn a_forward_chain_that_drops_is_found() {
    let found = forward_blocked(&[chain("filter", "FORWARD", Some(2), true)]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].what.contains("FORWARD of table filter"),
        "{}",
        found[0].what
    );
}

#[test]
fn harmless_chains_are_not_reported() {
    let harmless = [
        chain("filter", "FORWARD", Some(2), false),
        chain("filter", "INPUT", Some(1), true),
        chain("filter", "DOCKER", None, false),
        chain("cloudeck-a-services", "forward", Some(2), true),
    ];
    assert!(forward_blocked(&harmless).is_empty());
}

#[test]
fn firewalld_is_found_by_its_table() {
    assert_eq!(
        forward_blocked(&[chain("firewalld", "filter_FORWARD", Some(2), false)]).len(),
        1
    );
}

#[test]
fn a_plain_namespace_of_this_machine_has_no_findings_and_stays_empty() {
    let namespace = Arc::new(NetNamespace::create().unwrap());
    assert_eq!(diagnose(Some(Arc::clone(&namespace))), []);
    assert!(
        Place(Some(namespace))
            .nft_socket()
            .unwrap()
            .tables()
            .unwrap()
            .is_empty()
    );
}
