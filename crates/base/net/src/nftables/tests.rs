//! Root tests: each in a network namespace of its own.

use std::time::Duration;

use rustix::io::Errno;

use super::*;

const KEY: &[SetType] = &[
    SetType::Ipv4Address,
    SetType::Protocol,
    SetType::Port,
    SetType::Mark,
];
const ENDPOINT: &[SetType] = &[SetType::Ipv4Address, SetType::Port];

fn socket() -> NftSocket {
    NftSocket::open_in(&NetNamespace::create().unwrap()).unwrap()
}

fn element(slot: u32) -> Element {
    Element::new()
        .address([10, 96, 0, 1].into())
        .protocol(6)
        .port(443)
        .mark(slot)
}

fn with_map() -> Batch {
    let mut batch = Batch::new();
    batch
        .renew_table("t")
        .add_set("t", &SetSpec::map("slots", KEY, ENDPOINT));
    batch
}

#[test]
fn a_batch_is_applied_as_a_whole_or_not_at_all() {
    let mut socket = socket();
    let mut bad = with_map();
    bad.delete_elements("t", "slots", &[element(1)]);
    let error = socket.commit(bad).unwrap_err();
    assert_eq!(error.refusal(), Some(Errno::NOENT), "{error}");
    assert!(socket.tables().unwrap().is_empty());

    socket.commit(with_map()).unwrap();
    assert_eq!(socket.tables().unwrap(), ["t"]);
}

#[test]
fn more_elements_than_a_message_holds_are_split() {
    let mut socket = socket();
    let endpoint = [10, 244, 0, 9].into();
    let elements: Vec<_> = (0..2500)
        .map(|slot| element(slot).to_endpoint(endpoint, 8080))
        .collect();
    let mut batch = with_map();
    batch.add_elements("t", "slots", &elements);
    socket.commit(batch).unwrap();
    let listed = socket.elements("t", "slots").unwrap();
    assert_eq!(listed.len(), 2500);
    assert_eq!(listed[0].value, [10, 244, 0, 9, 31, 144, 0, 0]);

    let mut again = Batch::new();
    again.add_elements("t", "slots", &[element(3).to_endpoint(endpoint, 1)]);
    assert_eq!(socket.commit(again).unwrap_err().refusal(), Some(Errno::EXIST));
    let mut delete = Batch::new();
    delete.delete_elements("t", "slots", elements.iter().take(2000));
    socket.commit(delete).unwrap();
    assert_eq!(socket.elements("t", "slots").unwrap().len(), 500);
}

#[test]
fn a_check_changes_nothing() {
    let mut socket = socket();
    socket.check(with_map()).unwrap();
    assert!(socket.tables().unwrap().is_empty());
}

#[test]
fn chains_tell_their_hook_and_policy() {
    let mut socket = socket();
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
    };
    let mut batch = with_map();
    batch
        .add_chain("t", "forward", Some(base))
        .add_chain("t", "more", None);
    batch.add_rule(
        "t",
        "forward",
        &Rule::new().verdict(&Verdict::Jump("more".to_owned())),
    );
    socket.commit(batch).unwrap();
    let chains = socket.chains().unwrap();
    assert_eq!(chains.len(), 2);
    assert_eq!(chains[0].hook, Some(2));
    assert!(!chains[0].drops_by_policy);
    assert_eq!(chains[1].hook, None);
}

fn check(kind: ChainKind, hook: Hook, rules: &[Rule]) {
    let mut batch = with_map();
    let timeout = Duration::from_secs(10);
    batch
        .add_set("t", &SetSpec::verdict_map("verdicts", &KEY[..3]))
        .add_set("t", &SetSpec::set("members", &KEY[..1]))
        .add_set(
            "t",
            &SetSpec::map("memory", &KEY[..1], ENDPOINT).filled_by_rules(timeout),
        )
        .add_chain(
            "t",
            "base",
            Some(BaseChain {
                kind,
                hook,
                priority: 0,
            }),
        )
        .add_chain("t", "refuse", None)
        .add_rule("t", "refuse", &Rule::new().reject());
    let refuse = Verdict::Goto("refuse".to_owned());
    let refused = Element::new()
        .address([10, 96, 0, 1].into())
        .protocol(6)
        .port(443)
        .to_verdict(refuse);
    batch.add_elements("t", "verdicts", &[refused]);
    for rule in rules {
        batch.add_rule("t", "base", rule);
    }
    socket().commit(batch).unwrap();
}

fn key() -> Rule {
    Rule::new()
        .load_destination(Register(0))
        .load_meta(Meta::L4Protocol, Register(1))
        .load_destination_port(Register(2))
}

#[test]
fn the_kernel_takes_destination_translation() {
    let dnat = |rule: Rule| rule.translate(NatKind::Destination, Register(4), Some(Register(5)));
    let random = key()
        .load_random(12, 0, Register(3))
        .load_from_map("slots", Register(0), Register(4));
    let sticky = key()
        .load_source(Register(6))
        .load_hash(Register(6), 4, 7, 12, 0, Register(3))
        .load_from_map("slots", Register(0), Register(4))
        .remember("memory", Register(6), Register(4), Duration::from_secs(10))
        .set_mark_bits(0x4000);
    let any = Rule::new()
        .if_destination_is_local()
        .load_address([0, 0, 0, 0].into(), Register(0));
    check(
        ChainKind::Nat,
        Hook::Prerouting,
        &[dnat(random), dnat(sticky), any],
    );
}

#[test]
fn the_kernel_takes_source_translation() {
    let range = "10.0.0.0/8".parse().unwrap();
    let masquerade = Rule::new()
        .if_mark_has(0x4000)
        .unless_source_in(range)
        .masquerade();
    let fixed = Rule::new().load_address([1, 2, 3, 4].into(), Register(0));
    check(
        ChainKind::Nat,
        Hook::Postrouting,
        &[masquerade, fixed.translate(NatKind::Source, Register(0), None)],
    );
}

#[test]
fn the_kernel_takes_filters() {
    let range = "10.0.0.0/8".parse().unwrap();
    let rules = [
        key()
            .if_ct_state(ct_state::NEW)
            .verdict_from_map("verdicts", Register(0)),
        Rule::new()
            .unless_input_device(1)
            .if_destination_in(range)
            .verdict(&Verdict::Drop),
        Rule::new()
            .load_source(Register(0))
            .if_in_set("members", Register(0))
            .count(),
        Rule::new()
            .unless_source_is_local()
            .unless_destination_in(range)
            .count(),
    ];
    check(ChainKind::Filter, Hook::Input, &rules);
}

#[tokio::test]
async fn removed_tables_are_heard_of() {
    let namespace = NetNamespace::create().unwrap();
    let mut watch = NftWatch::open(Some(&namespace)).unwrap();
    let mut socket = NftSocket::open_in(&namespace).unwrap();
    socket.commit(with_map()).unwrap();
    let mut remove = Batch::new();
    remove.delete_table("t");
    socket.commit(remove).unwrap();
    let heard = watch.next().await.unwrap();
    // The first batch renews the table, which is a removal too.
    assert!(heard.contains(&TableNews::Removed("t".to_owned())), "{heard:?}");
}
