//! Whom the program runs as, and what it may do.

use std::os::fd::OwnedFd;

use cloudeck_linux::{caps, process};

use super::passwd;
use super::{SetupError, Step};
use crate::config::User;
use crate::spec::ContainerSpec;
use crate::status::RunsAs;

/// Decided while the files of the machine and of the image are at hand; taken on at the very end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    gid: u32,
    groups: Vec<u32>,
    pub(super) home: String,
    capabilities: u64,
    no_new_privileges: bool,
}

impl Identity {
    pub(super) fn runs_as(&self) -> RunsAs {
        RunsAs {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }
}

/// Looks the container's user up in the files of `root`.
pub(super) fn resolve(root: &OwnedFd, spec: &ContainerSpec) -> Result<Identity, SetupError> {
    resolve_user(root, spec, &spec.config.user)
}

/// As [`resolve`], for another user.
pub(super) fn resolve_user(
    root: &OwnedFd,
    spec: &ContainerSpec,
    user: &User,
) -> Result<Identity, SetupError> {
    let account = passwd::look_up(root, user)?;
    Ok(Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups,
        home: account.home,
        capabilities: spec.capabilities,
        no_new_privileges: spec.config.security.no_new_privileges,
    })
}

/// Takes the identity on, for good. The filter comes first where only a privileged process may load it, else last.
pub(super) fn take_on(identity: &Identity, filter: Option<&[u8]>) -> Result<(), SetupError> {
    let step = || "drop privileges".to_owned();
    let load = || {
        filter.map_or(Ok(()), |filter| {
            crate::seccomp::load(filter).step(|| "load the seccomp filter".to_owned())
        })
    };
    if identity.no_new_privileges {
        process::set_no_new_privileges().step(step)?;
    } else {
        load()?;
    }
    let Identity {
        uid,
        gid,
        groups,
        capabilities,
        ..
    } = identity;
    caps::clear_ambient().step(step)?;
    caps::limit_bounding(*capabilities).step(step)?;
    process::set_keep_capabilities(true).step(step)?;
    process::become_user(*uid, *gid, groups).step(|| format!("become user {uid} of group {gid}"))?;
    process::set_keep_capabilities(false).step(step)?;
    // A user other than 0 loses these at the exec.
    let sets = caps::Sets {
        effective: *capabilities,
        permitted: *capabilities,
        inheritable: 0,
    };
    caps::set(sets).step(step)?;
    if identity.no_new_privileges {
        load()
    } else {
        Ok(())
    }
}
