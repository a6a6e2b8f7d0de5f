//! Requests that mean harm: the server refuses them or bears them, and goes on.

use cloudeck_machinery::json::MAX_DEPTH;
use cloudeck_testkit::TestServer;

use crate::wire::{Answer, Wire};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

/// Levels of data in an object that is as deep as it may be. The record of its fields nests a little deeper than the
/// object does.
const DEEPEST: usize = MAX_DEPTH - 5;

fn nest(levels: usize) -> String {
    [r#"{"a":"#.repeat(levels), "1".into(), "}".repeat(levels)].concat()
}

async fn send(wire: &mut Wire, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
    wire.ask(method, path, &[("content-type", content_type)], body)
        .await
}

fn expect(answer: &Answer, code: u16) {
    assert_eq!(answer.status, code, "{}", String::from_utf8_lossy(&answer.body));
}

fn revision(name: &str, data: &str) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"{name}"}},"data":{data},"revision":1}}"#
    )
}

#[tokio::test]
async fn no_way_leads_to_an_object_that_is_too_deep_to_be_read() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    // As deep as may be, one more, and more than is read at all.
    for (name, levels, code) in [
        ("a", DEEPEST, 201),
        ("b", DEEPEST + 1, 400),
        ("c", MAX_DEPTH, 400),
    ] {
        let answer = wire.post(REVISIONS, &revision(name, &nest(levels))).await;
        expect(&answer, code);
    }
    // Aliases.
    let half = format!("{}1{}", "[".repeat(150), "]".repeat(150));
    let body = format!(
        "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {{name: alias}}\nrevision: 1\nx: &x {half}\ndata: {{a: {}*x{}}}\n",
        "[".repeat(150),
        "]".repeat(150)
    );
    let refused = send(&mut wire, "POST", REVISIONS, "application/yaml", &body).await;
    expect(&refused, 400);
    // Two additions, one below the other.
    let made = wire.post(MAPS, r#"{"metadata":{"name":"m"}}"#).await;
    expect(&made, 201);
    let below = "/metadata/managedFields/0/fieldsV1/f:x";
    let patch = format!(
        r#"[{{"op":"add","path":"{below}","value":{}}},{{"op":"add","path":"{below}{}","value":{}}}]"#,
        nest(150),
        "/a".repeat(150),
        nest(150)
    );
    let path = format!("{MAPS}/m");
    let refused = send(&mut wire, "PATCH", &path, "application/json-patch+json", &patch).await;
    expect(&refused, 422);
    // Each copy doubles the depth.
    let mut steps = vec![format!(r#"{{"op":"add","path":"{below}","value":{}}}"#, nest(1))];
    let double = |n: u32| {
        format!(
            r#"{{"op":"copy","from":"{below}","path":"{below}{}"}}"#,
            "/a".repeat(1 << n)
        )
    };
    steps.extend((0..14).map(double));
    let patch = format!("[{}]", steps.join(","));
    let refused = send(&mut wire, "PATCH", &path, "application/json-patch+json", &patch).await;
    expect(&refused, 422);
    // The server goes on, and so does one that starts on what this one stored.
    for path in [path.as_str(), &format!("{REVISIONS}/a"), REVISIONS, MAPS] {
        assert_eq!(wire.get(path).await.status, 200, "{path}");
    }
    let scope = cloudeck_task::Scope::root("again");
    let again = TestServer::start_on(std::sync::Arc::clone(&test.store), scope)
        .await
        .unwrap();
    assert_eq!(Wire::admin(&again).await.get(REVISIONS).await.status, 200);
    again.stop().await;
    test.stop().await;
}

#[tokio::test]
async fn the_deepest_object_can_be_written_and_read_in_every_way() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let json = "application/json";
    let whole = revision("deep", &nest(DEEPEST));
    assert_eq!(send(&mut wire, "POST", REVISIONS, json, &whole).await.status, 201);
    let path = format!("{REVISIONS}/deep");
    assert_eq!(send(&mut wire, "PUT", &path, json, &whole).await.status, 200);
    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    for kind in ["merge-patch", "strategic-merge-patch"] {
        let answer = send(
            &mut wire,
            "PATCH",
            &path,
            &format!("application/{kind}+json"),
            label,
        )
        .await;
        expect(&answer, 200);
    }
    let moved = r#"[{"op":"move","from":"/metadata/labels/a","path":"/metadata/labels/b"}]"#;
    let answer = send(&mut wire, "PATCH", &path, "application/json-patch+json", moved).await;
    expect(&answer, 200);
    let apply = format!("{path}?fieldManager=m&force=true");
    let answer = send(&mut wire, "PATCH", &apply, "application/apply-patch+yaml", &whole).await;
    expect(&answer, 200);
    for accept in [
        "application/json",
        "application/yaml",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    ] {
        for path in [path.as_str(), REVISIONS] {
            let answer = wire.ask("GET", path, &[("accept", accept)], "").await;
            assert_eq!(answer.status, 200, "{accept} {path}");
        }
    }
    assert_eq!(wire.ask("DELETE", &path, &[], "").await.status, 200);
    test.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_longer_counted_as_in_flight() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let in_flight = async |wire: &mut Wire| {
        let text = wire.get("/metrics").await.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text
            .lines()
            .find(|line| line.starts_with("apiserver_current_inflight_requests "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok())
            .unwrap()
    };
    // The question itself.
    assert_eq!(in_flight(&mut wire).await, 1);
    let mut leaver = Wire::admin(&test).await;
    // Waits for a revision that does not come, for longer than this test looks.
    let question = Box::pin(async move {
        leaver
            .get(&format!("{MAPS}?resourceVersion=1000000"))
            .await
            .status
    });
    let watching = async { while in_flight(&mut wire).await != 2 {} };
    tokio::select! {
        status = question => panic!("answered early: {status}"),
        () = watching => {}
    }
    // The question is dropped, and its connection with it.
    let gone = tokio::time::timeout(std::time::Duration::from_secs(2), async {
        while in_flight(&mut wire).await != 1 {}
    });
    gone.await.expect("what nobody waits for is not in flight");
    test.stop().await;
}

#[tokio::test]
async fn numbers_beyond_all_clocks_are_borne() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    for seconds in ["9223372036854775807", "18446744073709551615"] {
        let request = http::Request::builder()
            .uri(format!("{MAPS}?watch=1&timeoutSeconds={seconds}"))
            .header("host", "test")
            .body(http_body_util::Full::default());
        let response = Wire::admin(&test).await.send(request.unwrap()).await;
        assert_eq!(response.status(), 200, "{seconds}");
    }
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","terminationGracePeriodSeconds":9223372036854775807,"containers":[{"name":"c","image":"i"}]}}"#;
    expect(
        &wire
            .post(
                "/api/v1/namespaces/default/serviceaccounts",
                r#"{"metadata":{"name":"default"}}"#,
            )
            .await,
        201,
    );
    expect(&wire.post("/api/v1/namespaces/default/pods", pod).await, 201);
    let path = "/api/v1/namespaces/default/pods/p";
    let marked = wire.ask("DELETE", path, &[], "").await;
    expect(&marked, 200);
    let tree = marked.tree();
    let end = tree.str_at(&["metadata", "deletionTimestamp"]).unwrap();
    assert!(cloudeck_machinery::Time::parse(end).is_ok(), "{end}");
    let now = wire
        .ask("DELETE", &format!("{path}?gracePeriodSeconds=0"), &[], "")
        .await;
    expect(&now, 200);
    expect(&wire.get(path).await, 404);
    test.stop().await;
}

#[tokio::test]
async fn a_body_of_nothing_but_unknown_fields_is_warned_of_within_reason() {
    let test = TestServer::start().await.unwrap();
    let mut wire = Wire::admin(&test).await;
    let (long, many) = ("x".repeat(300), 0..9_000);
    let unknown: Vec<String> = many.map(|n| format!(r#","{n:06}{long}":1"#)).collect();
    let unknown = unknown.concat();
    let answer = wire
        .post(MAPS, &format!(r#"{{"metadata":{{"name":"m"}}{unknown}}}"#))
        .await;
    expect(&answer, 201);
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert!(warnings.len() == 16 && warnings.iter().all(|warning| warning.len() < 300));
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let answer = wire
        .post(&strict, &format!(r#"{{"metadata":{{"name":"n"}}{unknown}}}"#))
        .await;
    expect(&answer, 400);
    assert!(answer.body.len() < 50_000, "{} bytes", answer.body.len());
    test.stop().await;
}
