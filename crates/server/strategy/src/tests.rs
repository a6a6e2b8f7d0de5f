//! What holds for every kind.

use cloudeck_machinery::{Value, json};

use crate::strategy;

/// A pod as clients and controllers make them, about as large as real ones.
const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-6d4cf56db6-abcde","generateName":"web-6d4cf56db6-","namespace":"default",
    "labels":{"app":"web","pod-template-hash":"6d4cf56db6"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet",
    "name":"web-6d4cf56db6","uid":"0e0ab1b0-2a56-4f6e-9b3a-0123456789ab","controller":true,"blockOwnerDeletion":true}]},
    "spec":{"volumes":[{"name":"kube-api-access-x7x7x","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
    {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
    {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],
    "containers":[{"name":"web","image":"registry.example.com/team/web:1.27.3","ports":[{"name":"http","containerPort":8080,"protocol":"TCP"}],
    "env":[{"name":"LOG_LEVEL","value":"info"},{"name":"POD_IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}}],
    "resources":{"limits":{"cpu":"500m","memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},
    "volumeMounts":[{"name":"kube-api-access-x7x7x","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],
    "livenessProbe":{"httpGet":{"path":"/healthz","port":8080,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
    "imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","serviceAccountName":"default",
    "tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]}}"#;

fn parsed(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

#[test]
fn defaults_of_every_kind_are_stable_and_fit_the_schema() {
    for info in cloudeck_schema::resources() {
        let Some(ty) = info.root else { continue };
        let strategy = strategy(info.group, info.kind);
        let mut once = parsed(r#"{"metadata":{"name":"x","namespace":"y"}}"#);
        cloudeck_schema::normalise(ty, &mut once).unwrap();
        (strategy.default)(&mut once);
        let mut normal = once.clone();
        cloudeck_schema::normalise(ty, &mut normal)
            .unwrap_or_else(|errors| panic!("{} {}: {errors:?}", info.group, info.kind));
        let mut twice = normal.clone();
        (strategy.default)(&mut twice);
        cloudeck_schema::normalise(ty, &mut twice).unwrap();
        assert_eq!(
            twice.to_string(),
            normal.to_string(),
            "{} {}",
            info.group,
            info.kind
        );
    }
}

#[test]
fn the_schema_changes_nothing_in_a_defaulted_pod() {
    let ty = cloudeck_schema::type_of_kind("", "v1", "Pod").expect("pods have a type");
    let mut pod = parsed(POD);
    cloudeck_schema::apply_defaults(ty, &mut pod);
    cloudeck_schema::normalise(ty, &mut pod).unwrap();
    (strategy("", "Pod").default)(&mut pod);
    (strategy("", "Pod").prepare_create)(&mut pod);
    let before = pod.to_string();
    cloudeck_schema::normalise(ty, &mut pod).unwrap();
    assert_eq!(pod.to_string(), before);
    assert_eq!((strategy("", "Pod").validate_create)(&pod), []);
    assert_eq!((strategy("", "Pod").warnings)(&pod, None), Vec::<String>::new());
}

#[test]
fn as_many_cells_as_columns_even_of_empty_objects() {
    let row = crate::TableRow {
        now: 0,
        namespace: "",
    };
    for info in cloudeck_schema::resources() {
        let strategy = strategy(info.group, info.kind);
        if !strategy.columns.is_empty() {
            let cells = (strategy.row)(&Value::object(), row);
            assert_eq!(
                cells.len(),
                strategy.columns.len(),
                "{} {}",
                info.group,
                info.kind
            );
        }
    }
}

#[test]
fn every_value_of_a_selectable_field_has_a_known_name() {
    for info in cloudeck_schema::resources() {
        let strategy = strategy(info.group, info.kind);
        for (name, _) in (strategy.fields)(&Value::object()) {
            assert!(strategy.field_names.contains(&name), "{} {name}", info.kind);
        }
    }
}

#[test]
fn validation_survives_objects_with_nothing_in_them() {
    for info in cloudeck_schema::resources() {
        let strategy = strategy(info.group, info.kind);
        let (empty, null) = (
            Value::object(),
            parsed(r#"{"metadata":null,"spec":null,"status":null}"#),
        );
        for object in [&empty, &null] {
            (strategy.validate_create)(object);
            (strategy.validate_update)(object, object);
            (strategy.validate_status_update)(object, object);
            (strategy.warnings)(object, None);
            (strategy.warnings)(object, Some(object));
            (strategy.prepare_create)(&mut object.clone());
            (strategy.prepare_update)(&mut object.clone(), object);
        }
    }
}

/// The bar is 10 µs in a release build: `cargo test --release -p cloudeck-strategy -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn how_long_defaulting_and_validating_a_pod_takes() {
    const ROUNDS: u32 = 20_000;
    let pod = parsed(POD);
    let strategy = strategy("", "Pod");
    let copies = std::time::Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(pod.clone());
    }
    let copying = copies.elapsed();
    let all = std::time::Instant::now();
    for _ in 0..ROUNDS {
        let mut pod = pod.clone();
        (strategy.default)(&mut pod);
        (strategy.prepare_create)(&mut pod);
        assert!((strategy.validate_create)(std::hint::black_box(&pod)).is_empty());
    }
    let each = all.elapsed().saturating_sub(copying) / ROUNDS;
    println!("{each:?} per pod of {} bytes", POD.len());
}
