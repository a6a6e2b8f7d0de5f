//! The administrator's kubeconfig: read by our own commands, merged into the user's on request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use cloudeck_client::tls::{TlsConfig, TlsTransport};
use cloudeck_machinery::{Value, yaml};
use cloudeck_pki::KeyPairPem;

use crate::settings::{Places, write_atomically};

/// A client of the cluster of this instance, as its administrator.
pub fn connect(places: &Places) -> Result<Arc<TlsTransport>> {
    let path = places.kubeconfig();
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "there is no cluster in {} yet: run `cloudeck up`",
                places.data_dir.display()
            )
        }
        read => read.with_context(|| format!("read {}", path.display()))?,
    };
    let tree = yaml::parse(text.as_bytes()).with_context(|| format!("understand {}", path.display()))?;
    let cluster = tree
        .items_at(&["clusters"])
        .first()
        .context("the kubeconfig names no cluster")?;
    let user = tree
        .items_at(&["users"])
        .first()
        .context("the kubeconfig names no user")?;
    let server = cluster.str_at(&["cluster", "server"]).unwrap_or_default();
    let address: SocketAddr = server
        .trim_start_matches("https://")
        .parse()
        .with_context(|| format!("understand the server {server:?}"))?;
    let pem = |tree: &Value, path: &[&str]| -> Result<String> {
        let text = tree
            .str_at(path)
            .with_context(|| format!("the kubeconfig has no {}", path.join(".")))?;
        decode(text)
    };
    let authority = pem(cluster, &["cluster", "certificate-authority-data"])?;
    let pair = KeyPairPem {
        certificate: pem(user, &["user", "client-certificate-data"])?,
        key: pem(user, &["user", "client-key-data"])?,
    };
    let rustls = cloudeck_pki::client_config(&authority, Some(&pair), &[])?;
    let user_agent = concat!("cloudeck/", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Arc::new(TlsTransport::new(TlsConfig {
        address,
        rustls,
        bearer_token: None,
        user_agent,
    })))
}

fn decode(text: &str) -> Result<String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .context("decode base64 in the kubeconfig")?;
    String::from_utf8(bytes).context("the kubeconfig holds text that is not UTF-8")
}

/// Puts our cluster, user and context into the user's kubeconfig and makes it current; everything else there stays.
pub fn merge(places: &Places, target: &Path) -> Result<()> {
    let own = std::fs::read_to_string(places.kubeconfig()).context("read the cluster's kubeconfig")?;
    let own = yaml::parse(own.as_bytes()).context("understand the cluster's kubeconfig")?;
    let mut merged = match std::fs::read_to_string(target) {
        Ok(text) if !text.trim().is_empty() => {
            yaml::parse(text.as_bytes()).with_context(|| format!("understand {}", target.display()))?
        }
        Ok(_) => cloudeck_machinery::value!({"apiVersion": "v1", "kind": "Config"}),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            cloudeck_machinery::value!({"apiVersion": "v1", "kind": "Config"})
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", target.display())),
    };
    for list in ["clusters", "users", "contexts"] {
        let mut entries = merged.items_at(&[list]).to_vec();
        for entry in own.items_at(&[list]) {
            entries.retain(|other| other.get("name") != entry.get("name"));
            entries.push(entry.clone());
        }
        merged.set_at(&[list], entries);
    }
    if let Some(context) = own.get("current-context") {
        merged.set_at(&["current-context"], context.clone());
    }
    if let Some(dir) = target.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    write_atomically(target, yaml::write(&merged).as_bytes())
}

/// `~/.kube/config`, or the first file that `KUBECONFIG` names.
pub fn of_user() -> Result<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("HOME is not set, so there is no ~/.kube/config")?;
    Ok(PathBuf::from(home).join(".kube/config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_keeps_other_clusters_and_replaces_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            instance: "t".into(),
            data_dir: dir.path().to_owned(),
            run_dir: dir.path().to_owned(),
        };
        let own = "clusters: [{name: ck, cluster: {server: new}}]\nusers: [{name: ck}]\ncontexts: [{name: ck}]\ncurrent-context: ck\n";
        std::fs::write(places.kubeconfig(), own).unwrap();
        let target = dir.path().join("k/config");
        std::fs::create_dir(dir.path().join("k")).unwrap();
        std::fs::write(&target, "clusters: [{name: other}, {name: ck, cluster: {server: old}}]\ncurrent-context: other\nextensions: []\n").unwrap();
        merge(&places, &target).unwrap();
        let merged = yaml::parse(&std::fs::read(&target).unwrap()).unwrap();
        let servers: Vec<_> = merged
            .items_at(&["clusters"])
            .iter()
            .map(|c| c.str_at(&["cluster", "server"]))
            .collect();
        assert_eq!(servers, [None, Some("new")]);
        assert_eq!(merged.str_at(&["current-context"]), Some("ck"));
        assert!(merged.get("extensions").is_some());
    }
}
