//! What clients notice of the HTTP edge.

use cloudeck_testkit::TestServer;

use crate::wire::Wire;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn credentials_decide_between_401_403_and_an_answer() {
    let test = TestServer::start().await.unwrap();
    let mut anonymous = Wire::anonymous(&test).await;
    assert_eq!(anonymous.get("/livez").await.status, 200);
    let refused = anonymous.get("/api/v1/pods").await;
    assert_eq!(
        (refused.status.as_u16(), refused.message().as_str()),
        (401, "Unauthorized")
    );
    assert_eq!(anonymous.get("/version").await.status, 200);
    let bad = anonymous
        .ask("GET", "/livez", &[("authorization", "Bearer nonsense")], "")
        .await;
    assert_eq!(
        (bad.status.as_u16(), bad.message().as_str()),
        (401, "Unauthorized")
    );
    assert_eq!(Wire::admin(&test).await.get("/api/v1/pods").await.status, 200);
    test.stop().await;
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let answer = wire.get("/api/v1/namespaces/default").await;
    assert_eq!(answer.header("cache-control"), "no-cache, private");
    assert_eq!(answer.header("audit-id").len(), 36);
    assert_eq!(answer.header("content-type"), "application/json");
    let version = wire.get("/version").await.tree();
    assert_eq!(
        (version.str_at(&["major"]), version.str_at(&["minor"])),
        (Some("1"), Some("37"))
    );
    test.stop().await;
}

#[tokio::test]
async fn whoever_reads_by_eye_is_given_lines() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/api/v1/namespaces?fieldSelector=metadata.name%3Ddefault";
    let (packed, lines) = (
        wire.get(path).await,
        wire.get(&format!("{path}&pretty=true")).await,
    );
    assert!(
        packed
            .body
            .starts_with(br#"{"kind":"NamespaceList","apiVersion":"v1","metadata":{"#)
    );
    assert!(
        lines
            .body
            .starts_with(b"{\n  \"kind\": \"NamespaceList\",\n  \"apiVersion\": \"v1\",\n")
    );
    assert_eq!(packed.tree(), lines.tree());
    let by_hand = &[("user-agent", "curl/8.5.0")];
    let refused = wire.ask("GET", "/api/v1/namespaces/none", by_hand, "").await;
    assert!(refused.body.starts_with(b"{\n  \"kind\": \"Status\",\n"));
    let schema = wire.ask("GET", "/openapi/v3", by_hand, "").await;
    assert!(schema.body.starts_with(b"{\"paths\""));
    test.stop().await;
}

#[tokio::test]
async fn every_group_version_is_registered_and_available() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/apis/apiregistration.k8s.io/v1/apiservices";
    let core = wire.get(&format!("{path}/v1.")).await.tree();
    assert_eq!(core.int_at(&["spec", "groupPriorityMinimum"]), Some(18_000));
    let managed = ["metadata", "labels", "kube-aggregator.kubernetes.io/automanaged"];
    assert_eq!(core.str_at(&managed), Some("onstart"));
    let accept = &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = wire.ask("GET", path, accept, "").await.tree();
    let rows = table.items_at(&["rows"]);
    assert_eq!(rows.len(), 22);
    for row in rows {
        let cells = row.items_at(&["cells"]);
        assert_eq!(
            (cells[1].as_str(), cells[2].as_str()),
            (Some("Local"), Some("True")),
            "{row:?}"
        );
    }
    let misnamed = r#"{"metadata":{"name":"v2.apps"},"spec":{"group":"apps","version":"v1","groupPriorityMinimum":1,"versionPriority":1}}"#;
    assert_eq!(wire.post(path, misnamed).await.status, 422);
    test.stop().await;
}

#[tokio::test]
async fn the_parts_of_the_control_plane_are_asked_when_somebody_reads() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/api/v1/componentstatuses";
    let list = wire.get(path).await.tree();
    assert_eq!(list.str_at(&["kind"]), Some("ComponentStatusList"));
    let store = &list.items_at(&["items"])[0];
    assert_eq!(store.str_at(&["metadata", "name"]), Some("etcd-0"));
    let accept = &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = wire.ask("GET", path, accept, "").await.tree();
    let cells: Vec<_> = table.items_at(&["rows"])[0]
        .items_at(&["cells"])
        .iter()
        .filter_map(|cell| cell.as_str())
        .collect();
    assert_eq!(cells, ["etcd-0", "Healthy", "ok", ""]);
    let one = wire.get(&format!("{path}/etcd-0")).await.tree();
    assert_eq!(one.items_at(&["conditions"])[0].str_at(&["message"]), Some("ok"));
    let other = wire.get(&format!("{path}/etcd-1")).await;
    assert_eq!(
        (other.status.as_u16(), other.message().as_str()),
        (404, "componentstatus \"etcd-1\" not found")
    );
    assert_eq!(wire.ask("DELETE", path, &[], "").await.status, 405);
    test.stop().await;
}

#[tokio::test]
async fn an_unservable_media_type_is_406_and_protobuf_falls_back_to_json() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/api/v1/namespaces/default";
    let refused = wire
        .ask(
            "GET",
            path,
            &[("accept", "application/vnd.kubernetes.protobuf")],
            "",
        )
        .await;
    assert_eq!(refused.status, 406);
    let accept = "application/vnd.kubernetes.protobuf,application/json";
    let json = wire.ask("GET", path, &[("accept", accept)], "").await;
    assert_eq!(
        (json.status.as_u16(), json.header("content-type")),
        (200, "application/json")
    );
    let yaml = wire.ask("GET", path, &[("accept", "application/yaml")], "").await;
    assert!(yaml.body.starts_with(b"apiVersion: v1\nkind: Namespace\n"));
    test.stop().await;
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_refused_warned_of_or_ignored() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let body = r#"{"metadata":{"name":"a"},"dta":{},"data":{"k":"1","k":"2"}}"#;
    let strict = wire.post(&format!("{MAPS}?fieldValidation=Strict"), body).await;
    let want = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\", duplicate field \"data.k\"";
    assert_eq!((strict.status.as_u16(), strict.message().as_str()), (400, want));
    let warned = wire.post(MAPS, body).await;
    assert_eq!(warned.status, 201);
    let warnings: Vec<_> = warned
        .headers
        .get_all("warning")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings,
        [
            r#"299 - "unknown field \"dta\"""#,
            r#"299 - "duplicate field \"data.k\"""#
        ]
    );
    let silent = wire
        .post(
            &format!("{MAPS}?fieldValidation=Ignore"),
            &body.replace("\"a\"", "\"b\""),
        )
        .await;
    assert_eq!((silent.status.as_u16(), silent.header("warning")), (201, ""));
    let foreign = wire.post(MAPS, r#"{"metadata":{"name":"c"},"größe":1}"#).await;
    let said = foreign.headers.get("warning").map(http::HeaderValue::as_bytes);
    assert_eq!(said, Some(r#"299 - "unknown field \"größe\"""#.as_bytes()));
    test.stop().await;
}

#[tokio::test]
async fn a_table_shows_rows_and_a_partial_object_only_metadata() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    wire.post(MAPS, r#"{"metadata":{"name":"a"},"data":{"k":"1"}}"#)
        .await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = wire.ask("GET", MAPS, &[("accept", table)], "").await.tree();
    assert_eq!(table.str_at(&["kind"]), Some("Table"));
    let row = &table.items_at(&["rows"])[0];
    assert_eq!(row.items_at(&["cells"])[0].as_str(), Some("a"));
    assert_eq!(row.str_at(&["object", "kind"]), Some("PartialObjectMetadata"));
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = wire.ask("GET", MAPS, &[("accept", partial)], "").await.tree();
    assert!(partial.items_at(&["items"])[0].get("data").is_none());
    let headers = &[
        (
            "accept",
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        ),
        ("content-type", "application/json"),
    ];
    let made = wire
        .ask(
            "POST",
            MAPS,
            headers,
            r#"{"metadata":{"name":"b"},"data":{"k":"1"}}"#,
        )
        .await
        .tree();
    assert_eq!(made.str_at(&["kind"]), Some("PartialObjectMetadata"));
    assert!(made.get("data").is_none());
    test.stop().await;
}

#[tokio::test]
async fn there_is_no_table_of_a_review() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = r#"{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}"#;
    let mut ask = async |accept: &str| {
        let headers = &[("accept", accept), ("content-type", "application/json")];
        wire.ask("POST", path, headers, body).await
    };
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let refused = ask(table).await;
    assert_eq!(refused.tree().str_at(&["reason"]), Some("NotAcceptable"));
    let plain = ask(&format!("{table},application/json")).await.tree();
    assert_eq!(plain.str_at(&["kind"]), Some("SelfSubjectAccessReview"));
    test.stop().await;
}

#[tokio::test]
async fn a_list_names_its_kind_once() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let list = wire.get("/api/v1/namespaces").await.tree();
    assert_eq!(list.str_at(&["kind"]), Some("NamespaceList"));
    assert_eq!(list.items_at(&["items"]).len(), 4);
    assert!(
        list.items_at(&["items"])
            .iter()
            .all(|item| item.get("kind").is_none())
    );
    test.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let body = format!(
        r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#,
        "x".repeat(3 << 20)
    );
    assert_eq!(wire.post(MAPS, &body).await.status, 413);
    test.stop().await;
}

#[tokio::test]
async fn discovery_and_openapi_are_served() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = wire.ask("GET", "/apis", &[("accept", accept)], "").await;
    assert_eq!(aggregated.header("content-type"), accept);
    assert_eq!(aggregated.tree().str_at(&["kind"]), Some("APIGroupDiscoveryList"));
    assert_eq!(
        wire.get("/apis").await.tree().str_at(&["kind"]),
        Some("APIGroupList")
    );
    assert_eq!(
        wire.get("/apis/apps/v1").await.tree().str_at(&["kind"]),
        Some("APIResourceList")
    );
    let index = wire.get("/openapi/v3").await.tree();
    let url = index
        .str_at(&["paths", "apis/apps/v1", "serverRelativeURL"])
        .unwrap()
        .to_owned();
    assert!(wire.get(&url).await.tree().get("components").is_some());
    test.stop().await;
}

#[tokio::test]
async fn a_review_and_a_token_are_answered() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    wire.post(
        "/api/v1/namespaces/default/serviceaccounts",
        r#"{"metadata":{"name":"robot"}}"#,
    )
    .await;
    let token = wire
        .post("/api/v1/namespaces/default/serviceaccounts/robot/token", "{}")
        .await;
    assert_eq!(token.status, 201);
    let token = token.tree().str_at(&["status", "token"]).unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let mut robot = Wire::anonymous(&test).await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let review = robot.ask("POST", path, &headers, "{}").await.tree();
    assert_eq!(
        review.str_at(&["status", "userInfo", "username"]),
        Some("system:serviceaccount:default:robot")
    );
    let refused = robot.ask("GET", MAPS, &headers, "").await;
    assert_eq!(refused.status, 403);
    test.stop().await;
}

#[tokio::test]
async fn services_get_addresses_and_ports_that_nobody_else_has() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, extra: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"type":"NodePort","ports":[{{"port":80{extra}}}]}}}}"#
        )
    };
    let first = wire.post(path, &service("a", "")).await.tree();
    let port = first.items_at(&["spec", "ports"])[0]
        .int_at(&["nodePort"])
        .unwrap();
    assert!((30000..=32767).contains(&port));
    let address = first.str_at(&["spec", "clusterIP"]).unwrap().to_owned();
    let object = wire
        .get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"))
        .await
        .tree();
    assert_eq!(object.str_at(&["spec", "parentRef", "name"]), Some("a"));
    let taken = wire
        .post(path, &service("b", &format!(",\"nodePort\":{port}")))
        .await;
    let want = format!(
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
    );
    assert_eq!((taken.status.as_u16(), taken.message()), (422, want));
    wire.ask("DELETE", &format!("{path}/a"), &[], "").await;
    assert_eq!(
        wire.get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"))
            .await
            .status,
        404
    );
    let again = wire
        .post(path, &service("b", &format!(",\"nodePort\":{port}")))
        .await;
    assert_eq!(again.status, 201);
    test.stop().await;
}

#[tokio::test]
async fn schema_documents_are_kept_by_their_hash() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let path = "/openapi/v3/apis/node.k8s.io/v1";
    let plain = wire.get(path).await;
    let tag = plain.header("etag").to_owned();
    assert_eq!(plain.header("cache-control"), "no-cache, private");
    let hash = tag.trim_matches('"');
    let kept = wire.get(&format!("{path}?hash={hash}")).await;
    assert_eq!((kept.status.as_u16(), &kept.body), (200, &plain.body));
    assert_eq!(kept.header("cache-control"), "public, immutable");
    assert!(
        kept.header("expires").ends_with(" GMT"),
        "{}",
        kept.header("expires")
    );
    let moved = wire.get(&format!("{path}?hash=OLD")).await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), format!("{path}?hash={hash}"));
    let known = wire.ask("GET", path, &[("if-none-match", &tag)], "").await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    test.stop().await;
}
