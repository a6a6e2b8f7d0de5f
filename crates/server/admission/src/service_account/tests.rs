use super::*;
use crate::testing::{World, create, nobody};

fn world() -> World {
    World::default()
        .with(
            "serviceaccounts",
            "dev",
            "default",
            value!({"imagePullSecrets": [{"name": "pull"}]}),
        )
        .with(
            "serviceaccounts",
            "dev",
            "quiet",
            value!({"automountServiceAccountToken": false}),
        )
        .with(
            "serviceaccounts",
            "dev",
            "strict",
            value!({
                "automountServiceAccountToken": false, "secrets": [{"name": "mine"}],
                "metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}
            }),
        )
}

fn pod(spec: Value) -> Result<Value, String> {
    let user = nobody();
    world().run(
        &ServiceAccount,
        create(&user, "pods", value!({"metadata": {"name": "p"}, "spec": (spec)})),
    )
}

#[test]
fn a_plain_pod_gets_the_default_account_its_token_and_pull_secrets() {
    let pod = pod(value!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]})).unwrap();
    let mount = r#""volumeMounts":[{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-abcde","readOnly":true}]"#;
    assert_eq!(
        pod.get("spec").unwrap().to_string(),
        format!(
            concat!(
                r#"{{"containers":[{{"name":"c",{mount}}}],"imagePullSecrets":[{{"name":"pull"}}],"#,
                r#""initContainers":[{{"name":"i",{mount}}}],"serviceAccount":"default","serviceAccountName":"default","#,
                r#""volumes":[{{"name":"kube-api-access-abcde","projected":{{"defaultMode":420,"sources":["#,
                r#"{{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},"#,
                r#"{{"configMap":{{"items":[{{"key":"ca.crt","path":"ca.crt"}}],"name":"kube-root-ca.crt"}}}},"#,
                r#"{{"downwardAPI":{{"items":[{{"fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}},"path":"namespace"}}]}}}}"#,
                r#"]}}}}]}}"#
            ),
            mount = mount
        )
    );
}

#[test]
fn the_pods_word_on_automounting_counts_before_the_accounts() {
    let volumes = |spec| pod(spec).unwrap().items_at(&["spec", "volumes"]).len();
    assert_eq!(
        volumes(value!({"serviceAccountName": "quiet", "containers": [{}]})),
        0
    );
    assert_eq!(
        volumes(
            value!({"serviceAccountName": "quiet", "automountServiceAccountToken": true, "containers": [{}]})
        ),
        1
    );
    assert_eq!(
        volumes(value!({"automountServiceAccountToken": false, "containers": [{}]})),
        0
    );
}

#[test]
fn a_mount_at_the_usual_place_is_left_alone() {
    let mounted = value!({"containers": [{"volumeMounts": [{"name": "own", "mountPath": (TOKEN_PATH)}]}]});
    assert_eq!(pod(mounted).unwrap().items_at(&["spec", "volumes"]).len(), 0);
    let second = value!({"containers": [{}], "volumes": [{"name": "kube-api-access-zzzzz"}]});
    let pod = pod(second).unwrap();
    assert_eq!(pod.items_at(&["spec", "volumes"]).len(), 1);
    assert!(
        pod.to_string()
            .contains(r#""name":"kube-api-access-zzzzz","readOnly":true"#)
    );
}

#[test]
fn a_missing_account_is_refused_and_only_the_default_one_is_awaited() {
    let user = nobody();
    let refuse = |namespace, spec| {
        let mut request = create(&user, "pods", value!({"metadata": {"name": "p"}, "spec": (spec)}));
        request.namespace = namespace;
        world().admit(&ServiceAccount, &mut request).unwrap_err()
    };
    let refusal = refuse("new", value!({}));
    assert_eq!(
        refusal.status.message,
        r#"pods "p" is forbidden: error looking up service account new/default: serviceaccount "default" not found"#
    );
    assert_eq!(refusal.awaits.unwrap().namespace, "new");
    let refusal = refuse("dev", value!({"serviceAccountName": "bot"}));
    assert_eq!((refusal.status.code, refusal.awaits), (403, None));
}

#[test]
fn an_account_may_insist_on_the_secrets_it_lists() {
    let strict = |spec: Value| {
        let mut spec = spec;
        spec.set_at(&["serviceAccountName"], "strict");
        pod(spec).map(drop)
    };
    assert_eq!(
        strict(value!({"volumes": [{"secret": {"secretName": "mine"}}]})),
        Ok(())
    );
    assert_eq!(
        strict(value!({"volumes": [{"secret": {"secretName": "other"}}]})).unwrap_err(),
        r#"pods "p" is forbidden: volume with secret.secretName="other" is not allowed because service account strict does not reference that secret"#
    );
    assert_eq!(
        strict(value!({"containers": [{"name": "c", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "other"}}}]}]})).unwrap_err(),
        r#"pods "p" is forbidden: container c with envVar V referencing secret.secretName="other" is not allowed because service account strict does not reference that secret"#
    );
    assert_eq!(
        strict(value!({"imagePullSecrets": [{"name": "other"}]})).unwrap_err(),
        r#"pods "p" is forbidden: imagePullSecrets[0].name="other" is not allowed because service account strict does not reference that imagePullSecret"#
    );
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    let mirror = |spec: Value| {
        let user = nobody();
        let pod = value!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": (spec)});
        world().run(&ServiceAccount, create(&user, "pods", pod)).map(drop)
    };
    assert_eq!(mirror(value!({"containers": [{}]})), Ok(()));
    for (spec, why) in [
        (
            value!({"serviceAccountName": "default"}),
            "a mirror pod may not reference service accounts",
        ),
        (
            value!({"volumes": [{"secret": {"secretName": "s"}}]}),
            "a mirror pod may not reference secrets",
        ),
        (
            value!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ] {
        assert_eq!(
            mirror(spec).unwrap_err(),
            format!("pods \"p\" is forbidden: {why}")
        );
    }
}
