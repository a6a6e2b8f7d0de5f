//! Validation of `ObjectMeta`, the same for every kind but for what a name may look like.

use cloudeck_machinery::{Cause, CauseType, Status, Value, names};

use crate::kinds::{Kind, View};

/// What a name may look like.
type NameRule = fn(&str) -> Vec<String>;

fn name_rule(kind: &Kind) -> NameRule {
    match (kind.group(), kind.plural()) {
        // Since Kubernetes 1.37 the names of services may begin with a digit.
        ("", "namespaces" | "services") => names::dns1123_label,
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io", "certificatesigningrequests")
        | ("apiregistration.k8s.io", "apiservices") => names::path_segment,
        ("networking.k8s.io", "ipaddresses") => names::ip,
        // Their rule needs the signer.
        ("certificates.k8s.io", "clustertrustbundles") => |_| Vec::new(),
        _ => names::dns1123_subdomain,
    }
}

/// Errors of a new object's metadata, in field order.
pub(crate) fn check_create(kind: &Kind, tree: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_name(kind, tree, &mut causes);
    check_common(tree, &mut causes);
    causes
}

/// Errors of an update's metadata, in field order.
pub(crate) fn check_update(_kind: &Kind, new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_common(new, &mut causes);
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (was, is) = (old.at(&["metadata", field]), new.at(&["metadata", field]));
        if was != is {
            let value = is.and_then(Value::as_str).unwrap_or_default();
            causes.push(invalid(&format!("metadata.{field}"), value, "field is immutable"));
        }
    }
    if old.at(&["metadata", "deletionTimestamp"]).is_some() {
        check_no_new_finalizers(new, old, &mut causes);
    }
    causes
}

/// The refusal of an update without a resourceVersion, for the kinds that insist on one.
pub(crate) fn revision_required(view: &View, name: &str) -> Status {
    let cause = invalid("metadata.resourceVersion", "", "must be specified for an update");
    Status::invalid(view.group(), view.kind_name(), name, vec![cause])
}

fn check_name(kind: &Kind, tree: &Value, causes: &mut Vec<Cause>) {
    let text = |field: &str| tree.str_at(&["metadata", field]).unwrap_or_default();
    let (name, prefix) = (text("name"), text("generateName"));
    let rule = name_rule(kind);
    if !prefix.is_empty() {
        let problems = rule(&names::generated_name(prefix));
        causes.extend(
            problems
                .iter()
                .map(|why| invalid("metadata.generateName", prefix, why)),
        );
    }
    if name.is_empty() {
        causes.push(Cause {
            cause: CauseType::Required,
            message: "Required value: name or generateName is required".into(),
            field: "metadata.name".into(),
        });
    } else {
        let problems = match (kind.group(), kind.plural()) {
            ("certificates.k8s.io", "clustertrustbundles") => trust_bundle_name(tree, name),
            _ => rule(name),
        };
        causes.extend(problems.iter().map(|why| invalid("metadata.name", name, why)));
    }
}

/// The name of a trust bundle begins with its signer's, a colon in the slash's place.
///
/// Source: `ValidateClusterTrustBundleName` in `pkg/apis/core/validation/names.go`.
fn trust_bundle_name(tree: &Value, name: &str) -> Vec<String> {
    let signer = tree.str_at(&["spec", "signerName"]).unwrap_or_default();
    if signer.is_empty() {
        if name.contains(':') {
            return vec![
                r#"ClusterTrustBundle without signer name must not have ":" in its name"#.to_owned(),
            ];
        }
        return names::dns1123_subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns1123_subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

fn check_common(tree: &Value, causes: &mut Vec<Cause>) {
    let pairs = |field: &str| tree.at(&["metadata", field]).and_then(Value::as_object);
    for (key, value) in pairs("labels")
        .into_iter()
        .flat_map(cloudeck_machinery::Map::iter)
    {
        let value = value.as_str().unwrap_or_default();
        causes.extend(
            names::qualified_name(key)
                .iter()
                .map(|why| invalid("metadata.labels", key, why)),
        );
        causes.extend(
            names::label_value(value)
                .iter()
                .map(|why| invalid("metadata.labels", value, why)),
        );
    }
    if let Some(annotations) = pairs("annotations") {
        for key in annotations.keys() {
            let problems = names::annotation_key(key);
            causes.extend(
                problems
                    .iter()
                    .map(|why| invalid("metadata.annotations", key, why)),
            );
        }
        let all = annotations
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
        if names::annotations_too_long(all) {
            causes.push(Cause {
                cause: CauseType::TooLong,
                message: "Too long: may not be more than 262144 bytes".into(),
                field: "metadata.annotations".into(),
            });
        }
    }
    check_owners(tree, causes);
    check_finalizers(tree, causes);
}

fn check_owners(tree: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for (at, owner) in tree.items_at(&["metadata", "ownerReferences"]).iter().enumerate() {
        let field = format!("metadata.ownerReferences[{at}]");
        for (name, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner.str_at(&[name]).unwrap_or_default().is_empty() {
                causes.push(invalid(&format!("{field}.{name}"), "", why));
            }
        }
        controllers += usize::from(owner.bool_at(&["controller"]) == Some(true));
    }
    if controllers > 1 {
        let owners = tree
            .at(&["metadata", "ownerReferences"])
            .map(ToString::to_string)
            .unwrap_or_default();
        causes.push(Cause {
            cause: CauseType::Invalid,
            message: format!("Invalid value: {owners}: Only one reference can have Controller set to true"),
            field: "metadata.ownerReferences".into(),
        });
    }
}

fn check_finalizers(tree: &Value, causes: &mut Vec<Cause>) {
    let finalizers = tree.items_at(&["metadata", "finalizers"]);
    for name in finalizers.iter().filter_map(Value::as_str) {
        let problems = names::finalizer_name(name);
        causes.extend(
            problems
                .iter()
                .map(|why| invalid("metadata.finalizers", name, why)),
        );
    }
    let has = |wanted: &str| finalizers.iter().any(|name| name.as_str() == Some(wanted));
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(invalid_list("metadata.finalizers", finalizers, why));
    }
}

fn check_no_new_finalizers(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let before = old.items_at(&["metadata", "finalizers"]);
    let added: Vec<&str> = new
        .items_at(&["metadata", "finalizers"])
        .iter()
        .filter(|name| !before.contains(name))
        .filter_map(Value::as_str)
        .collect();
    if !added.is_empty() {
        causes.push(Cause {
            cause: CauseType::Forbidden,
            message: format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {}",
                go_strings(&added)
            ),
            field: "metadata.finalizers".into(),
        });
    }
}

/// A slice of strings as Go's `%#v` prints it.
fn go_strings(items: &[&str]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: {value:?}: {why}"),
        field: field.to_owned(),
    }
}

fn invalid_list(field: &str, values: &[Value], why: &str) -> Cause {
    let list = Value::Array(values.to_vec()).to_string();
    Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: {list}: {why}"),
        field: field.to_owned(),
    }
}
