//! An IPv4 range in prefix notation.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses, `address/prefix`, with the host bits cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an IPv4 range like 10.244.0.0/24")]
pub struct ParseCidrError {
    text: String,
}

impl Ipv4Cidr {
    /// The range that `address` lies in; `None` where the prefix is longer than 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self {
            network: Ipv4Addr::from(u32::from(address) & mask_bits(prefix)),
            prefix,
        })
    }

    /// The first address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The last address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !mask_bits(self.prefix))
    }

    /// The number of leading bits that all members share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The prefix as a mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(mask_bits(self.prefix))
    }

    /// Whether `address` is a member.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask_bits(self.prefix) == u32::from(self.network)
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

fn mask_bits(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| ParseCidrError {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(cidr("10.244.3.7/24").to_string(), "10.244.3.0/24");
        assert_eq!(cidr("10.244.3.7/24").last(), Ipv4Addr::new(10, 244, 3, 255));
    }

    #[test]
    fn the_extreme_prefixes_work() {
        assert!(cidr("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert_eq!(cidr("1.2.3.4/32").network(), cidr("1.2.3.4/32").last());
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.96.0.0/12")));
        assert!(cidr("10.96.0.0/12").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.244.0.0/16").overlaps(cidr("10.96.0.0/12")));
    }

    #[test]
    fn nonsense_is_refused_with_the_text() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "a/8", "10.0.0/8", "fd00::/64"] {
            assert!(text.parse::<Ipv4Cidr>().unwrap_err().to_string().contains(text));
        }
    }
}
