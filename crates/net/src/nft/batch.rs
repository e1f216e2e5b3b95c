//! A transaction: messages in the order in which the kernel can take them, each with the object
//! that it is about, for errors.

use std::fmt;

use super::encode::{self, LIST_ELEMENT, SetNumbers, anonymous_name};
use super::expression::{Expression, SetReference};
use super::model::{
    Chain, ChainKind, Data, Family, Field, Hook, Key, Name, Policy, Rule, Set, SetKind, Table, length,
    type_number,
};
use crate::netlink::wire::{Writer, attribute, text};
use crate::netlink::{APPEND, CREATE, Connection, DUMP, EXCLUSIVE, NetlinkError, REQUEST, Refusal};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_DYNAMIC: u32 = 0x20;
const SET_CONCATENATION: u32 = 0x80;
const VERDICT_TYPE: u32 = 0xffff_ff00;
const ELEMENT_INTERVAL_END: u32 = 0x1;
/// Most elements that packets may add to a set.
const DYNAMIC_LIMIT: u32 = 65_535;
/// For the `nft` program, which shows lone keys in network byte order unless told: a type, a length,
/// and a number.
const KEY_IN_MACHINE_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};
/// Where a list of elements goes on in another message; an attribute's limit is 64 KiB.
const ELEMENTS_BYTES: usize = 32 * 1024;

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Delete,
}

/// An object that a message was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Transaction,
    Table(Name),
    Chain(Name),
    /// A rule's place among those sent for its chain; none for all of a chain's rules.
    Rule {
        chain: Name,
        index: Option<usize>,
    },
    Set(Name),
    Elements(Name),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Transaction => f.write_str("transaction"),
            Object::Table(name) => write!(f, "table {name}"),
            Object::Chain(name) => write!(f, "chain {name}"),
            Object::Rule { chain, index: Some(index) } => write!(f, "rule {index} of chain {chain}"),
            Object::Rule { chain, index: None } => write!(f, "the rules of chain {chain}"),
            Object::Set(name) => write!(f, "set {name}"),
            Object::Elements(name) => write!(f, "elements of set {name}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Add => "add",
            Operation::Delete => "delete",
        })
    }
}

/// Why a transaction was not taken. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the kernel refuses to {operation} {object} ({others} more refusals)")]
    Refused { operation: Operation, object: Object, others: usize, source: Refusal },
}

/// The size of a transaction that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub messages: usize,
    pub bytes: usize,
}

pub(super) struct Batch {
    writer: Writer,
    objects: Vec<(Operation, Object)>,
    sets: SetNumbers,
}

/// A message's type and flags.
type Kind = (u16, u16);

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Batch { writer: Writer::new(), objects: Vec::new(), sets: SetNumbers::default() };
        batch.frame(BATCH_BEGIN);
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.len() <= 1
    }

    fn frame(&mut self, kind: u16) {
        self.objects.push((Operation::Add, Object::Transaction));
        self.writer.begin(kind, REQUEST);
        // Family, version, and the subsystem in network byte order.
        self.writer.raw(&[0, 0, 0, SUBSYSTEM as u8]);
        self.writer.end();
    }

    fn message(
        &mut self,
        family: Family,
        (kind, flags): Kind,
        object: (Operation, Object),
        fill: impl FnOnce(&mut Writer, &mut SetNumbers),
    ) {
        self.objects.push(object);
        self.writer.begin(SUBSYSTEM << 8 | kind, REQUEST | flags);
        self.writer.raw(&[family.number(), 0, 0, 0]);
        fill(&mut self.writer, &mut self.sets);
        self.writer.end();
    }

    /// Ends the transaction and sends it.
    pub(super) fn send(mut self, connection: &mut Connection) -> Result<Sent, NftError> {
        self.frame(BATCH_END);
        let refusals = connection.transact(&self.writer)?;
        let others = refusals.len().saturating_sub(1);
        let Some((index, source)) = refusals.into_iter().next() else {
            return Ok(Sent { messages: self.objects.len(), bytes: self.writer.len() });
        };
        let subject = self.objects.get(index as usize).cloned();
        let (operation, object) = subject.unwrap_or((Operation::Add, Object::Transaction));
        Err(NftError::Refused { operation, object, others, source })
    }

    /// Deletes a table, which need not be there.
    pub(super) fn delete_table(&mut self, family: Family, name: &str) {
        self.table(family, name, NEW_TABLE, CREATE, Operation::Add);
        self.table(family, name, DELETE_TABLE, 0, Operation::Delete);
    }

    /// Puts a table in the place of what has its name.
    pub(super) fn replace_table(&mut self, table: &Table) {
        self.delete_table(table.family, &table.name);
        self.add_table(table);
    }

    pub(super) fn add_table(&mut self, table: &Table) {
        self.table(table.family, &table.name, NEW_TABLE, CREATE, Operation::Add);
        for (name, set) in &table.sets {
            self.add_set(table, name, set);
        }
        for (name, set) in table.sets.iter().filter(|(_, set)| set.elements_first()) {
            self.add_elements(table, name, set, set.elements.iter());
        }
        for (name, chain) in &table.chains {
            self.add_chain(table, name, chain);
        }
        for (name, chain) in &table.chains {
            self.add_rules(table, name, &chain.rules);
        }
        for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements_first()) {
            self.add_elements(table, name, set, set.elements.iter());
        }
    }

    fn table(&mut self, family: Family, name: &str, kind: u16, flags: u16, operation: Operation) {
        let object = (operation, Object::Table(name.into()));
        self.message(family, (kind, flags), object, |writer, _| {
            writer.text(1, name);
            if kind == NEW_TABLE {
                writer.u32_be(2, 0);
            }
        });
    }

    pub(super) fn add_chain(&mut self, table: &Table, name: &Name, chain: &Chain) {
        let object = (Operation::Add, Object::Chain(name.clone()));
        self.message(table.family, (NEW_CHAIN, CREATE | EXCLUSIVE), object, |writer, _| {
            writer.text(1, &table.name);
            writer.text(3, name);
            let Some(base) = chain.base else { return };
            writer.nest(4, |writer| {
                writer.u32_be(1, hook_number(base.hook));
                writer.u32_be(2, base.priority.cast_unsigned());
            });
            writer.u32_be(5, u32::from(base.policy == Policy::Accept));
            writer.text(7, chain_kind(base.kind));
        });
    }

    pub(super) fn delete_chain(&mut self, table: &Table, name: &Name) {
        let object = (Operation::Delete, Object::Chain(name.clone()));
        self.message(table.family, (DELETE_CHAIN, 0), object, |writer, _| {
            writer.text(1, &table.name);
            writer.text(3, name);
        });
    }

    /// Deletes all rules of a chain.
    pub(super) fn flush_chain(&mut self, table: &Table, name: &Name) {
        let object = (Operation::Delete, Object::Rule { chain: name.clone(), index: None });
        self.message(table.family, (DELETE_RULE, 0), object, |writer, _| {
            writer.text(1, &table.name);
            writer.text(2, name);
        });
    }

    pub(super) fn add_rules(&mut self, table: &Table, chain: &Name, rules: &[Rule]) {
        for (index, rule) in rules.iter().enumerate() {
            self.add_anonymous_sets(table, rule);
            let object = (Operation::Add, Object::Rule { chain: chain.clone(), index: Some(index) });
            self.message(table.family, (NEW_RULE, CREATE | APPEND), object, |writer, sets| {
                writer.text(1, &table.name);
                writer.text(2, chain);
                writer.nest(4, |writer| {
                    for expression in &rule.expressions {
                        encode::expression(writer, expression, sets);
                    }
                });
            });
        }
    }

    /// The sets of a rule, with the numbers that the rule's expressions will count.
    fn add_anonymous_sets(&mut self, table: &Table, rule: &Rule) {
        let mut number = self.sets.next;
        for expression in &rule.expressions {
            let reference = match expression {
                Expression::Lookup { set, .. } | Expression::VerdictLookup { set, .. } => set,
                _ => continue,
            };
            let SetReference::Anonymous(set) = reference else { continue };
            number += 1;
            let name: Name = anonymous_name(set).into();
            let flags = SET_ANONYMOUS | SET_CONSTANT;
            self.set(table, &name, set, flags, number);
            self.elements(table, &name, set, Some(number), NEW_ELEMENTS, set.elements.iter());
        }
    }

    pub(super) fn add_set(&mut self, table: &Table, name: &Name, set: &Set) {
        // Named sets have numbers too, which nobody refers to; they count downwards.
        let number = u32::MAX - self.writer.count();
        self.set(table, name, set, 0, number);
    }

    fn set(&mut self, table: &Table, name: &Name, set: &Set, flags: u32, number: u32) {
        let flags = flags | set_flags(set);
        let object = (Operation::Add, Object::Set(name.clone()));
        self.message(table.family, (NEW_SET, CREATE | EXCLUSIVE), object, |writer, _| {
            writer.text(1, &table.name);
            writer.text(2, name);
            writer.u32_be(3, flags);
            writer.u32_be(4, type_number(&set.key));
            writer.u32_be(5, length(&set.key) as u32);
            match &set.kind {
                SetKind::Set => {}
                SetKind::VerdictMap => {
                    writer.u32_be(6, VERDICT_TYPE);
                    writer.u32_be(7, 0);
                }
                SetKind::Map(fields) => {
                    writer.u32_be(6, type_number(fields));
                    writer.u32_be(7, length(fields) as u32);
                }
            }
            writer.nest(9, |writer| describe_set(writer, set, flags));
            writer.u32_be(10, number);
            if let Some(timeout_ms) = set.timeout_ms {
                writer.u64_be(11, timeout_ms);
            }
            if let [Field::Number | Field::LinkName] = set.key.as_slice() {
                writer.put(13, &KEY_IN_MACHINE_ORDER);
            }
        });
    }

    pub(super) fn delete_set(&mut self, table: &Table, name: &Name) {
        let object = (Operation::Delete, Object::Set(name.clone()));
        self.message(table.family, (DELETE_SET, 0), object, |writer, _| {
            writer.text(1, &table.name);
            writer.text(2, name);
        });
    }

    pub(super) fn add_elements<'a>(
        &mut self,
        table: &Table,
        name: &Name,
        set: &Set,
        elements: impl Iterator<Item = (&'a Key, &'a Data)>,
    ) {
        self.elements(table, name, set, None, NEW_ELEMENTS, elements);
    }

    pub(super) fn delete_elements<'a>(
        &mut self,
        table: &Table,
        name: &Name,
        set: &Set,
        elements: impl Iterator<Item = (&'a Key, &'a Data)>,
    ) {
        self.elements(table, name, set, None, DELETE_ELEMENTS, elements);
    }

    /// Elements, in as many messages as their size asks for.
    fn elements<'a>(
        &mut self,
        table: &Table,
        name: &Name,
        set: &Set,
        number: Option<u32>,
        kind: u16,
        elements: impl Iterator<Item = (&'a Key, &'a Data)>,
    ) {
        let (operation, flags) =
            if kind == NEW_ELEMENTS { (Operation::Add, CREATE) } else { (Operation::Delete, 0) };
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let object = (operation, Object::Elements(name.clone()));
            self.message(table.family, (kind, flags), object, |writer, _| {
                writer.text(1, &table.name);
                writer.text(2, name);
                if let Some(number) = number {
                    writer.u32_be(4, number);
                }
                writer.nest(3, |writer| {
                    let start = writer.len();
                    while writer.len() - start < ELEMENTS_BYTES {
                        let Some((key, data)) = elements.next() else { break };
                        element(writer, set, key, data);
                    }
                });
            });
        }
    }
}

fn set_flags(set: &Set) -> u32 {
    let mut flags = 0;
    if set.kind != SetKind::Set {
        flags |= SET_MAP;
    }
    if set.interval {
        flags |= SET_INTERVAL;
        if set.key.len() > 1 {
            flags |= SET_CONCATENATION;
        }
    }
    if set.timeout_ms.is_some() {
        flags |= SET_TIMEOUT | SET_DYNAMIC;
    }
    flags
}

fn describe_set(writer: &mut Writer, set: &Set, flags: u32) {
    if flags & SET_DYNAMIC != 0 {
        writer.u32_be(1, DYNAMIC_LIMIT);
    } else if flags & SET_CONSTANT != 0 && !set.interval {
        // The kernel takes a plain table where it knows the size.
        writer.u32_be(1, set.elements.len() as u32);
    }
    if flags & SET_CONCATENATION != 0 {
        writer.nest(2, |writer| {
            for field in &set.key {
                writer.nest(LIST_ELEMENT, |writer| writer.u32_be(1, field.length() as u32));
            }
        });
    }
}

fn element(writer: &mut Writer, set: &Set, key: &Key, data: &Data) {
    let last = match key {
        Key::Value(_) => None,
        Key::Range(_, last) => Some(last),
    };
    let (Key::Value(first) | Key::Range(first, _)) = key;
    let length = length(&set.key);
    writer.nest(LIST_ELEMENT, |writer| {
        encode::value(writer, 1, &first[..length.min(first.len())]);
        if set.key.len() > 1
            && let Some(last) = last
        {
            encode::value(writer, 10, last);
        }
        encode::data(writer, 2, data);
    });
    // Ranges of a lone value are a pair of elements, the second one behind the last value.
    if let (Some(last), [field]) = (last, set.key.as_slice())
        && let Some(behind) = successor(*field, last)
    {
        writer.nest(LIST_ELEMENT, |writer| {
            encode::value(writer, 1, &behind);
            writer.u32_be(3, ELEMENT_INTERVAL_END);
        });
    }
}

/// The value behind another one; none behind the largest.
fn successor(field: Field, value: &[u8]) -> Option<Vec<u8>> {
    let mut value = value[..field.length().min(value.len())].to_vec();
    for byte in value.iter_mut().rev() {
        let (next, overflow) = byte.overflowing_add(1);
        *byte = next;
        if !overflow {
            return Some(value);
        }
    }
    None
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn chain_kind(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    }
}

/// Whether there is a table of that name for IPv4 or IPv6.
pub(super) fn table_exists(connection: &mut Connection, name: &str) -> Result<bool, NftError> {
    let mut request = Writer::new();
    request.begin(SUBSYSTEM << 8 | GET_TABLE, REQUEST | DUMP);
    request.raw(&[0; 4]);
    request.end();
    let mut exists = false;
    let families = [Family::Ipv4, Family::Ipv6].map(Family::number);
    connection.dump(&request, |message| match message {
        None => exists = false,
        Some(message) => {
            let family = message.body.first().is_some_and(|family| families.contains(family));
            let attributes = message.body.get(4..).unwrap_or_default();
            exists |= family && attribute(attributes, 1).is_some_and(|value| text(value) == name);
        }
    })?;
    Ok(exists)
}
