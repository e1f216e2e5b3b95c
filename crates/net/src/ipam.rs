//! Addresses of a node's pods: a pure allocator over one range.
//!
//! The network address, the gateway (the first host address) and, for IPv4, the broadcast address
//! are never given out. A released address goes to the back of the queue: it is given out again
//! only when no address is left that was never used, and then the one released longest ago, so that
//! peers which remember an address meet its old owner's refusal rather than a stranger.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses of one range: which are taken, and which comes next.
#[derive(Clone, Debug)]
pub struct Ipam {
    cidr: IpNet,
    /// Offsets from the network address of the first and last address that may be given out.
    first: u128,
    last: u128,
    /// Every offset below was used at some time.
    next: u128,
    /// Offsets that are taken or were so at some time.
    used: BTreeSet<u128>,
    taken: BTreeSet<u128>,
    /// Offsets that were used and are free, least recently released first.
    released: VecDeque<u128>,
}

/// Why an address could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("no free address in {0}")]
    Exhausted(IpNet),
    #[error("address {address} is not one for pods of {cidr}")]
    Outside { address: IpAddr, cidr: IpNet },
    #[error("address {0} is taken")]
    Taken(IpAddr),
    #[error("range {0} has no room for a pod")]
    TooSmall(IpNet),
}

impl Ipam {
    /// An allocator with every address of the range free.
    pub fn new(cidr: IpNet) -> Result<Self, IpamError> {
        let host_bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
        // The offset of the range's last address; a whole IPv6 space would overflow the shift.
        let end = if host_bits >= 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
        let last = match cidr {
            IpNet::V4(_) => end.saturating_sub(1),
            IpNet::V6(_) => end,
        };
        let first = 2;
        if last < first {
            return Err(IpamError::TooSmall(cidr));
        }
        let (used, taken, released) = (BTreeSet::new(), BTreeSet::new(), VecDeque::new());
        Ok(Ipam { cidr: cidr.trunc(), first, last, next: first, used, taken, released })
    }

    /// The range.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// Takes a free address: one never used, or else the one released longest ago.
    pub fn allocate(&mut self) -> Result<IpAddr, IpamError> {
        while self.next <= self.last {
            let offset = self.next;
            self.next += 1;
            if self.used.insert(offset) {
                self.taken.insert(offset);
                return Ok(self.address(offset));
            }
        }
        let offset = self.released.pop_front().ok_or(IpamError::Exhausted(self.cidr))?;
        self.taken.insert(offset);
        Ok(self.address(offset))
    }

    /// Takes a given address, as one in use by an adopted pod.
    pub fn reserve(&mut self, address: IpAddr) -> Result<(), IpamError> {
        let offset = self.offset(address)?;
        if !self.taken.insert(offset) {
            return Err(IpamError::Taken(address));
        }
        self.used.insert(offset);
        self.released.retain(|released| *released != offset);
        Ok(())
    }

    /// Gives an address back. Returns whether it was taken.
    pub fn release(&mut self, address: IpAddr) -> bool {
        let Ok(offset) = self.offset(address) else { return false };
        if !self.taken.remove(&offset) {
            return false;
        }
        self.released.push_back(offset);
        true
    }

    /// Whether an address is taken.
    pub fn is_taken(&self, address: IpAddr) -> bool {
        self.offset(address).is_ok_and(|offset| self.taken.contains(&offset))
    }

    /// How many addresses are taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    fn offset(&self, address: IpAddr) -> Result<u128, IpamError> {
        let offset = match (self.cidr, address) {
            (IpNet::V4(cidr), IpAddr::V4(address)) if cidr.contains(&address) => {
                u128::from(u32::from(address) - u32::from(cidr.network()))
            }
            (IpNet::V6(cidr), IpAddr::V6(address)) if cidr.contains(&address) => {
                u128::from(address) - u128::from(cidr.network())
            }
            (IpNet::V4(_) | IpNet::V6(_), _) => return Err(IpamError::Outside { address, cidr: self.cidr }),
        };
        if offset < self.first || offset > self.last {
            return Err(IpamError::Outside { address, cidr: self.cidr });
        }
        Ok(offset)
    }

    fn address(&self, offset: u128) -> IpAddr {
        match self.cidr {
            IpNet::V4(cidr) => {
                let offset = u32::try_from(offset).expect("offsets stay inside the range");
                IpAddr::V4((u32::from(cidr.network()) + offset).into())
            }
            IpNet::V6(cidr) => IpAddr::V6((u128::from(cidr.network()) + offset).into()),
        }
    }
}

#[cfg(test)]
mod tests;
