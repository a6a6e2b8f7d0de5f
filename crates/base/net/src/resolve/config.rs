//! `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

pub(super) const SYSTEM_PATH: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes the servers that stand behind its stub.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
const STUB: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 54)),
];
const PORT: u16 = 53;
/// The C library's own limits.
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 32;
const NDOTS_MAX: usize = 15;
const TIMEOUT_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// How names are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<SocketAddr>,
    pub search: Vec<String>,
    /// A name with at least so many dots is first asked for as it is.
    pub ndots: usize,
    /// For one server and attempt.
    pub timeout: Duration,
    pub attempts: u32,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            nameservers: vec![SocketAddr::from(([127, 0, 0, 1], PORT))],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

impl ResolvConf {
    /// The configuration of this machine, with the real servers in place of systemd's stub: pods cannot reach that.
    pub fn system() -> io::Result<Self> {
        Self::read(Path::new(SYSTEM_PATH))
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let conf = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => Self::parse(&text?),
        };
        if path != Path::new(SYSTEM_PATH) || !conf.is_stub() {
            return Ok(conf);
        }
        Ok(std::fs::read_to_string(BEHIND_STUB).map_or(conf, |text| Self::parse(&text)))
    }

    /// Whether all servers are systemd's stub.
    pub fn is_stub(&self) -> bool {
        self.nameservers.iter().all(|server| STUB.contains(&server.ip()))
    }

    /// Reads a file's text. Like the C library it skips what it does not understand.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self {
            nameservers: Vec::new(),
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.nameservers.len() < SERVERS_MAX => {
                    conf.nameservers.extend(words.next().and_then(server));
                }
                // The last of these lines counts.
                Some("search") => conf.search = words.take(SEARCH_MAX).map(domain).collect(),
                Some("domain") => conf.search = words.take(1).map(domain).collect(),
                Some("options") => words.for_each(|option| conf.set_option(option)),
                _ => {}
            }
        }
        conf.search.retain(|domain| !domain.is_empty());
        if conf.nameservers.is_empty() {
            conf.nameservers = Self::default().nameservers;
        }
        conf
    }

    fn set_option(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("ndots", n)) => self.ndots = n.parse().map_or(self.ndots, |n: usize| n.min(NDOTS_MAX)),
            Some(("timeout", n)) => {
                let seconds = n.parse().ok().map(|n: u64| n.clamp(1, TIMEOUT_MAX));
                self.timeout = seconds.map_or(self.timeout, Duration::from_secs);
            }
            Some(("attempts", n)) => {
                self.attempts = n.parse().map_or(self.attempts, |n: u32| n.clamp(1, ATTEMPTS_MAX));
            }
            _ => {}
        }
    }

    /// The absolute names to ask for, in order.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{host}.{domain}"));
        let dots = host.bytes().filter(|b| *b == b'.').count();
        let as_is = std::iter::once(host.to_owned());
        if dots >= self.ndots {
            as_is.chain(searched).collect()
        } else {
            searched.chain(as_is).collect()
        }
    }
}

/// An address; the scope of a link-local one is not kept, since such servers cannot be handed to pods.
fn server(word: &str) -> Option<SocketAddr> {
    let address = word.split('%').next()?;
    Some(SocketAddr::new(address.parse().ok()?, PORT))
}

fn domain(word: &str) -> String {
    word.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_c_library_reads_it() {
        let conf = ResolvConf::parse(
            "# comment\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\nnameserver 10.0.0.2\n\
             nameserver 10.0.0.3\ndomain old.example\nsearch a.example. b.example\noptions ndots:99 timeout:0 attempts:3 rotate\n",
        );
        let servers: Vec<_> = conf.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(
            (conf.ndots, conf.timeout, conf.attempts),
            (15, Duration::from_secs(1), 3)
        );
    }

    #[test]
    fn nothing_usable_means_the_local_server() {
        assert_eq!(ResolvConf::parse("search .\n"), ResolvConf::default());
    }

    #[test]
    fn a_stub_is_recognised() {
        assert!(ResolvConf::parse("nameserver 127.0.0.53\n").is_stub());
        assert!(!ResolvConf::parse("nameserver 127.0.0.53\nnameserver 1.1.1.1\n").is_stub());
    }

    #[track_caller]
    fn check(ndots: usize, host: &str, wanted: &[&str]) {
        let conf = ResolvConf {
            ndots,
            search: vec!["s.x".to_owned()],
            ..ResolvConf::default()
        };
        assert_eq!(conf.candidates(host), wanted);
    }

    #[test]
    fn dots_decide_the_order_and_a_final_one_ends_the_search() {
        check(1, "web", &["web.s.x", "web"]);
        check(1, "web.example", &["web.example", "web.example.s.x"]);
        check(5, "web.example", &["web.example.s.x", "web.example"]);
        check(5, "web.", &["web"]);
    }
}
