//! IP addresses and ranges: the strict rule of new fields, and the looser one of fields older than it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::unless;
use crate::quote::quote;

const IP_MESSAGE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR_MESSAGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A canonical IP address: the rule for new fields.
pub fn ip(value: &str) -> Vec<String> {
    let problems = ip_legacy(value);
    match parse_ip(value) {
        Some(address) if problems.is_empty() && address.to_string() != value => {
            vec![format!(
                "must be in canonical form ({})",
                quote(&address.to_string())
            )]
        }
        _ => problems,
    }
}

/// An IP address, canonical or not, without leading zeros and not IPv4 in IPv6: the rule for old fields.
pub fn ip_legacy(value: &str) -> Vec<String> {
    if parse_ip(value).is_none() {
        return vec![IP_MESSAGE.into()];
    }
    match value.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".into()],
        Ok(address) => unless(!is_mapped(address), || {
            "must not be an IPv4-mapped IPv6 address".into()
        }),
    }
}

/// Warnings for an address that [`ip_legacy`] or old data let pass, each with its field.
pub fn ip_warnings(field: &str, value: &str) -> Option<String> {
    let address = parse_ip(value)?;
    let (quoted, canonical) = (quote(value), quote(&address.to_string()));
    match value.parse::<IpAddr>() {
        Ok(strict) if !is_mapped(strict) => (strict.is_ipv6() && strict.to_string() != value).then(|| {
            format!("{field}: IPv6 address {quoted} should be in RFC 5952 canonical format ({canonical})")
        }),
        _ => Some(format!(
            "{field}: non-standard IP address {quoted} is invalid: use {canonical}"
        )),
    }
}

/// An address as Kubernetes has always read it: decimal octets with leading zeros, IPv4 in IPv6 taken as IPv4.
pub fn parse_ip(value: &str) -> Option<IpAddr> {
    let address = value
        .parse::<IpAddr>()
        .ok()
        .or_else(|| without_leading_zeros(value)?.parse().ok())?;
    Some(match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    })
}

/// The text with the leading zeros of its dotted decimal part removed.
fn without_leading_zeros(value: &str) -> Option<String> {
    let (head, octets) = match value.rfind(':') {
        Some(colon) => value.split_at(colon + 1),
        None => ("", value),
    };
    let octets: Option<Vec<&str>> = octets
        .split('.')
        .map(|octet| {
            let kept = octet.trim_start_matches('0');
            (!octet.is_empty()).then_some(if kept.is_empty() { "0" } else { kept })
        })
        .collect();
    let octets = octets.filter(|octets| octets.len() == 4)?;
    Some(format!("{head}{}", octets.join(".")))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// A range as text was read: the whole address, the length of its prefix, both as upstream normalises them.
struct Range {
    address: IpAddr,
    length: u8,
}

impl Range {
    /// As loosely as Kubernetes always did.
    fn parse(value: &str) -> Option<Self> {
        let (address, length) = value.split_once('/')?;
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mapped = address.contains(':');
        let address = parse_ip(address)?;
        let length: u8 = length.parse().ok()?;
        let width = if mapped { 128 } else { 32 };
        if length > width {
            return None;
        }
        // A prefix of an IPv4-mapped address counts from the IPv4 part.
        let length = if mapped && address.is_ipv4() {
            length.checked_sub(96)?
        } else {
            length
        };
        Some(Self { address, length })
    }

    fn masked(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }

    fn canonical(&self) -> String {
        format!("{}/{}", self.masked(), self.length)
    }
}

/// A canonical range (`192.168.1.0/24`, no bits beyond the prefix): the rule for new fields.
pub fn cidr(value: &str) -> Vec<String> {
    let problems = cidr_legacy(value);
    match Range::parse(value) {
        Some(range) if problems.is_empty() && range.canonical() != value => {
            vec![format!(
                "must be in canonical form ({})",
                quote(&range.canonical())
            )]
        }
        _ => problems,
    }
}

/// A range, canonical or not: the rule for old fields.
pub fn cidr_legacy(value: &str) -> Vec<String> {
    let Some(range) = Range::parse(value) else {
        return vec![CIDR_MESSAGE.into()];
    };
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let zeros = length.len() > 1 && length.starts_with('0');
    let problem = match address.parse::<IpAddr>() {
        Ok(_) if zeros => "must not have leading 0s in IP or prefix length",
        Err(_) => "must not have leading 0s in IP or prefix length",
        Ok(strict) if is_mapped(strict) => "must not have an IPv4-mapped IPv6 address",
        Ok(strict) if strict != range.masked() => "must not have bits set beyond the prefix length",
        Ok(_) => return Vec::new(),
    };
    vec![problem.into()]
}

/// Warnings for a range that [`cidr_legacy`] or old data let pass, each with its field.
pub fn cidr_warnings(field: &str, value: &str) -> Vec<String> {
    let Some(range) = Range::parse(value) else {
        return Vec::new();
    };
    let (quoted, canonical) = (quote(value), quote(&range.canonical()));
    let mut warnings = Vec::new();
    if range.address != range.masked() {
        let width = if range.address.is_ipv4() { 32 } else { 128 };
        let single = quote(&format!("{}/{width}", range.address));
        warnings.push(format!(
            "{field}: CIDR value {quoted} is ambiguous in this context (should be {canonical} or {single}?)"
        ));
    }
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let strict = address
        .parse::<IpAddr>()
        .ok()
        .filter(|_| length.len() == 1 || !length.starts_with('0'));
    match strict {
        Some(strict) if !is_mapped(strict) => {
            let written = format!("{strict}/{length}");
            if warnings.is_empty() && strict.is_ipv6() && written != value {
                warnings.push(format!(
                    "{field}: IPv6 CIDR value {quoted} should be in RFC 5952 canonical format ({})",
                    quote(&written)
                ));
            }
        }
        _ => warnings.push(format!(
            "{field}: non-standard CIDR value {quoted} is invalid: use {canonical}"
        )),
    }
    warnings
}

/// A canonical address with its range's length (`192.168.1.5/24`).
pub fn interface_address(value: &str) -> Vec<String> {
    let Some(range) = Range::parse(value) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let canonical = format!("{}/{}", range.address, range.length);
    unless(value == canonical, || {
        format!("must be in canonical form ({})", quote(&canonical))
    })
}
