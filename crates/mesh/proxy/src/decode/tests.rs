use super::*;

fn object(json: &str) -> Object {
    Object::from_json(json.to_owned().into()).unwrap()
}

fn service(spec: &str) -> Option<ServiceView> {
    service_view(&object(&format!(
        r#"{{"metadata":{{"name":"s","namespace":"n"}},"spec":{spec}}}"#
    )))
}

fn slice(labels: &str, rest: &str) -> Option<EndpointSliceView> {
    let json = format!(r#"{{"metadata":{{"name":"s-1","namespace":"n","labels":{labels}}},{rest}}}"#);
    endpoint_slice_view(&object(&json))
}

#[test]
fn a_service_is_read_with_everything_that_matters() {
    let view = service(
        r#"{"type":"NodePort","clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalIPs":["203.0.113.1"],
            "ports":[{"name":"dns","protocol":"UDP","port":53,"nodePort":30053,"targetPort":"dns"}],
            "internalTrafficPolicy":"Cluster","externalTrafficPolicy":"Local","sessionAffinity":"ClientIP",
            "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}}}"#,
    );
    let expected = ServiceView {
        cluster_ip: Some([10, 96, 0, 9].into()),
        external_ips: vec![[203, 0, 113, 1].into()],
        ports: vec![ServicePortView {
            name: "dns".to_owned(),
            protocol: Protocol::Udp,
            port: 53,
            node_port: Some(30053),
        }],
        external_policy: TrafficPolicy::Local,
        affinity_seconds: Some(60),
        ..ServiceView::default()
    };
    assert_eq!(view, Some(expected));
}

#[test]
fn services_that_are_not_ours_have_no_view() {
    assert_eq!(service(r#"{"clusterIP":"None","ports":[{"port":80}]}"#), None);
    assert_eq!(
        service(r#"{"type":"ExternalName","externalName":"example.com"}"#),
        None
    );
    assert_eq!(
        service(r#"{"clusterIP":"fd00::1","clusterIPs":["fd00::1"]}"#),
        None
    );
    let other = r#"{"metadata":{"name":"s","namespace":"n","labels":{"service.kubernetes.io/service-proxy-name":"x"}},
                    "spec":{"clusterIP":"10.96.0.9"}}"#;
    assert_eq!(service_view(&object(other)), None);
}

#[test]
fn the_ipv4_address_of_a_dual_stack_service_is_used() {
    let view = service(r#"{"clusterIP":"fd00::1","clusterIPs":["fd00::1","10.96.0.9"]}"#).unwrap();
    assert_eq!(view.cluster_ip, Some([10, 96, 0, 9].into()));
}

#[test]
fn a_load_balancer_that_is_restricted_is_not_opened_to_everybody() {
    let with = |ranges: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"s","namespace":"n"}},
                "spec":{{"type":"LoadBalancer","clusterIP":"10.96.0.9"{ranges}}},
                "status":{{"loadBalancer":{{"ingress":[{{"ip":"203.0.113.9","ipMode":"VIP"}},{{"ip":"203.0.113.8","ipMode":"Proxy"}}]}}}}}}"#
        );
        service_view(&object(&json)).unwrap().load_balancer_ips
    };
    assert_eq!(with(""), [Ipv4Addr::new(203, 0, 113, 9)]);
    assert!(with(r#","loadBalancerSourceRanges":["10.0.0.0/8"]"#).is_empty());
}

#[test]
fn absent_conditions_mean_ready_and_absent_ports_are_left_out() {
    let view = slice(
        r#"{"kubernetes.io/service-name":"s"}"#,
        r#""addressType":"IPv4","ports":[{"port":8080},{"name":"any"}],
           "endpoints":[{"addresses":["10.244.0.2"],"nodeName":"here"},
                        {"addresses":["10.244.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}},
                        {"addresses":[]}]"#,
    )
    .unwrap();
    assert_eq!(view.service, "s");
    assert_eq!(
        view.ports,
        [EndpointPortView {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8080
        }]
    );
    let told: Vec<_> = view
        .endpoints
        .iter()
        .map(|e| (e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(told, [(true, true, false), (false, true, true)]);
    assert_eq!(view.endpoints[0].node.as_deref(), Some("here"));
}

#[test]
fn slices_of_no_service_or_of_other_addresses_have_no_view() {
    assert_eq!(slice("{}", r#""addressType":"IPv4","endpoints":[]"#), None);
    assert_eq!(
        slice(
            r#"{"kubernetes.io/service-name":"s"}"#,
            r#""addressType":"IPv6","endpoints":[]"#
        ),
        None
    );
}
