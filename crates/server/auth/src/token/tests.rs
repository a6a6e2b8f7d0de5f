use super::*;
use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_machinery::{Reason, Status, Value, json, value};

/// Objects by `resource/namespace/name`.
#[derive(Default)]
struct World(HashMap<String, Arc<Object>>);

impl World {
    fn put(&mut self, resource: &str, namespace: &str, name: &str, mut tree: Value) {
        tree.set_at(&["metadata", "name"], name);
        tree.set_at(&["metadata", "namespace"], namespace);
        let object = Object::from_json(Bytes::from(json::to_vec(&tree))).unwrap();
        self.0
            .insert(format!("{resource}/{namespace}/{name}"), Arc::new(object));
    }

    fn remove(&mut self, key: &str) {
        self.0.remove(key).unwrap();
    }
}

impl ObjectReader for World {
    fn get(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0.get(&format!("{resource}/{namespace}/{name}")).cloned()
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
        self.0.values().cloned().collect()
    }
}

fn world() -> World {
    let mut world = World::default();
    world.put(
        "serviceaccounts",
        "dev",
        "bot",
        value!({"metadata": {"uid": "sa-1"}}),
    );
    world.put(
        "pods",
        "dev",
        "p",
        value!({"metadata": {"uid": "pod-1"}, "spec": {"serviceAccountName": "bot", "nodeName": "n1"}}),
    );
    world.put("nodes", "", "n1", value!({"metadata": {"uid": "node-1"}}));
    world.put("secrets", "dev", "s", value!({"metadata": {"uid": "secret-1"}}));
    world
}

fn issuer() -> TokenIssuer {
    let ours = "https://kubernetes.default.svc.cluster.local".to_owned();
    let config = TokenIssuerConfig {
        issuer: ours.clone(),
        audiences: vec![ours],
    };
    TokenIssuer::new(config, Arc::new(TokenKey::generate().unwrap()))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn request(issuer: &TokenIssuer, world: &World, body: &Value) -> Result<Value, Box<Status>> {
    issuer
        .request_token(world, "dev", "bot", body, now())
        .map_err(Box::new)
}

fn token_of(answer: &Value) -> String {
    answer.str_at(&["status", "token"]).unwrap().to_owned()
}

fn bound(kind: &str, name: &str) -> Value {
    value!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": (kind), "name": (name)}}})
}

fn verify(
    issuer: &TokenIssuer,
    world: &World,
    token: &str,
    after: u64,
) -> Result<VerifiedToken, TokenRefusal> {
    issuer.verify(
        token,
        issuer.audiences(),
        world,
        now() + Duration::from_secs(after),
    )
}

#[test]
fn an_answer_repeats_the_request_with_defaults() {
    let (issuer, world) = (issuer(), world());
    let mut answer = request(&issuer, &world, &value!({"metadata": {}, "spec": {}})).unwrap();
    answer.set_at(&["status", "token"], "…");
    assert_eq!(
        answer.to_string(),
        concat!(
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{"#,
            r#""creationTimestamp":"2027-01-15T08:00:00Z","name":"bot","namespace":"dev","uid":"sa-1"},"#,
            r#""spec":{"audiences":["https://kubernetes.default.svc.cluster.local"],"expirationSeconds":3600},"#,
            r#""status":{"expirationTimestamp":"2027-01-15T09:00:00Z","token":"…"}}"#
        )
    );
}

#[test]
fn a_pod_bound_token_says_where_its_pod_is() {
    use base64::Engine;
    let (issuer, world) = (issuer(), world());
    let token = token_of(&request(&issuer, &world, &bound("Pod", "p")).unwrap());
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    let mut claims = json::parse(&payload).unwrap();
    let id = claims.remove_at(&["jti"]).unwrap();
    assert_eq!(id.as_str().unwrap().len(), 36);
    assert_eq!(
        claims.to_string(),
        concat!(
            r#"{"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1831536000,"iat":1800000000,"#,
            r#""iss":"https://kubernetes.default.svc.cluster.local","kubernetes.io":{"namespace":"dev","#,
            r#""node":{"name":"n1","uid":"node-1"},"pod":{"name":"p","uid":"pod-1"},"#,
            r#""serviceaccount":{"name":"bot","uid":"sa-1"},"warnafter":1800003607},"#,
            r#""nbf":1800000000,"sub":"system:serviceaccount:dev:bot"}"#
        )
    );
    let user = verify(&issuer, &world, &token, 0).unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:dev:bot");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:dev",
            "system:authenticated"
        ]
    );
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].as_str();
    assert_eq!(
        [
            extra("pod-name"),
            extra("pod-uid"),
            extra("node-name"),
            extra("node-uid")
        ],
        ["p", "pod-1", "n1", "node-1"]
    );
    assert_eq!(extra("credential-id"), format!("JTI={}", id.as_str().unwrap()));
}

#[test]
fn a_token_dies_with_what_it_is_bound_to() {
    for (kind, name, key) in [
        ("Pod", "p", "pods/dev/p"),
        ("Secret", "s", "secrets/dev/s"),
        ("Node", "n1", "nodes//n1"),
    ] {
        let (issuer, mut world) = (issuer(), world());
        let token = token_of(&request(&issuer, &world, &bound(kind, name)).unwrap());
        verify(&issuer, &world, &token, 0).unwrap();
        world.remove(key);
        assert_eq!(
            verify(&issuer, &world, &token, 0).unwrap_err(),
            TokenRefusal::Invalidated,
            "{kind}"
        );
    }
}

#[test]
fn a_pod_of_the_same_name_does_not_inherit_a_token() {
    let (issuer, mut world) = (issuer(), world());
    let token = token_of(&request(&issuer, &world, &bound("Pod", "p")).unwrap());
    world.put("pods", "dev", "p", value!({"metadata": {"uid": "pod-2"}}));
    assert_eq!(
        verify(&issuer, &world, &token, 0).unwrap_err().to_string(),
        "pod UID (pod-2) does not match service account pod ref claim (pod-1)"
    );
}

#[test]
fn a_deleted_pod_has_a_minute_to_finish() {
    let (issuer, mut world) = (issuer(), world());
    let token = token_of(&request(&issuer, &world, &bound("Pod", "p")).unwrap());
    let deleted = value!({"metadata": {"uid": "pod-1", "deletionTimestamp": "2027-01-15T08:00:00Z"}});
    world.put("pods", "dev", "p", deleted);
    verify(&issuer, &world, &token, 60).unwrap();
    assert_eq!(
        verify(&issuer, &world, &token, 61).unwrap_err(),
        TokenRefusal::Invalidated
    );
}

#[test]
fn a_token_dies_with_its_account_and_its_time() {
    let (issuer, mut world) = (issuer(), world());
    let token = token_of(&request(&issuer, &world, &value!({"spec": {"expirationSeconds": 600}})).unwrap());
    verify(&issuer, &world, &token, 660).unwrap();
    assert_eq!(
        verify(&issuer, &world, &token, 661).unwrap_err(),
        TokenRefusal::Expired
    );
    world.put(
        "serviceaccounts",
        "dev",
        "bot",
        value!({"metadata": {"uid": "sa-2"}}),
    );
    assert_eq!(
        verify(&issuer, &world, &token, 0).unwrap_err().to_string(),
        "service account UID (sa-2) does not match claim (sa-1)"
    );
    world.remove("serviceaccounts/dev/bot");
    assert_eq!(
        verify(&issuer, &world, &token, 0).unwrap_err().to_string(),
        "serviceaccount \"bot\" not found"
    );
    let early = issuer.verify(&token, issuer.audiences(), &world, now() - Duration::from_mins(5));
    assert_eq!(early.unwrap_err(), TokenRefusal::NotYetValid);
}

#[test]
fn a_token_for_others_is_not_for_us() {
    let (issuer, world) = (issuer(), world());
    let token =
        token_of(&request(&issuer, &world, &value!({"spec": {"audiences": ["vault", "x"]}})).unwrap());
    assert_eq!(
        verify(&issuer, &world, &token, 0).unwrap_err().to_string(),
        r#"token audiences ["vault" "x"] is invalid for the target audiences ["https://kubernetes.default.svc.cluster.local"]"#
    );
    let verified = issuer
        .verify(&token, &["x".to_owned(), "y".to_owned()], &world, now())
        .unwrap();
    assert_eq!(verified.audiences, ["x"]);
}

#[test]
fn a_changed_or_foreign_token_is_refused() {
    let (ours, other, world) = (issuer(), issuer(), world());
    let token = token_of(&request(&ours, &world, &value!({})).unwrap());
    let foreign = token_of(&request(&other, &world, &value!({})).unwrap());
    assert_eq!(
        verify(&ours, &world, &foreign, 0).unwrap_err(),
        TokenRefusal::UnknownKey
    );
    let mut parts: Vec<&str> = token.split('.').collect();
    let payload = foreign.split('.').nth(1).unwrap();
    parts[1] = payload;
    assert_eq!(
        verify(&ours, &world, &parts.join("."), 0).unwrap_err(),
        TokenRefusal::BadSignature
    );
    for junk in ["", "a", "a.b", "a.b.c", "..", &token[..token.len() - 5]] {
        verify(&ours, &world, junk, 0).unwrap_err();
    }
}

#[test]
fn a_token_without_a_signature_algorithm_is_refused() {
    use base64::Engine;
    let (issuer, world) = (issuer(), world());
    let token = token_of(&request(&issuer, &world, &value!({})).unwrap());
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
    let unsigned = format!("{header}.{}.", token.split('.').nth(1).unwrap());
    assert_eq!(
        verify(&issuer, &world, &unsigned, 0).unwrap_err(),
        TokenRefusal::BadSignature
    );
}

#[test]
fn bad_requests_are_refused_in_upstreams_words() {
    let (issuer, mut world) = (issuer(), world());
    world.put(
        "pods",
        "dev",
        "q",
        value!({"metadata": {"uid": "pod-9"}, "spec": {"serviceAccountName": "default"}}),
    );
    let with_uid =
        value!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "old"}}});
    for (body, reason, message) in [
        (
            value!({"spec": {"expirationSeconds": 599}}),
            Reason::Invalid,
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"#,
        ),
        (
            value!({"spec": {"expirationSeconds": 4_294_967_297_i64}}),
            Reason::Invalid,
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds"#,
        ),
        (
            value!({"metadata": {"name": "other"}}),
            Reason::Invalid,
            r#"TokenRequest.authentication.k8s.io "bot" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified"#,
        ),
        (bound("Pod", "gone"), Reason::NotFound, r#"pods "gone" not found"#),
        (
            bound("Pod", "q"),
            Reason::BadRequest,
            r#"cannot bind token for serviceaccount "bot" to pod running with different serviceaccount name."#,
        ),
        (
            bound("ConfigMap", "c"),
            Reason::BadRequest,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            with_uid,
            Reason::Conflict,
            r#"Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated"#,
        ),
    ] {
        let refused = request(&issuer, &world, &body).unwrap_err();
        assert_eq!((refused.reason, refused.message.as_str()), (reason, message));
    }
    let missing = issuer
        .request_token(&world, "dev", "nobody", &value!({}), now())
        .unwrap_err();
    assert_eq!(missing.message, r#"serviceaccounts "nobody" not found"#);
}

#[test]
fn others_find_the_key_by_its_id() {
    let issuer = issuer();
    let keys = issuer.key_set();
    let [key] = keys.items_at(&["keys"]) else {
        panic!("one key")
    };
    assert_eq!(key.str_at(&["kid"]), Some(issuer.key.id()));
    assert_eq!(
        issuer.discovery("https://10.0.0.1:6443").to_string(),
        concat!(
            r#"{"id_token_signing_alg_values_supported":["ES256"],"issuer":"https://kubernetes.default.svc.cluster.local","#,
            r#""jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks","response_types_supported":["id_token"],"#,
            r#""subject_types_supported":["public"]}"#
        )
    );
}
