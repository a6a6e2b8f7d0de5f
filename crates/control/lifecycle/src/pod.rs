//! What these controllers ask of a pod without parsing it where that can be helped.

use std::borrow::Cow;

use cloudeck_machinery::Object;

/// The node that a pod is bound to; empty when it is not.
pub(crate) fn node_name(pod: &Object) -> Cow<'_, str> {
    selectable(pod, "spec.nodeName", &["spec", "nodeName"])
}

/// Whether all containers of the pod are through.
pub(crate) fn is_finished(pod: &Object) -> bool {
    let phase = selectable(pod, "status.phase", &["status", "phase"]);
    phase == "Succeeded" || phase == "Failed"
}

/// A selectable field. Objects that came over a socket do not carry them apart.
fn selectable<'a>(pod: &'a Object, field: &str, path: &[&str]) -> Cow<'a, str> {
    if !pod.fields.is_empty() {
        return Cow::Borrowed(pod.field(field).unwrap_or_default());
    }
    Cow::Owned(pod.tree().str_at(path).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_from_a_socket_tells_the_same_as_one_from_the_cache() {
        let json = r#"{"spec":{"nodeName":"one"},"status":{"phase":"Failed"}}"#;
        let remote = Object::from_json(json.into()).unwrap();
        let fields = Box::new([("spec.nodeName", "one".into()), ("status.phase", "Failed".into())]);
        let local = Object::from_parts(json.into(), &remote.tree(), fields);
        for pod in [&remote, &local] {
            assert_eq!(node_name(pod), "one");
            assert!(is_finished(pod));
        }
    }
}
