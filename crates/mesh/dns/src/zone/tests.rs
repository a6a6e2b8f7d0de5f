use super::*;

const DNS_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn object(json: &str) -> cloudeck_machinery::Object {
    cloudeck_machinery::Object::from_json(json.to_owned().into()).unwrap()
}

fn set_service(zone: &mut Zone, name: &str, spec: &str) {
    let object = object(&format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"spec":{spec}}}"#
    ));
    zone.set_service(object.key.clone(), ServiceRecord::read(&object));
}

fn set_slice(zone: &mut Zone, name: &str, service: &str, endpoints: &str) {
    let object = object(&format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","labels":{{"kubernetes.io/service-name":"{service}"}}}},
            "addressType":"IPv4","ports":[{{"name":"sql","protocol":"TCP","port":5432}}],"endpoints":{endpoints}}}"#
    ));
    zone.set_slice(object.key.clone(), SliceRecord::read(&object));
}

/// `web` with an address, headless `db` with two endpoints, one of them named, and `old`, an alias.
fn zone() -> Zone {
    let mut zone = Zone::new("Cluster.Local", DNS_IP);
    set_service(
        &mut zone,
        "web",
        r#"{"clusterIP":"10.96.0.20","ports":[{"name":"http","protocol":"TCP","port":80},{"protocol":"UDP","port":53}]}"#,
    );
    set_service(
        &mut zone,
        "db",
        r#"{"clusterIP":"None","ports":[{"name":"sql","port":5432}]}"#,
    );
    set_service(
        &mut zone,
        "old",
        r#"{"type":"ExternalName","externalName":"legacy.example.com."}"#,
    );
    set_slice(
        &mut zone,
        "db-1",
        "db",
        r#"[{"addresses":["10.244.0.2"],"hostname":"db-0"},{"addresses":["10.244.0.3"]},
            {"addresses":["10.244.0.4"],"conditions":{"ready":false}}]"#,
    );
    zone
}

fn check(name: &str, kind: Kind, expected: &Outcome) {
    assert_eq!(&zone().look_up(name, kind), expected, "{name} {kind:?}");
}

fn a(last: &[[u8; 4]]) -> Outcome {
    Outcome::Records(last.iter().map(|octets| Data::A((*octets).into())).collect())
}

fn nothing() -> Outcome {
    Outcome::Records(Vec::new())
}

fn srv(port: u16, target: &str, address: [u8; 4]) -> Data {
    Data::Srv {
        port,
        target: target.to_owned(),
        address: address.into(),
    }
}

#[test]
fn a_service_has_its_address_in_any_case_and_with_a_dot() {
    let own = a(&[[10, 96, 0, 20]]);
    check("web.shop.svc.cluster.local", Kind::A, &own);
    check("WEB.Shop.svc.CLUSTER.local.", Kind::A, &own);
    check("web.shop.svc.cluster.local", Kind::Other, &nothing());
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    check(
        "db.shop.svc.cluster.local",
        Kind::A,
        &a(&[[10, 244, 0, 2], [10, 244, 0, 3]]),
    );
    check("db-0.db.shop.svc.cluster.local", Kind::A, &a(&[[10, 244, 0, 2]]));
    check(
        "10-244-0-3.db.shop.svc.cluster.local",
        Kind::A,
        &a(&[[10, 244, 0, 3]]),
    );
    check(
        "10-244-0-4.db.shop.svc.cluster.local",
        Kind::A,
        &Outcome::NoSuchName,
    );
    check("db-1.db.shop.svc.cluster.local", Kind::A, &Outcome::NoSuchName);
}

#[test]
fn a_headless_service_without_endpoints_exists() {
    let mut zone = zone();
    set_slice(&mut zone, "db-1", "db", "[]");
    assert_eq!(zone.look_up("db.shop.svc.cluster.local", Kind::A), nothing());
}

#[test]
fn ports_are_found_by_name_and_protocol() {
    let web = "web.shop.svc.cluster.local";
    let http = Outcome::Records(vec![srv(80, web, [10, 96, 0, 20])]);
    check("_http._tcp.web.shop.svc.cluster.local", Kind::Srv, &http);
    check(web, Kind::Srv, &http);
    check("_http._tcp.web.shop.svc.cluster.local", Kind::A, &nothing());
    check(
        "_http._udp.web.shop.svc.cluster.local",
        Kind::Srv,
        &Outcome::NoSuchName,
    );
    check("_tcp.web.shop.svc.cluster.local", Kind::Srv, &nothing());
    let endpoints = vec![
        srv(5432, "db-0.db.shop.svc.cluster.local", [10, 244, 0, 2]),
        srv(5432, "10-244-0-3.db.shop.svc.cluster.local", [10, 244, 0, 3]),
    ];
    check(
        "_sql._tcp.db.shop.svc.cluster.local",
        Kind::Srv,
        &Outcome::Records(endpoints),
    );
}

#[test]
fn addresses_have_names() {
    let ptr = |name: &str| Outcome::Records(vec![Data::Ptr(name.to_owned())]);
    check(
        "20.0.96.10.in-addr.arpa",
        Kind::Ptr,
        &ptr("web.shop.svc.cluster.local"),
    );
    check(
        "2.0.244.10.in-addr.arpa",
        Kind::Ptr,
        &ptr("db-0.db.shop.svc.cluster.local"),
    );
    check(
        "3.0.244.10.in-addr.arpa",
        Kind::Ptr,
        &ptr("10-244-0-3.db.shop.svc.cluster.local"),
    );
    check("9.9.9.9.in-addr.arpa", Kind::Ptr, &Outcome::NotOurs);
}

#[test]
fn an_external_name_is_an_alias() {
    let alias = Outcome::Alias("legacy.example.com".to_owned());
    check("old.shop.svc.cluster.local", Kind::A, &alias);
    check("x.old.shop.svc.cluster.local", Kind::A, &Outcome::NoSuchName);
}

#[test]
fn pods_have_the_address_that_their_name_says() {
    check(
        "10-244-0-7.shop.pod.cluster.local",
        Kind::A,
        &a(&[[10, 244, 0, 7]]),
    );
    check("10-244-0.shop.pod.cluster.local", Kind::A, &Outcome::NoSuchName);
    check("web.shop.pod.cluster.local", Kind::A, &Outcome::NoSuchName);
}

#[test]
fn names_on_the_way_exist_and_others_do_not() {
    check("svc.cluster.local", Kind::A, &nothing());
    check("shop.svc.cluster.local", Kind::A, &nothing());
    check("other.svc.cluster.local", Kind::A, &Outcome::NoSuchName);
    check("web.other.svc.cluster.local", Kind::A, &Outcome::NoSuchName);
    check("nonsense.cluster.local", Kind::A, &Outcome::NoSuchName);
}

#[test]
fn other_domains_are_not_ours_even_with_the_same_end() {
    check("example.com", Kind::A, &Outcome::NotOurs);
    check("mycluster.local", Kind::A, &Outcome::NotOurs);
}

#[test]
fn the_zone_tells_about_itself() {
    check("cluster.local", Kind::Soa, &Outcome::Records(vec![Data::Soa]));
    check(
        "cluster.local",
        Kind::Ns,
        &Outcome::Records(vec![Data::Ns("ns.dns.cluster.local".to_owned())]),
    );
    check("ns.dns.cluster.local", Kind::A, &a(&[DNS_IP.octets()]));
    check(
        "dns-version.cluster.local",
        Kind::Txt,
        &Outcome::Records(vec![Data::Txt("1.1.0".to_owned())]),
    );
}

#[test]
fn what_goes_leaves_nothing_behind() {
    let mut zone = zone();
    for name in ["web", "db", "old"] {
        zone.set_service(ObjectKey::new("shop", name), None);
    }
    zone.set_slice(ObjectKey::new("shop", "db-1"), None);
    assert!(zone.reverse.is_empty() && zone.namespaces.is_empty() && zone.slices.is_empty());
    assert!(zone.services.is_empty() && zone.slice_owners.is_empty());
    assert_eq!(
        zone.look_up("shop.svc.cluster.local", Kind::A),
        Outcome::NoSuchName
    );
}

#[test]
fn a_changed_address_is_forgotten_in_reverse() {
    let mut zone = zone();
    set_service(&mut zone, "web", r#"{"clusterIP":"10.96.0.21"}"#);
    assert_eq!(
        zone.look_up("20.0.96.10.in-addr.arpa", Kind::Ptr),
        Outcome::NotOurs
    );
    assert_ne!(
        zone.look_up("21.0.96.10.in-addr.arpa", Kind::Ptr),
        Outcome::NotOurs
    );
}
