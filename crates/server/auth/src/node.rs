//! The Node authoriser: a node agent reads only what the pods on its node need.
//!
//! [`NodeGraph`] knows which secrets, config maps, accounts, claims and volumes lead to which node, fed pod by pod. The
//! rules that are the same for every node are those of the ClusterRole `system:node`.

mod graph;
mod pod_references;

pub use graph::NodeGraph;
pub(crate) use graph::{Kind, Reference};
pub use pod_references::named_by_pod;

use crate::attributes::{Attributes, Decision};
use crate::rbac::PolicyRule;

const NODE_LEASES: &str = "kube-node-lease";

/// Decides a request of a node agent; no opinion on others. `common` are the rules that all nodes have.
pub(crate) fn authorize(graph: &NodeGraph, common: &[PolicyRule], attributes: &Attributes<'_>) -> Decision {
    let Some(node) = attributes.user.node_name() else {
        return Decision::no_opinion("");
    };
    if node.is_empty() {
        return Decision::no_opinion(format!("unknown node for user \"{}\"", attributes.user.name));
    }
    let question = Question {
        graph,
        node,
        attributes,
    };
    match (attributes.group, attributes.resource) {
        ("", "secrets") => question.read(Kind::Secret),
        ("", "configmaps") => question.read(Kind::ConfigMap),
        ("", "persistentvolumeclaims") if attributes.subresource == "status" => {
            question.update_status(Kind::PersistentVolumeClaim)
        }
        ("", "persistentvolumeclaims") => question.get(Kind::PersistentVolumeClaim),
        ("", "persistentvolumes") => question.get(Kind::PersistentVolume),
        ("resource.k8s.io", "resourceclaims") => question.get(Kind::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => question.get(Kind::VolumeAttachment),
        ("", "serviceaccounts") => question.service_account(),
        ("coordination.k8s.io", "leases") => question.lease(),
        ("storage.k8s.io", "csinodes") => question.csi_node(),
        ("resource.k8s.io", "resourceslices") => question.resource_slice(),
        ("", "nodes") => question.node(),
        ("", "pods") => question.pod(),
        ("certificates.k8s.io", "podcertificaterequests") => question.certificate_request(),
        _ if common.iter().any(|rule| rule.allows(attributes)) => Decision::allow(""),
        _ => Decision::no_opinion(""),
    }
}

struct Question<'a> {
    graph: &'a NodeGraph,
    node: &'a str,
    attributes: &'a Attributes<'a>,
}

impl Question<'_> {
    fn verb_in(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.attributes.verb)
    }

    fn related(&self, kind: Kind) -> Decision {
        let Attributes { namespace, name, .. } = *self.attributes;
        if name.is_empty() {
            return Decision::no_opinion("No Object name found");
        }
        if self
            .graph
            .leads_to(&Reference::new(kind, namespace, name), self.node)
        {
            return Decision::allow("");
        }
        Decision::no_opinion(format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    fn read(&self, kind: Kind) -> Decision {
        if !self.verb_in(&["get", "list", "watch"]) {
            return Decision::no_opinion("can only read resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return Decision::no_opinion("cannot read subresource");
        }
        if self.attributes.namespace.is_empty() {
            return Decision::no_opinion("can only read namespaced object of this type");
        }
        self.related(kind)
    }

    fn get(&self, kind: Kind) -> Decision {
        if self.attributes.verb != "get" {
            return Decision::no_opinion("can only get individual resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return Decision::no_opinion("cannot get subresource");
        }
        self.related(kind)
    }

    fn update_status(&self, kind: Kind) -> Decision {
        if !self.verb_in(&["update", "patch"]) {
            return Decision::no_opinion("can only get/update/patch this type");
        }
        self.related(kind)
    }

    fn service_account(&self) -> Decision {
        let Attributes {
            verb,
            subresource,
            name,
            ..
        } = *self.attributes;
        if verb == "get" && subresource.is_empty() {
            return self.read(Kind::ServiceAccount);
        }
        if verb != "create" || name.is_empty() {
            return Decision::no_opinion("can only create tokens for individual service accounts");
        }
        if subresource != "token" {
            return Decision::no_opinion("can only create token subresource of serviceaccount");
        }
        self.related(Kind::ServiceAccount)
    }

    fn lease(&self) -> Decision {
        if !self.verb_in(&["get", "create", "update", "patch", "delete"]) {
            return Decision::no_opinion("can only get, create, update, patch, or delete a node lease");
        }
        if self.attributes.namespace != NODE_LEASES {
            return Decision::no_opinion(format!(
                "can only access leases in the \"{NODE_LEASES}\" system namespace"
            ));
        }
        // The name is not known on create: NodeRestriction checks it then.
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return Decision::no_opinion(
                "can only access node lease with the same name as the requesting node",
            );
        }
        Decision::allow("")
    }

    fn csi_node(&self) -> Decision {
        if !self.attributes.subresource.is_empty() {
            return Decision::no_opinion("cannot authorize CSINode subresources");
        }
        if !self.verb_in(&["get", "create", "update", "patch", "delete"]) {
            return Decision::no_opinion("can only get, create, update, patch, or delete a CSINode");
        }
        if self.attributes.verb != "create" && self.attributes.name != self.node {
            return Decision::no_opinion("can only access CSINode with the same name as the requesting node");
        }
        Decision::allow("")
    }

    fn resource_slice(&self) -> Decision {
        if !self.attributes.subresource.is_empty() {
            return Decision::no_opinion("cannot authorize ResourceSlice subresources");
        }
        match self.attributes.verb {
            "create" => Decision::allow(""),
            "get" | "update" | "patch" | "delete" => self.related(Kind::ResourceSlice),
            "watch" | "list" | "deletecollection" if self.attributes.selects("spec.nodeName", self.node) => {
                Decision::allow("")
            }
            "watch" | "list" | "deletecollection" => Decision::no_opinion(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Decision::no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn node(&self) -> Decision {
        let node = self.node;
        match (self.attributes.subresource, self.attributes.verb) {
            // NodeRestriction limits these to the agent's own node.
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::allow(""),
            ("", "get" | "list" | "watch") => match self.attributes.name {
                name if name == node => Decision::allow(""),
                "" => Decision::no_opinion(format!(
                    "node '{node}' cannot read all nodes, only its own Node object"
                )),
                name => Decision::no_opinion(format!(
                    "node '{node}' cannot read '{name}', only its own Node object"
                )),
            },
            _ => Decision::no_opinion(""),
        }
    }

    fn pod(&self) -> Decision {
        match (self.attributes.subresource, self.attributes.verb) {
            ("", "get") => self.related(Kind::Pod),
            ("", "list" | "watch") if self.attributes.selects("spec.nodeName", self.node) => {
                Decision::allow("")
            }
            ("", "list" | "watch") if !self.attributes.name.is_empty() => self.related(Kind::Pod),
            ("", "list" | "watch") => {
                Decision::no_opinion("can only list/watch pods with spec.nodeName field selector")
            }
            // NodeRestriction limits these to mirror pods, and to pods bound to the agent's own node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Decision::allow("")
            }
            _ => Decision::no_opinion(""),
        }
    }

    fn certificate_request(&self) -> Decision {
        if !self.attributes.subresource.is_empty() {
            return Decision::no_opinion(
                "nodes may not access the status subresource of PodCertificateRequests",
            );
        }
        match self.attributes.verb {
            "create" => Decision::allow(""),
            "get" => self.related(Kind::PodCertificateRequest),
            "list" | "watch" if self.attributes.selects("spec.nodeName", self.node) => Decision::allow(""),
            "list" | "watch" => Decision::no_opinion(
                "can only list/watch podcertificaterequests with nodeName field selector",
            ),
            verb => Decision::no_opinion(format!("nodes may not {verb} podcertificaterequests")),
        }
    }
}

#[cfg(test)]
mod tests;
