//! Which node, and which path there: pure.

use cloudeck_machinery::{Object, Status, Value};

use super::path::Query;
use crate::server::Core;

/// The agent's port where a node names none.
const DEFAULT_PORT: u16 = 10250;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeTarget {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// With its query.
    pub(crate) path: String,
}

/// The logs of a container; `None` while the pod has no node.
pub(crate) fn log(core: &Core, pod: &Object, query: &Query) -> Result<Option<NodeTarget>, Status> {
    let tree = pod.tree();
    let container = container(&tree, query.get("container").unwrap_or_default())?;
    if node_name(&tree).is_empty() {
        return Ok(None);
    }
    let passed = [
        "follow",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "timestamps",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    let query = query.only(&passed);
    let (namespace, name) = (&pod.key.namespace, &pod.key.name);
    let path = format!(
        "/containerLogs/{namespace}/{name}/{container}{}",
        question(&query)
    );
    of_pod(core, &tree, path).map(Some)
}

/// A command in a container.
pub(crate) fn exec(core: &Core, pod: &Object, query: &Query) -> Result<NodeTarget, Status> {
    let tree = pod.tree();
    let container = container(&tree, query.get("container").unwrap_or_default())?;
    let name = &pod.key.name;
    if node_name(&tree).is_empty() {
        return Err(Status::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let phase = tree.str_at(&["status", "phase"]).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (from, to) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if query.get(from).is_some() && query.flag(from) {
            pairs.push((to, "1"));
        }
    }
    pairs.extend(query.all("command").map(|word| ("command", word)));
    let path = format!(
        "/exec/{}/{name}/{container}{}",
        pod.key.namespace,
        question(&encode(&pairs))
    );
    of_pod(core, &tree, path)
}

/// Any path of the node's own server.
pub(crate) fn proxy(node: &Value, name: &str, path: String) -> Result<NodeTarget, Status> {
    of_node(node, name, path)
}

fn node_name(pod: &Value) -> &str {
    pod.str_at(&["spec", "nodeName"]).unwrap_or_default()
}

fn of_pod(core: &Core, pod: &Value, path: String) -> Result<NodeTarget, Status> {
    let name = node_name(pod);
    let node = core
        .stored("", "nodes")
        .cache
        .get("", name)
        .ok_or_else(|| Status::not_found("", "nodes", name))?;
    of_node(&node.tree(), name, path)
}

fn of_node(node: &Value, name: &str, path: String) -> Result<NodeTarget, Status> {
    let addresses = node.items_at(&["status", "addresses"]);
    let of_type = |wanted: &str| {
        let found = addresses
            .iter()
            .find(|address| address.str_at(&["type"]) == Some(wanted));
        found.and_then(|address| address.str_at(&["address"]))
    };
    let address = of_type("InternalIP")
        .or_else(|| of_type("ExternalIP"))
        .ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; known addresses of node {name}: []"
            ))
        })?;
    let port = node.int_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .unwrap_or(DEFAULT_PORT);
    Ok(NodeTarget {
        address: address.to_owned(),
        port,
        path,
    })
}

/// The container that is meant; the only one if none is named.
fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let names = |field: &str| -> Vec<String> {
        let items = pod.items_at(&["spec", field]).iter();
        items
            .filter_map(|container| container.str_at(&["name"]))
            .map(str::to_owned)
            .collect()
    };
    let (main, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let pod_name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
    if !wanted.is_empty() {
        let known = main
            .iter()
            .chain(&init)
            .chain(&ephemeral)
            .any(|name| name == wanted);
        return if known {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!(
                "container {wanted} is not valid for pod {pod_name}"
            )))
        };
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        many => {
            let mut why = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                why = format!("{why} or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(why))
        }
    }
}

fn question(query: &str) -> String {
    if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    }
}

/// Query pairs, percent-encoded.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    out.push(char::from(byte));
                }
                other => out.extend(['%', hex(other >> 4), hex(other & 15)]),
            }
        }
    }
    out
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn words_of_a_command_survive_the_query() {
        let pairs = [("command", "sh"), ("command", "echo a&b %3A +")];
        let query = Query::parse(&encode(&pairs));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "echo a&b %3A +"]);
    }

    #[test]
    fn a_container_must_be_named_when_there_are_several() {
        let pod = value!({
            "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}
        });
        let error = container(&pod, "").unwrap_err();
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&pod, "i").unwrap(), "i");
        assert_eq!(
            container(&pod, "x").unwrap_err().message,
            "container x is not valid for pod p"
        );
    }

    #[test]
    fn a_node_is_reached_at_its_internal_address() {
        let node = value!({"status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.2"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}
        }});
        let target = proxy(&node, "n", "/stats/summary?a=b".into()).unwrap();
        assert_eq!(
            (target.address.as_str(), target.port, target.path.as_str()),
            ("10.0.0.2", 10251, "/stats/summary?a=b")
        );
    }
}
