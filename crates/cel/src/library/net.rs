//! Kubernetes' IP addresses and CIDRs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Library, invalid, no_overload, text};
use crate::eval::EvalError;
use crate::value::{Opaque, Value};

/// An address without a zone and without IPv4 inside IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip(IpAddr);

/// An address with a prefix length; host bits are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

pub const LIBRARY: Library = &[
    (&["ip(string) -> net.IP", "net.CIDR~ip() -> net.IP"], |_, args| match args {
        [Value::Opaque(Opaque::Cidr(cidr))] => Ok(ip_value(cidr.address)),
        _ => Ok(ip_value(parse_ip(text(args, 0)?)?)),
    }),
    (&["isIP(string) -> bool"], |_, args| Ok(Value::Bool(parse_ip(text(args, 0)?).is_ok()))),
    (&["ip.isCanonical(string) -> bool"], |_, args| {
        let ip = parse_ip(text(args, 0)?)?;
        Ok(Value::Bool(ip.to_string() == text(args, 0)?))
    }),
    (&["net.IP~family() -> int"], |_, args| Ok(Value::Int(if ip(args, 0)?.is_ipv4() { 4 } else { 6 }))),
    (&["net.IP~isUnspecified() -> bool"], |_, args| Ok(Value::Bool(ip(args, 0)?.is_unspecified()))),
    (&["net.IP~isLoopback() -> bool"], |_, args| Ok(Value::Bool(ip(args, 0)?.is_loopback()))),
    (&["net.IP~isLinkLocalMulticast() -> bool"], |_, args| {
        Ok(Value::Bool(match ip(args, 0)? {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        }))
    }),
    (&["net.IP~isLinkLocalUnicast() -> bool"], |_, args| {
        Ok(Value::Bool(match ip(args, 0)? {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }))
    }),
    (&["net.IP~isGlobalUnicast() -> bool"], |_, args| {
        Ok(Value::Bool(match ip(args, 0)? {
            IpAddr::V4(ip) => {
                !(ip.is_unspecified()
                    || ip.is_broadcast()
                    || ip.is_loopback()
                    || ip.is_multicast()
                    || ip.is_link_local())
            }
            IpAddr::V6(ip) => {
                !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local())
            }
        }))
    }),
    (&["cidr(string) -> net.CIDR"], |_, args| Ok(Value::Opaque(Opaque::Cidr(parse_cidr(text(args, 0)?)?)))),
    (&["isCIDR(string) -> bool"], |_, args| Ok(Value::Bool(parse_cidr(text(args, 0)?).is_ok()))),
    (&["net.CIDR~containsIP(net.IP) -> bool", "net.CIDR~containsIP(string) -> bool"], |_, args| {
        let other = match args.get(1) {
            Some(Value::String(text)) => parse_ip(text)?,
            _ => ip(args, 1)?,
        };
        let cidr = cidr(args, 0)?;
        Ok(Value::Bool(masked(other, cidr.length) == Some(cidr.network())))
    }),
    (&["net.CIDR~containsCIDR(net.CIDR) -> bool", "net.CIDR~containsCIDR(string) -> bool"], |_, args| {
        let other = match args.get(1) {
            Some(Value::String(text)) => parse_cidr(text)?,
            _ => cidr(args, 1)?,
        };
        let cidr = cidr(args, 0)?;
        let inside = cidr.length <= other.length
            && cidr.address.is_ipv4() == other.address.is_ipv4()
            && masked(other.address, cidr.length) == Some(cidr.network());
        Ok(Value::Bool(inside))
    }),
    (&["net.CIDR~masked() -> net.CIDR"], |_, args| {
        let cidr = cidr(args, 0)?;
        Ok(Value::Opaque(Opaque::Cidr(Cidr { address: cidr.network(), ..cidr })))
    }),
    (&["net.CIDR~prefixLength() -> int"], |_, args| Ok(Value::Int(i64::from(cidr(args, 0)?.length)))),
];

fn ip_value<'a>(ip: IpAddr) -> Value<'a> {
    Value::Opaque(Opaque::Ip(Ip(ip)))
}

fn ip(args: &[Value<'_>], at: usize) -> Result<IpAddr, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Ip(ip))) => Ok(ip.0),
        _ => no_overload().map(|_| IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    }
}

fn cidr(args: &[Value<'_>], at: usize) -> Result<Cidr, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Cidr(cidr))) => Ok(*cidr),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let ip: IpAddr = text.parse().map_err(|_| {
        invalid(format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"))
    })?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(invalid(format!("IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        ip => Ok(ip),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let fault = || {
        invalid(format!(
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix({text:?}): no '/'"
        ))
    };
    let (address, length) = text.split_once('/').ok_or_else(fault)?;
    let address = parse_ip(address)?;
    let plain = !length.is_empty()
        && length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let length: u8 = length.parse().ok().filter(|_| plain).ok_or_else(fault)?;
    if length > width(address) {
        return Err(fault());
    }
    Ok(Cidr { address, length })
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(u32::from(length))?).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(u32::from(length))?).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    })
}

impl Cidr {
    fn network(&self) -> IpAddr {
        masked(self.address, self.length).unwrap_or(self.address)
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}
