//! The image configuration: what runs by default, and of which layers the root file system is made.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::manifest::null_as_default;

/// The configuration blob. Its digest is the image id, so the stored bytes are kept as they came; this type is for
/// reading them, and for writing new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ImageConfig,
    pub rootfs: RootFsLayers,
}

/// What a container of the image runs unless its pod says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `port` or `port/protocol`.
    #[serde(with = "set_as_object", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(with = "set_as_object", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
}

/// Go writes a set as an object whose members are all `{}`.
mod set_as_object {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let empty = BTreeMap::<&str, &str>::new();
        serializer.collect_map(set.iter().map(|member| (member, &empty)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let object =
            Option::<std::collections::HashMap<String, serde_json::Value>>::deserialize(deserializer)?;
        Ok(object.unwrap_or_default().into_keys().collect())
    }
}

/// The layers of the root file system by the digest of their uncompressed archives, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFsLayers {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_as_docker_writes_it_is_read() {
        let json = r#"{"architecture":"amd64","os":"linux","config":{"Hostname":"","User":"1000:1000",
            "ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"Entrypoint":null,"Cmd":["nginx","-g","daemon off;"],
            "Volumes":null,"WorkingDir":"/srv","Labels":null,"StopSignal":"SIGQUIT","OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x"}]}"#;
        let file: ConfigFile = serde_json::from_str(json).unwrap();
        assert_eq!(file.config.user, "1000:1000");
        assert_eq!(file.config.exposed_ports.iter().collect::<Vec<_>>(), ["80/tcp"]);
        assert!(file.config.entrypoint.is_empty());
        assert_eq!(file.config.cmd, ["nginx", "-g", "daemon off;"]);
        assert_eq!(file.config.stop_signal, "SIGQUIT");
        assert!(file.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn a_configuration_without_its_config_member_is_empty() {
        let file: ConfigFile = serde_json::from_str(r#"{"rootfs":{},"config":null}"#).unwrap();
        assert_eq!(file.config, ImageConfig::default());
    }

    #[test]
    fn what_is_written_leaves_out_what_is_unset() {
        let config = ImageConfig {
            entrypoint: vec!["/app".to_owned()],
            exposed_ports: BTreeSet::from(["80/tcp".to_owned()]),
            ..ImageConfig::default()
        };
        let json = r#"{"ExposedPorts":{"80/tcp":{}},"Entrypoint":["/app"]}"#;
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
    }
}
