//! Which objects lead to which node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cloudeck_machinery::Value;

use super::pod_references::{pod_references, volume_secrets};

/// Objects and the nodes that need them. Kept current by whoever sees the changes.
#[derive(Default)]
pub struct NodeGraph {
    pods: HashMap<Reference, Placed>,
    /// What a single object names as its node: attachments, slices, certificate requests.
    placed: HashMap<Reference, Arc<str>>,
    /// How many pods per node lead from an object there.
    nodes: HashMap<Reference, HashMap<Arc<str>, u32>>,
    volumes: HashMap<String, Volume>,
    /// Secrets that a volume needs, with the volumes.
    volume_secrets: HashMap<Reference, HashSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    ServiceAccount,
    PersistentVolumeClaim,
    PersistentVolume,
    ResourceClaim,
    VolumeAttachment,
    ResourceSlice,
    Pod,
    PodCertificateRequest,
}

impl Kind {
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::ServiceAccount => "serviceaccounts",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::PersistentVolume => "persistentvolumes",
            Self::ResourceClaim => "resourceclaims",
            Self::VolumeAttachment => "volumeattachments",
            Self::ResourceSlice => "resourceslices",
            Self::Pod => "pods",
            Self::PodCertificateRequest => "podcertificaterequests",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Reference {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

struct Placed {
    uid: String,
    node: Arc<str>,
    references: Vec<Reference>,
}

struct Volume {
    claim: Reference,
    secrets: Vec<Reference>,
}

impl NodeGraph {
    /// Takes over the state of a pod; `None` after its deletion. What a pod needs cannot change once it has a node, so
    /// only its first sight on a node costs more than a look-up.
    pub fn set_pod(&mut self, namespace: &str, name: &str, pod: Option<&Value>) {
        let key = Reference::new(Kind::Pod, namespace, name);
        let node = pod
            .and_then(|pod| pod.str_at(&["spec", "nodeName"]))
            .unwrap_or_default();
        let uid = pod
            .and_then(|pod| pod.str_at(&["metadata", "uid"]))
            .unwrap_or_default();
        if let Some(known) = self.pods.get(&key) {
            if pod.is_some() && known.uid == uid && &*known.node == node {
                return;
            }
            self.forget_pod(&key);
        }
        let Some(pod) = pod.filter(|_| !node.is_empty()) else {
            return;
        };
        let node: Arc<str> = node.into();
        let mut references = pod_references(namespace, pod);
        references.push(key.clone());
        for reference in &references {
            let counts = self.nodes.entry(reference.clone()).or_default();
            *counts.entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(
            key,
            Placed {
                uid: uid.to_owned(),
                node,
                references,
            },
        );
    }

    fn forget_pod(&mut self, key: &Reference) {
        let Some(pod) = self.pods.remove(key) else { return };
        for reference in &pod.references {
            let Some(counts) = self.nodes.get_mut(reference) else {
                continue;
            };
            if let Some(count) = counts.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&pod.node);
                }
            }
            if counts.is_empty() {
                self.nodes.remove(reference);
            }
        }
    }

    /// Takes over the state of a PersistentVolume; `None` after its deletion.
    pub fn set_volume(&mut self, name: &str, volume: Option<&Value>) {
        if let Some(old) = self.volumes.remove(name) {
            for secret in &old.secrets {
                if let Some(volumes) = self.volume_secrets.get_mut(secret) {
                    volumes.remove(name);
                    if volumes.is_empty() {
                        self.volume_secrets.remove(secret);
                    }
                }
            }
        }
        let claim = |field| {
            volume
                .and_then(|tree| tree.str_at(&["spec", "claimRef", field]))
                .unwrap_or_default()
        };
        let (Some(tree), false) = (volume, claim("name").is_empty()) else {
            return;
        };
        let secrets = volume_secrets(claim("namespace"), tree);
        for secret in &secrets {
            self.volume_secrets
                .entry(secret.clone())
                .or_default()
                .insert(name.to_owned());
        }
        let claim = Reference::new(Kind::PersistentVolumeClaim, claim("namespace"), claim("name"));
        self.volumes.insert(name.to_owned(), Volume { claim, secrets });
    }

    /// Takes over the node that an attachment, slice or certificate request names in `spec.nodeName`.
    pub(crate) fn set_placed(&mut self, key: Reference, object: Option<&Value>) {
        let node = object
            .and_then(|tree| tree.str_at(&["spec", "nodeName"]))
            .unwrap_or_default();
        if node.is_empty() {
            self.placed.remove(&key);
        } else {
            self.placed.insert(key, node.into());
        }
    }

    /// Whether something on `node` needs the object.
    pub(crate) fn leads_to(&self, reference: &Reference, node: &str) -> bool {
        if self.is_needed(reference, node)
            || self.placed.get(reference).is_some_and(|placed| &**placed == node)
        {
            return true;
        }
        let through = |volume: &String| {
            self.volumes
                .get(volume)
                .is_some_and(|volume| self.is_needed(&volume.claim, node))
        };
        match reference.kind {
            Kind::PersistentVolume => through(&reference.name),
            Kind::Secret => self
                .volume_secrets
                .get(reference)
                .is_some_and(|volumes| volumes.iter().any(through)),
            _ => false,
        }
    }

    fn is_needed(&self, reference: &Reference, node: &str) -> bool {
        self.nodes
            .get(reference)
            .is_some_and(|counts| counts.contains_key(node))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
            && self.nodes.is_empty()
            && self.volumes.is_empty()
            && self.volume_secrets.is_empty()
    }
}
