//! Where the facts come from: Go modules of the registry and the declarations in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::resources::Discovery;

/// The level of Kubernetes that is served. Staging modules are v0.x of the same release.
const RELEASE: &str = "37.2";

/// The downloaded modules, by path.
pub(super) struct Modules(BTreeMap<&'static str, PathBuf>);

const STAGING: [&str; 4] = [
    "k8s.io/api",
    "k8s.io/apimachinery",
    "k8s.io/apiextensions-apiserver",
    "k8s.io/kube-aggregator",
];
const KUBERNETES: &str = "k8s.io/kubernetes";

impl Modules {
    pub(super) fn download() -> Result<Self> {
        let mut folders = BTreeMap::new();
        for module in STAGING {
            folders.insert(module, download(&format!("{module}@v0.{RELEASE}"))?);
        }
        folders.insert(KUBERNETES, download(&format!("{KUBERNETES}@v1.{RELEASE}"))?);
        Ok(Self(folders))
    }

    /// The folder of `api/discovery`: what a server with every version enabled answers.
    pub(super) fn discovery(&self) -> PathBuf {
        self.0[KUBERNETES].join("api/discovery")
    }

    /// The folder of an import path.
    fn folder(&self, import: &str) -> Result<PathBuf> {
        let (module, folder) = self
            .0
            .iter()
            .find(|(module, _)| import.starts_with(**module) && import[module.len()..].starts_with('/'))
            .with_context(|| format!("no module holds {import}"))?;
        Ok(folder.join(&import[module.len() + 1..]))
    }
}

fn download(module: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Downloaded {
        #[serde(rename = "Dir")]
        dir: PathBuf,
    }
    // Outside any Go module; a temporary folder has none above it.
    let output = run(Command::new("go").args(["mod", "download", "-json", module]))?;
    let found: Downloaded =
        serde_json::from_slice(&output).with_context(|| format!("reading where {module} went"))?;
    Ok(found.dir)
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .current_dir(std::env::temp_dir())
        .output()
        .context("running go (is a Go toolchain on PATH?)")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// One Go package's declarations, as `dump.go` prints them.
#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) path: String,
    /// The prefix of its types' OpenAPI names, such as `io.k8s.api.core.v1`.
    pub(super) model: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) types: Vec<TypeDecl>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) consts: Vec<ConstDecl>,
}

#[derive(Deserialize)]
pub(super) struct TypeDecl {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) expr: TypeExpr,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) fields: Vec<FieldDecl>,
    pub(super) markers: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct ConstDecl {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) of: String,
    pub(super) value: String,
}

#[derive(Deserialize)]
pub(super) struct FieldDecl {
    pub(super) name: String,
    pub(super) embedded: bool,
    #[serde(rename = "type")]
    pub(super) expr: TypeExpr,
    pub(super) json: String,
    pub(super) protobuf: String,
    pub(super) strategy: String,
    pub(super) merge_key: String,
    pub(super) markers: Vec<String>,
}

#[derive(Deserialize, Clone, Debug)]
pub(super) struct TypeExpr {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) pkg: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) elem: Option<Box<TypeExpr>>,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl TypeDecl {
    /// The value of the marker `name=`.
    pub(super) fn marker(&self, name: &str) -> Option<&str> {
        marker(&self.markers, name)
    }
}

impl FieldDecl {
    pub(super) fn marker(&self, name: &str) -> Option<&str> {
        marker(&self.markers, name)
    }

    pub(super) fn has_marker(&self, name: &str) -> bool {
        self.markers.iter().any(|marker| marker == name)
    }
}

fn marker<'a>(markers: &'a [String], name: &str) -> Option<&'a str> {
    markers
        .iter()
        .find_map(|marker| marker.strip_prefix(name)?.strip_prefix('='))
}

/// The packages of every served group version and of what their types use.
pub(super) fn dump_packages(modules: &Modules, discovery: &Discovery) -> Result<Vec<Package>> {
    let mut imports: Vec<String> = discovery
        .group_versions()
        .map(|(group, version)| import_path(group, version))
        .collect::<Result<_>>()?;
    for shared in ["apis/meta/v1", "runtime", "types"] {
        imports.push(format!("k8s.io/apimachinery/pkg/{shared}"));
    }
    // Not served, but a type of batch/v1 has a field of one of its types.
    imports.push("k8s.io/api/scheduling/v1alpha3".to_owned());
    let mut command = Command::new("go");
    command
        .arg("run")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/codegen/dump.go"));
    for import in &imports {
        let folder = modules.folder(import)?;
        command.arg(format!("{import}={}", folder.display()));
    }
    let mut packages: Vec<Package> =
        serde_json::from_slice(&run(&mut command)?).context("reading the declarations")?;
    for package in &mut packages {
        if package.model.is_empty() {
            // Packages without model names of their own: the import path turned around.
            package.model = package.path.replace("k8s.io/", "io.k8s.").replace('/', ".");
        }
    }
    Ok(packages)
}

/// The Go package that declares a group version.
pub(super) fn import_path(group: &str, version: &str) -> Result<String> {
    let folder = match group {
        "" => "core",
        "apiextensions.k8s.io" => {
            return Ok(format!(
                "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/{version}"
            ));
        }
        "apiregistration.k8s.io" => {
            return Ok(format!(
                "k8s.io/kube-aggregator/pkg/apis/apiregistration/{version}"
            ));
        }
        "internal.apiserver.k8s.io" => bail!("internal group has no stable version"),
        _ => group.split('.').next().unwrap_or(group),
    };
    Ok(format!("k8s.io/api/{folder}/{version}"))
}
