//! Netlink's bytes: messages and attributes, written and read (`netlink(7)`).
//!
//! Every family of messages (routes, packet rules, connection tracking) is written with [`Writer`]
//! and read with [`messages`] and [`attributes`]. Reading never trusts a length: what does not fit
//! ends the iteration.

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are not flags.
const TYPE_MASK: u16 = 0x3fff;

/// Messages in the making, one behind the other, ready to be sent in one call.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where the message that is being written starts.
    start: usize,
    count: u32,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Writer::default()
    }

    /// Starts a message; the one before must have ended. Its sequence number is its index.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16) {
        self.start = self.bytes.len();
        self.raw(&0u32.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        self.raw(&flags.to_ne_bytes());
        self.raw(&self.count.to_ne_bytes());
        self.raw(&0u32.to_ne_bytes());
        self.count += 1;
    }

    /// Ends a message by setting its length.
    pub(crate) fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).expect("a message is below 4 GiB");
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The length of all messages so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes without an attribute's header: a family's fixed header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("an attribute is below 64 KiB");
        self.raw(&length.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        self.raw(value);
        self.pad();
    }

    /// A text with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(value.len() + 5).expect("an attribute is below 64 KiB");
        self.raw(&length.to_ne_bytes());
        self.raw(&kind.to_ne_bytes());
        self.raw(value.as_bytes());
        self.raw(&[0]);
        self.pad();
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Network byte order, which is how nfnetlink writes all its numbers.
    pub(crate) fn u32_be(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn u64_be(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.raw(&0u16.to_ne_bytes());
        self.raw(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute is below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One message as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of one datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = number_at(bytes, 0)? as usize;
        let kind_and_flags = bytes.get(4..8)?;
        let sequence = number_at(bytes, 8)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([kind_and_flags[0], kind_and_flags[1]]),
            flags: u16::from_ne_bytes([kind_and_flags[2], kind_and_flags[3]]),
            sequence,
            body,
        })
    })
}

/// The attributes in a message behind its fixed header, or in a nested attribute: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(other, _)| *other == kind).map(|(_, value)| value)
}

/// A number in the machine's byte order.
pub(crate) fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A text that may end in a zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Leaf(u16, Vec<u8>),
        Branch(u16, Vec<Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf =
            (1..TYPE_MASK, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(k, v)| Tree::Leaf(k, v));
        leaf.prop_recursive(4, 32, 5, |inner| {
            (1..TYPE_MASK, proptest::collection::vec(inner, 0..5)).prop_map(|(k, v)| Tree::Branch(k, v))
        })
    }

    fn write(writer: &mut Writer, trees: &[Tree]) {
        for tree in trees {
            match tree {
                Tree::Leaf(kind, value) => writer.put(*kind, value),
                Tree::Branch(kind, inner) => writer.nest(*kind, |writer| write(writer, inner)),
            }
        }
    }

    fn read(bytes: &[u8], shape: &[Tree]) -> Vec<Tree> {
        let read_one = |((kind, value), tree): ((u16, &[u8]), &Tree)| match tree {
            Tree::Leaf(..) => Tree::Leaf(kind, value.to_vec()),
            Tree::Branch(_, inner) => Tree::Branch(kind, read(value, inner)),
        };
        attributes(bytes).zip(shape).map(read_one).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bodies in proptest::collection::vec(proptest::collection::vec(tree(), 0..6), 1..5)) {
            let mut writer = Writer::new();
            for body in &bodies {
                writer.begin(7, 5);
                write(&mut writer, body);
                writer.end();
            }
            let found: Vec<_> = messages(writer.bytes()).collect();
            prop_assert_eq!(found.len(), bodies.len());
            for (index, (message, body)) in found.iter().zip(&bodies).enumerate() {
                prop_assert_eq!((message.kind, message.flags, message.sequence), (7, 5, index as u32));
                prop_assert_eq!(&read(message.body, body), body);
                prop_assert_eq!(attributes(message.body).count(), body.len());
            }
        }

        #[test]
        fn garbage_ends_the_reading(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }
}
