//! What a name says before it is looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// The most labels that a name of the cluster has before the domain.
const LABELS: usize = 5;

/// The labels before the domain, in lower case, joined by dots, without allocation.
pub struct Relative {
    text: [u8; Name::MAX_LENGTH],
    /// Where each label starts, and where the text ends.
    starts: [u8; LABELS + 1],
    count: usize,
}

/// Where a name below the domain is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place<'a> {
    Apex,
    /// `dns-version`
    Version,
    /// `ns.dns`
    NameServer,
    /// `svc`, `pod`, `dns`
    Parent,
    /// `NAMESPACE.svc`, `NAMESPACE.pod`
    Namespace(&'a [u8]),
    /// `1-2-3-4.NAMESPACE.pod`; no address where the label is none.
    Pod {
        namespace: &'a [u8],
        address: Option<IpAddr>,
    },
    /// `key` is `SERVICE.NAMESPACE`; `below` what stands before it.
    Service {
        key: &'a [u8],
        below: &'a [u8],
    },
    Nowhere,
}

impl Relative {
    /// `None` for names with more or with other labels than any of the cluster's.
    pub fn read(name: &Name, domain_labels: usize) -> Option<Self> {
        let count = usize::from(name.num_labels()).checked_sub(domain_labels)?;
        if count > LABELS {
            return None;
        }
        let mut relative = Relative { text: [0; Name::MAX_LENGTH], starts: [0; LABELS + 1], count };
        let mut at = 0;
        for (number, label) in name.iter().take(count).enumerate() {
            if label.contains(&b'.') {
                return None;
            }
            let place = relative.text.get_mut(at..at + label.len())?;
            place.copy_from_slice(label);
            place.make_ascii_lowercase();
            at += label.len();
            *relative.text.get_mut(at)? = b'.';
            at += 1;
            relative.starts[number + 1] = u8::try_from(at).ok()?;
        }
        Some(relative)
    }

    /// Labels from one to before another, counted from the left, with the dots between them.
    fn labels(&self, from: usize, to: usize) -> &[u8] {
        let (start, end) = (usize::from(self.starts[from]), usize::from(self.starts[to]));
        &self.text[start..end.saturating_sub(1).max(start)]
    }

    pub fn place(&self) -> Place<'_> {
        let label = |number| self.labels(number, number + 1);
        let count = self.count;
        let Some(last) = count.checked_sub(1) else { return Place::Apex };
        match (label(last), count) {
            (b"dns-version", 1) => Place::Version,
            (b"svc" | b"pod" | b"dns", 1) => Place::Parent,
            (b"dns", 2) if label(0) == b"ns" => Place::NameServer,
            (b"svc" | b"pod", 2) => Place::Namespace(label(0)),
            (b"pod", 3) => Place::Pod { namespace: label(1), address: undashed(label(0)) },
            (b"svc", 3..) => {
                Place::Service { key: self.labels(count - 3, count - 1), below: self.labels(0, count - 3) }
            }
            _ => Place::Nowhere,
        }
    }
}

/// The address that a label with dashes names.
fn undashed(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0; 45];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label);
    let dashes = label.iter().filter(|byte| **byte == b'-').count();
    let v4 = dashes == 3 && label.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
    let between = if v4 { b'.' } else { b':' };
    text.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = between);
    let text = std::str::from_utf8(text).ok()?;
    if v4 { text.parse().ok().map(IpAddr::V4) } else { text.parse().ok().map(IpAddr::V6) }
}

/// The whole address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reverse_address(name: &Name) -> Option<IpAddr> {
    let mut labels = name.iter().rev();
    if !labels.next()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let family = labels.next()?;
    let address = if family.eq_ignore_ascii_case(b"in-addr") {
        let mut octets = [0; 4];
        for octet in &mut octets {
            *octet = std::str::from_utf8(labels.next()?).ok()?.parse().ok()?;
        }
        IpAddr::V4(Ipv4Addr::from(octets))
    } else if family.eq_ignore_ascii_case(b"ip6") {
        let mut bits = 0_u128;
        for _ in 0..32 {
            let [digit] = labels.next()? else { return None };
            bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
        }
        IpAddr::V6(Ipv6Addr::from(bits))
    } else {
        return None;
    };
    labels.next().is_none().then_some(address)
}
