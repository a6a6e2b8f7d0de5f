//! Users and groups by the image's `/etc/passwd` and `/etc/group`, read inside the image's root.

use std::os::fd::OwnedFd;

use cloudeck_linux::inroot;

use super::{SetupError, Step};
use crate::config::User;

/// A user as far as a process needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// More than any real file has; an image may bring what it likes.
const MAX_FILE: u64 = 1 << 20;

/// Finds whom `user` means in the files of `root`.
pub(super) fn look_up(root: &OwnedFd, user: &User) -> Result<Account, SetupError> {
    let read = |path: &str| {
        let bytes = inroot::read_file(root, path, MAX_FILE).step(|| format!("read {path} of the image"))?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    find(user, &read("/etc/passwd")?, &read("/etc/group")?)
}

struct Entry<'file> {
    name: &'file str,
    uid: u32,
    gid: u32,
    home: &'file str,
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Entry {
            name,
            uid,
            gid,
            home: fields.nth(1).unwrap_or("/"),
        })
    })
}

fn find(user: &User, passwd: &str, group: &str) -> Result<Account, SetupError> {
    let (name, group_name) = match user.user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user.user.as_str(), None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let uid = name.parse::<u32>().ok();
    let entry = match uid {
        Some(uid) => entries(passwd).find(|entry| entry.uid == uid),
        None => entries(passwd).find(|entry| entry.name == name),
    };
    let missing = || {
        SetupError::Refused(format!(
            "unable to find user {name}: no matching entries in passwd file"
        ))
    };
    let uid = uid
        .or(entry.as_ref().map(|entry| entry.uid))
        .ok_or_else(missing)?;
    let mut gid = entry.as_ref().map_or(0, |entry| entry.gid);
    if let Some(wanted) = group_name {
        gid = find_group(wanted, group)?;
    }
    let gid = user.gid.unwrap_or(gid);
    let mut groups = user.additional_gids.clone();
    if !user.strict_groups
        && let Some(entry) = &entry
    {
        groups.extend(groups_of(entry.name, group));
    }
    // As everywhere: the first group is among the further ones.
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    let home = entry.map_or("/", |entry| entry.home).to_owned();
    Ok(Account {
        uid,
        gid,
        groups,
        home,
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, SetupError> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    let mut fields = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields
        .find(|fields| fields.first() == Some(&wanted))
        .and_then(|fields| fields.get(2)?.parse().ok());
    found.ok_or_else(|| {
        SetupError::Refused(format!(
            "unable to find group {wanted}: no matching entries in group file"
        ))
    })
}

fn groups_of<'file>(name: &'file str, group: &'file str) -> impl Iterator<Item = u32> + 'file {
    group.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == name)
            .then_some(gid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:Web:/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:other,web\nweird:x:a:web\n";

    fn check(user: &User, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let expected = Account {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        assert_eq!(find(user, PASSWD, GROUP).unwrap(), expected);
    }

    fn named(user: &str) -> User {
        User {
            user: user.to_owned(),
            ..User::default()
        }
    }

    #[test]
    fn nobody_in_particular_is_root() {
        check(&named(""), 0, 0, &[0], "/root");
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        check(&named("web"), 33, 34, &[34, 50], "/srv");
    }

    #[test]
    fn a_number_that_is_known_is_as_good_as_the_name() {
        check(&named("33"), 33, 34, &[34, 50], "/srv");
    }

    #[test]
    fn a_number_that_is_not_known_has_group_0() {
        check(&named("4242"), 4242, 0, &[0], "/");
    }

    #[test]
    fn a_group_can_be_said_by_name_or_number_and_overridden() {
        check(&named("web:logs"), 33, 50, &[50], "/srv");
        check(&named("7:8"), 7, 8, &[8], "/");
        check(
            &User {
                gid: Some(9),
                additional_gids: vec![70],
                ..named("web:logs")
            },
            33,
            9,
            &[9, 50, 70],
            "/srv",
        );
    }

    #[test]
    fn strict_groups_leave_the_image_out() {
        check(
            &User {
                strict_groups: true,
                additional_gids: vec![70],
                ..named("web")
            },
            33,
            34,
            &[34, 70],
            "/srv",
        );
    }

    #[test]
    fn names_that_are_missing_are_said() {
        let error = find(&named("ghost"), PASSWD, GROUP).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to find user ghost: no matching entries in passwd file"
        );
        assert!(find(&named("web:ghosts"), PASSWD, GROUP).is_err());
    }
}
