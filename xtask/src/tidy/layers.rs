//! Dependencies point down only. The folder is the layer.

use std::collections::HashMap;
use std::path::Path;

use super::metadata::Package;

/// A layer and the layers that its crates may use beside itself.
const RULES: [(&str, &[&str]); 10] = [
    ("base", &[]),
    ("api", &["base"]),
    ("store", &["base"]),
    ("server", &["base", "api", "store"]),
    ("control", &["base", "api"]),
    ("node", &["base", "api"]),
    ("mesh", &["base", "api"]),
    ("platform", &["base", "api"]),
    ("apps", EVERYTHING),
    ("testing", EVERYTHING),
];
const EVERYTHING: &[&str] = &[
    "base", "api", "store", "server", "control", "node", "mesh", "platform", "apps", "testing",
];

/// Single crates that a layer may use although their layer is closed to it.
const EXCEPTIONS: [(&str, &str); 1] = [("platform", "cloudeck-route")];

/// In the api layer only the client has sockets.
const SOCKETS: [&str; 5] = ["hyper", "hyper-util", "rustls", "socket2", "tokio-rustls"];

pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let layers: HashMap<&str, &str> = packages
        .iter()
        .map(|package| (package.name.as_str(), layer(&package.manifest_path)))
        .collect();
    let mut complaints = Vec::new();
    for package in packages {
        let from = layers[package.name.as_str()];
        if from == "xtask" {
            continue;
        }
        let Some((_, allowed)) = RULES.iter().find(|(layer, _)| *layer == from) else {
            complaints.push(format!("{}: {from:?} is no layer", package.name));
            continue;
        };
        // Tests may use what they like, but for the composition root.
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| !dependency.is_dev())
        {
            let to = dependency.name.as_str();
            match layers.get(to) {
                Some(layer) if !is_allowed(from, allowed, to, layer) => {
                    complaints.push(format!("{} ({from}) may not use {to} ({layer})", package.name));
                }
                None if from == "api" && package.name != "cloudeck-client" && SOCKETS.contains(&to) => {
                    complaints.push(format!(
                        "{} may not use {to}: only the client has sockets",
                        package.name
                    ));
                }
                _ => {}
            }
        }
    }
    complaints
}

fn is_allowed(from: &str, allowed: &[&str], to: &str, layer: &str) -> bool {
    from == layer || allowed.contains(&layer) || EXCEPTIONS.contains(&(from, to))
}

/// The folder below `crates`, or `testing`, or `xtask`.
fn layer(manifest: &Path) -> &str {
    let mut parts = manifest.iter().filter_map(|part| part.to_str());
    match parts.next() {
        Some("crates") => parts.next().unwrap_or_default(),
        Some(other) => other,
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Dependency;
    use super::*;

    fn package(path: &str, name: &str, uses: &[(&str, Option<&str>)]) -> Package {
        let dependencies = uses
            .iter()
            .map(|(name, kind)| Dependency {
                name: (*name).to_owned(),
                kind: kind.map(str::to_owned),
            })
            .collect();
        Package {
            name: name.to_owned(),
            manifest_path: path.into(),
            dependencies,
        }
    }

    #[test]
    fn dependencies_that_point_up_or_across_are_told() {
        let packages = [
            package("crates/base/net/Cargo.toml", "net", &[("schema", None)]),
            package(
                "crates/api/schema/Cargo.toml",
                "schema",
                &[("net", None), ("hyper", None)],
            ),
            package(
                "crates/node/agent/Cargo.toml",
                "agent",
                &[("dns", None), ("schema", None)],
            ),
            package(
                "crates/mesh/dns/Cargo.toml",
                "dns",
                &[("net", None), ("agent", Some("dev"))],
            ),
            package(
                "crates/apps/cloudeck/Cargo.toml",
                "app",
                &[("agent", None), ("dns", None)],
            ),
        ];
        assert_eq!(
            check(&packages),
            [
                "net (base) may not use schema (api)",
                "schema may not use hyper: only the client has sockets",
                "agent (node) may not use dns (mesh)",
            ]
        );
    }
}
