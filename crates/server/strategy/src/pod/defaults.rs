//! Defaults of pods and pod templates.
//!
//! Source: `SetDefaults_Pod*`, `SetDefaults_Container`, `SetDefaults_Volume`, … in `pkg/apis/core/v1/defaults.go`.
//! Defaults that upstream declares as markers (`protocol: TCP`, …) are set by the schema before these run.

use cloudeck_machinery::{Value, value};

use crate::fill;

/// The three lists of containers of a pod specification.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a Pod.
pub(crate) fn pod(pod: &mut Value) {
    if let Some(own) = fill::made(pod, "spec") {
        only_pods(own);
        spec(own);
    }
    status(pod);
}

/// What a pod gets and a template does not.
fn only_pods(spec: &mut Value) {
    if spec
        .int_at(&["terminationGracePeriodSeconds"])
        .is_some_and(|seconds| seconds < 0)
    {
        spec.set_at(&["terminationGracePeriodSeconds"], 1);
    }
    for list in ["containers", "initContainers"] {
        for container in fill::each(spec, list) {
            requests_from_limits(container);
        }
    }
    fill::absent(spec, "enableServiceLinks", || Value::Bool(true));
    if spec.bool_at(&["hostNetwork"]) == Some(true) {
        for list in ["containers", "initContainers"] {
            for container in fill::each(spec, list) {
                host_ports(container);
            }
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = fill::member(container, "resources") else {
        return;
    };
    if let Some(limits) = resources.get("limits").and_then(Value::as_object)
        && !limits.is_empty()
    {
        let limits = limits.clone();
        fill::entries(resources, "requests", &limits);
    }
}

fn host_ports(container: &mut Value) {
    for port in fill::each(container, "ports") {
        if let Some(number) = port.int_at(&["containerPort"]) {
            fill::number(port, "hostPort", number);
        }
    }
}

/// Keeps the single address and the list of addresses in step.
fn status(pod: &mut Value) {
    let Some(status) = fill::member(pod, "status") else {
        return;
    };
    let single = status.str_at(&["podIP"]).unwrap_or_default();
    let first = status
        .items_at(&["podIPs"])
        .first()
        .and_then(|entry| entry.str_at(&["ip"]));
    match (single, first) {
        ("", Some(first)) => {
            let first = Value::from(first);
            status.set_at(&["podIP"], first);
        }
        ("", None) => {}
        (single, first) if first != Some(single) => {
            let list = value!([{"ip": (single)}]);
            status.set_at(&["podIPs"], list);
        }
        _ => {}
    }
}

/// Defaults of the pod template in the member `key`.
pub(crate) fn template(parent: &mut Value, key: &str) {
    let own = fill::made(parent, key).and_then(|template| fill::made(template, "spec"));
    if let Some(own) = own {
        spec(own);
    }
}

/// Defaults of a pod specification, wherever it stands.
pub(crate) fn spec(spec: &mut Value) {
    service_account(spec);
    fill::text(spec, "dnsPolicy", "ClusterFirst");
    fill::text(spec, "restartPolicy", "Always");
    fill::absent(spec, "securityContext", Value::object);
    fill::absent(spec, "terminationGracePeriodSeconds", || Value::Int(30));
    fill::text(spec, "schedulerName", "default-scheduler");
    for volume in fill::each(spec, "volumes") {
        self::volume(volume);
    }
    for list in CONTAINER_LISTS {
        for container in fill::each(spec, list) {
            self::container(container);
        }
    }
    fill::round_resources(spec, "overhead");
    resources(spec);
}

/// The deprecated alias follows the name.
fn service_account(spec: &mut Value) {
    let name = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|key| spec.str_at(&[key]).filter(|name| !name.is_empty()));
    if let Some(name) = name {
        let name = Value::from(name);
        spec.set_at(&["serviceAccountName"], name.clone());
        spec.set_at(&["serviceAccount"], name);
    }
}

fn container(container: &mut Value) {
    let image = container.str_at(&["image"]).unwrap_or_default();
    let policy = pull_policy(image);
    fill::text(container, "imagePullPolicy", policy);
    fill::text(container, "terminationMessagePath", "/dev/termination-log");
    fill::text(container, "terminationMessagePolicy", "File");
    for port in fill::each(container, "ports") {
        fill::text(port, "protocol", "TCP");
    }
    for variable in fill::each(container, "env") {
        if let Some(source) = fill::member(variable, "valueFrom") {
            field_ref(source);
            if let Some(file) = fill::member(source, "fileKeyRef") {
                fill::absent(file, "optional", || Value::Bool(false));
            }
        }
    }
    resources(container);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = fill::member(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = fill::member(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = fill::member(lifecycle, name) {
                http_get(handler);
            }
        }
    }
}

fn resources(parent: &mut Value) {
    if let Some(resources) = fill::member(parent, "resources") {
        fill::round_resources(resources, "limits");
        fill::round_resources(resources, "requests");
    }
}

fn probe(probe: &mut Value) {
    fill::number(probe, "timeoutSeconds", 1);
    fill::number(probe, "periodSeconds", 10);
    fill::number(probe, "successThreshold", 1);
    fill::number(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = fill::member(probe, "grpc") {
        fill::absent(grpc, "service", || Value::from(""));
    }
}

fn http_get(handler: &mut Value) {
    if let Some(action) = fill::member(handler, "httpGet") {
        fill::text(action, "path", "/");
        fill::text(action, "scheme", "HTTP");
    }
}

fn field_ref(source: &mut Value) {
    if let Some(field) = fill::member(source, "fieldRef") {
        fill::text(field, "apiVersion", "v1");
    }
}

fn volume(volume: &mut Value) {
    let sourceless = volume
        .as_object()
        .is_some_and(|map| map.iter().all(|(key, value)| key == "name" || value.is_null()));
    if sourceless {
        volume.set_at(&["emptyDir"], Value::object());
        return;
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = fill::member(volume, source) {
            fill::absent(source, "defaultMode", || Value::Int(0o644));
        }
    }
    if let Some(path) = fill::member(volume, "hostPath") {
        fill::absent(path, "type", || Value::from(""));
    }
    if let Some(api) = fill::member(volume, "downwardAPI") {
        downward_items(api);
    }
    if let Some(projected) = fill::member(volume, "projected") {
        for source in fill::each(projected, "sources") {
            if let Some(api) = fill::member(source, "downwardAPI") {
                downward_items(api);
            }
            if let Some(token) = fill::member(source, "serviceAccountToken") {
                fill::absent(token, "expirationSeconds", || Value::Int(3600));
            }
        }
    }
    if let Some(image) = fill::member(volume, "image") {
        let policy = pull_policy(image.str_at(&["reference"]).unwrap_or_default());
        fill::text(image, "pullPolicy", policy);
    }
    let rare = |key: &str| matches!(key, "iscsi" | "rbd" | "scaleIO" | "azureDisk" | "ephemeral");
    if volume
        .as_object()
        .is_some_and(|map| map.keys().any(|key| rare(key)))
    {
        rare_volume(volume);
    }
}

fn downward_items(api: &mut Value) {
    for item in fill::each(api, "items") {
        field_ref(item);
    }
}

fn rare_volume(volume: &mut Value) {
    const TEXTS: [(&str, &str, &str); 6] = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ];
    for (source, key, default) in TEXTS {
        if let Some(source) = fill::member(volume, source) {
            fill::text(source, key, default);
        }
    }
    if let Some(disk) = fill::member(volume, "azureDisk") {
        fill::absent(disk, "cachingMode", || "ReadWrite".into());
        fill::absent(disk, "fsType", || "ext4".into());
        fill::absent(disk, "readOnly", || false.into());
        fill::absent(disk, "kind", || "Shared".into());
    }
    let claim = fill::member(volume, "ephemeral").and_then(|it| fill::member(it, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|it| fill::made(it, "spec")) {
        claim_spec(spec);
    }
}

/// Defaults of a volume claim's specification.
pub(crate) fn claim_spec(spec: &mut Value) {
    fill::absent(spec, "volumeMode", || "Filesystem".into());
    resources(spec);
}

/// `Always` for images without a tag or with `latest`.
fn pull_policy(image: &str) -> &'static str {
    if tag_is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Whether a reference, completed as the docker tools do, has the tag `latest`. Malformed ones have not.
fn tag_is_latest(image: &str) -> bool {
    if image.contains('@') {
        let (named, _) = image.split_once('@').unwrap_or_default();
        return split_tag(named).1 == Some("latest");
    }
    let (repository, tag) = split_tag(image);
    let bare_digest = repository.len() == 64
        && repository
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let path = repository.rsplit('/').next().unwrap_or_default();
    let well_formed = !path.is_empty()
        && path
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && path.starts_with(|c: char| c.is_ascii_alphanumeric())
        && path.ends_with(|c: char| c.is_ascii_alphanumeric());
    well_formed && !bare_digest && matches!(tag, None | Some("latest"))
}

fn split_tag(reference: &str) -> (&str, Option<&str>) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (reference, None),
    }
}
