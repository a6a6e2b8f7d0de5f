//! Typed views of the built-in kinds that controllers, scheduler and agent read.
//!
//! One non-generic decode per kind, instantiated here and nowhere else: every further crate that decodes a kind itself
//! costs a minute of code generation. There is no encode on purpose: typed structs lose unknown fields, so writes are
//! patches over the value tree, never a decoded object sent back.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, PodSpec, PodStatus, PodTemplateSpec, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use k8s_openapi as types;

/// The bytes are not an object of the kind.
#[derive(Debug, thiserror::Error)]
#[error("decode a {kind}")]
pub struct DecodeObjectError {
    kind: &'static str,
    source: serde_json::Error,
}

macro_rules! decoders {
    ($($name:ident => $kind:ty),* $(,)?) => {
        $(
            #[doc = concat!("Decodes a `", stringify!($kind), "`.")]
            pub fn $name(json: &[u8]) -> Result<$kind, DecodeObjectError> {
                serde_json::from_slice(json)
                    .map_err(|source| DecodeObjectError { kind: stringify!($kind), source })
            }
        )*
    };
}

decoders! {
    pod => Pod,
    pod_spec => PodSpec,
    pod_template => PodTemplateSpec,
    node => Node,
    service => Service,
    endpoints => Endpoints,
    endpoint_slice => EndpointSlice,
    namespace => Namespace,
    config_map => ConfigMap,
    secret => Secret,
    service_account => ServiceAccount,
    deployment => Deployment,
    replica_set => ReplicaSet,
}

/// A pod's status as the agent reports it: the one thing that is written from a typed value, because the agent makes all
/// of it anew and sends it as a patch.
///
/// # Panics
/// Never: a status has no keys that JSON cannot hold.
pub fn pod_status_json(status: &PodStatus) -> Vec<u8> {
    serde_json::to_vec(status).expect("a status has text keys only")
}

/// The metadata of an object of any kind.
pub fn metadata(json: &[u8]) -> Result<ObjectMeta, DecodeObjectError> {
    #[derive(serde::Deserialize)]
    struct OnlyMetadata {
        #[serde(default)]
        metadata: ObjectMeta,
    }
    serde_json::from_slice::<OnlyMetadata>(json)
        .map(|object| object.metadata)
        .map_err(|source| DecodeObjectError {
            kind: "object",
            source,
        })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pod_decodes_and_a_broken_one_names_its_kind() {
        let pod = super::pod(br#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}"#).unwrap();
        assert_eq!(pod.spec.unwrap().containers[0].name, "c");
        let error = super::pod(b"{\"spec\":1}").unwrap_err();
        assert_eq!(error.to_string(), "decode a Pod");
    }
}
