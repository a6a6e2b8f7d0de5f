//! `/etc/hosts`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Names and their addresses, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    entries: Vec<(String, IpAddr)>,
}

impl Hosts {
    pub fn parse(text: &str) -> Self {
        let mut entries = Vec::new();
        for line in text.lines() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            entries.extend(words.map(|name| (normal(name), address)));
        }
        Self { entries }
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => Ok(Self::parse(&text?)),
        }
    }

    /// All addresses of a name, IPv4 first. `localhost` is the loopback even where no file says so (RFC 6761).
    pub(super) fn lookup(&self, host: &str) -> Option<Vec<IpAddr>> {
        let wanted = normal(host);
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|(name, _)| *name == wanted)
            .map(|(_, address)| *address)
            .collect();
        if found.is_empty() && (wanted == "localhost" || wanted.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        found.sort_by_key(IpAddr::is_ipv6);
        found.dedup();
        (!found.is_empty()).then_some(found)
    }
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_any_case() {
        let hosts = Hosts::parse("::1 box\n10.0.0.1 Box.example box # box2\nnonsense x\n");
        let addresses = |host| {
            hosts
                .lookup(host)
                .map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            addresses("BOX"),
            Some(vec!["10.0.0.1".to_owned(), "::1".to_owned()])
        );
        assert_eq!(addresses("box.example."), Some(vec!["10.0.0.1".to_owned()]));
        assert_eq!(addresses("box2"), None);
        assert_eq!(addresses("localhost").unwrap().len(), 2);
    }
}
