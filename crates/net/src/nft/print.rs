//! Rulesets as text, close to what the `nft` program prints: for people and for tests.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{
    Comparison, CtKey, Direction, DynsetOperation, Expression, FibAddress, FibResult, LimitUnit, Match,
    MetaKey, NatKind, NumgenKind, PayloadBase, Register, RejectKind, SetReference, Verdict,
};
use super::model::{Chain, ChainKind, Data, Family, Field, Hook, Key, Policy, Ruleset, Set, SetKind, Table};

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| table.fmt(f))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family.name(), self.name)?;
        for (name, set) in &self.sets {
            print_set(f, name, set)?;
        }
        for (name, chain) in &self.chains {
            print_chain(f, name, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn print_set(f: &mut fmt::Formatter<'_>, name: &str, set: &Set) -> fmt::Result {
    let kind = if set.kind == SetKind::Set { "set" } else { "map" };
    write!(f, "  {kind} {name} {{ type {}", type_names(&set.key))?;
    match &set.kind {
        SetKind::Set => {}
        SetKind::VerdictMap => f.write_str(" : verdict")?,
        SetKind::Map(fields) => write!(f, " : {}", type_names(fields))?,
    }
    if set.interval {
        f.write_str(" interval")?;
    }
    if let Some(timeout_ms) = set.timeout_ms {
        write!(f, " timeout {timeout_ms}ms")?;
    }
    writeln!(f, " }}")?;
    set.elements.iter().try_for_each(|(key, data)| writeln!(f, "    {}", element(set, key, data)))
}

fn print_chain(f: &mut fmt::Formatter<'_>, name: &str, chain: &Chain) -> fmt::Result {
    write!(f, "  chain {name}")?;
    if let Some(base) = chain.base {
        let kind = match base.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let hook = match base.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = match base.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, " {{ type {kind} hook {hook} priority {} policy {policy} }}", base.priority)?;
    }
    writeln!(f)?;
    chain
        .rules
        .iter()
        .try_for_each(|rule| writeln!(f, "    {}", Registers::default().rule(&rule.expressions)))
}

/// What the registers hold while a rule is printed: a description, and the value's type.
#[derive(Default)]
struct Registers([Option<(String, Option<Field>)>; 16]);

impl Registers {
    fn rule(mut self, expressions: &[Expression]) -> String {
        let parts = expressions.iter().filter_map(|expression| self.step(expression));
        parts.collect::<Vec<_>>().join(" ")
    }

    fn load(&mut self, to: Register, text: String, field: Option<Field>) -> Option<String> {
        self.0[usize::from(to.0)] = Some((text, field));
        None
    }

    fn text(&self, register: Register) -> String {
        let held = self.0.get(usize::from(register.0)).and_then(Option::as_ref);
        held.map_or_else(|| "?".to_owned(), |(text, _)| text.clone())
    }

    fn data(&self, register: Register, data: &[u8]) -> String {
        let held = self.0.get(usize::from(register.0)).and_then(Option::as_ref);
        show(held.and_then(|(_, field)| *field), data)
    }

    /// The parts of a key, one behind the other.
    fn key(&self, first: Register, fields: &[Field]) -> String {
        let mut at = first.0;
        let parts = fields.iter().map(|field| {
            let part = self.text(Register(at));
            at += (field.padded_length() / 4) as u8;
            part
        });
        parts.collect::<Vec<_>>().join(" . ")
    }

    fn named_key(&self, first: Register) -> String {
        let parts = self.0[usize::from(first.0)..].iter().map_while(Option::as_ref);
        parts.map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(" . ")
    }

    fn lookup(&self, from: Register, set: &SetReference) -> (String, String) {
        match set {
            SetReference::Named(name) => (self.named_key(from), format!("@{name}")),
            SetReference::Anonymous(set) => {
                let elements = set.elements.iter().map(|(key, data)| element(set, key, data));
                let elements = elements.collect::<Vec<_>>().join(", ");
                (self.key(from, &set.key), format!("{{ {elements} }}"))
            }
        }
    }

    /// What an expression adds to the text of its rule: nothing while it only loads.
    fn step(&mut self, expression: &Expression) -> Option<String> {
        match expression {
            Expression::Meta { key, to } => self.load(*to, meta(*key).0.to_owned(), meta(*key).1),
            Expression::MetaSet { key, from } => Some(format!("{} set {}", meta(*key).0, self.text(*from))),
            Expression::Payload { base, offset, length, to } => {
                let (text, field) = payload(*base, *offset, *length);
                self.load(*to, text, field)
            }
            Expression::Ct { key, direction, to } => {
                self.load(*to, ct(*key, *direction), Some(Field::Number))
            }
            Expression::Fib { address, result, to } => {
                self.load(*to, fib(*address, *result), Some(Field::Number))
            }
            Expression::Numgen { kind, modulus, to } => {
                let kind = match kind {
                    NumgenKind::Incremental => "inc",
                    NumgenKind::Random => "random",
                };
                self.load(*to, format!("numgen {kind} mod {modulus}"), Some(Field::Number))
            }
            Expression::Immediate { data, to } => {
                let field = match data.len() {
                    1 => Some(Field::Protocol),
                    2 => Some(Field::Port),
                    4 => Some(Field::Ipv4Address),
                    16 => Some(Field::Ipv6Address),
                    _ => None,
                };
                self.load(*to, show(field, data), field)
            }
            Expression::Bitwise(mask) => {
                let text = self.text(mask.from);
                let field = self.0[usize::from(mask.from.0)].as_ref().and_then(|(_, field)| *field);
                let (and, xor) = (show(field, &mask.mask), show(field, &mask.xor));
                let empty = mask.xor.iter().all(|byte| *byte == 0);
                let text =
                    if empty { format!("{text} & {and}") } else { format!("({text} & {and}) ^ {xor}") };
                self.load(mask.to, text, field)
            }
            Expression::Compare { from, comparison, data } => {
                let sign = comparison_sign(*comparison);
                Some(format!("{} {sign}{}", self.text(*from), self.data(*from, data)))
            }
            Expression::Range { from, matches, first, last } => {
                let not = if *matches == Match::Outside { "!= " } else { "" };
                let (first, last) = (self.data(*from, first), self.data(*from, last));
                Some(format!("{} {not}{first}-{last}", self.text(*from)))
            }
            Expression::Lookup { from, set, matches, to } => {
                let (key, set) = self.lookup(*from, set);
                let not = if *matches == Match::Outside { "!= " } else { "" };
                match to {
                    Some(to) => {
                        self.0[usize::from(to.0)..].fill(None);
                        self.load(*to, format!("{key} map {set}"), None)
                    }
                    None => Some(format!("{key} {not}{set}")),
                }
            }
            Expression::VerdictLookup { from, set } => {
                let (key, set) = self.lookup(*from, set);
                Some(format!("{key} vmap {set}"))
            }
            Expression::Nat { kind, family, address, port } => {
                let kind = match kind {
                    NatKind::Source => "snat",
                    NatKind::Destination => "dnat",
                };
                let port = port.map(|port| self.text(port)).filter(|port| port != "?");
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                Some(format!("{kind} {} to {}{port}", family.name(), self.text(*address)))
            }
            Expression::Dynset { operation, set, key, timeout_ms } => {
                let operation = match operation {
                    DynsetOperation::Add => "add",
                    DynsetOperation::Update => "update",
                    DynsetOperation::Delete => "delete",
                };
                let timeout = timeout_ms.map(|timeout| format!(" timeout {timeout}ms")).unwrap_or_default();
                Some(format!("{operation} @{set} {{ {}{timeout} }}", self.text(*key)))
            }
            Expression::Redirect { port } => {
                Some(port.map_or("redirect".to_owned(), |port| format!("redirect to :{}", self.text(port))))
            }
            Expression::Verdict(_)
            | Expression::Masquerade { .. }
            | Expression::Reject(_)
            | Expression::Limit { .. }
            | Expression::Notrack
            | Expression::Counter => statement(expression),
        }
    }
}

/// Expressions that use no register.
fn statement(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Verdict(verdict) => Some(show_verdict(verdict)),
        Expression::Masquerade { random } => {
            Some(if *random { "masquerade fully-random" } else { "masquerade" }.to_owned())
        }
        Expression::Reject(RejectKind::TcpReset) => Some("reject with tcp reset".to_owned()),
        Expression::Reject(RejectKind::PortUnreachable(Family::Ipv4)) => {
            Some("reject with icmp port-unreachable".to_owned())
        }
        Expression::Reject(RejectKind::PortUnreachable(Family::Ipv6)) => {
            Some("reject with icmpv6 port-unreachable".to_owned())
        }
        Expression::Limit { rate, unit, burst } => {
            let unit = match unit {
                LimitUnit::Second => "second",
                LimitUnit::Minute => "minute",
                LimitUnit::Hour => "hour",
            };
            Some(format!("limit rate {rate}/{unit} burst {burst} packets"))
        }
        Expression::Notrack => Some("notrack".to_owned()),
        Expression::Counter => Some("counter".to_owned()),
        _ => None,
    }
}

fn meta(key: MetaKey) -> (&'static str, Option<Field>) {
    match key {
        MetaKey::Mark => ("meta mark", Some(Field::Number)),
        MetaKey::InputLinkName => ("iifname", Some(Field::LinkName)),
        MetaKey::OutputLinkName => ("oifname", Some(Field::LinkName)),
        MetaKey::TransportProtocol => ("meta l4proto", Some(Field::Protocol)),
    }
}

fn payload(base: PayloadBase, offset: u32, length: u32) -> (String, Option<Field>) {
    let known = match (base, offset, length) {
        (PayloadBase::Network, 12, 4) => Some(("ip saddr", Field::Ipv4Address)),
        (PayloadBase::Network, 16, 4) => Some(("ip daddr", Field::Ipv4Address)),
        (PayloadBase::Network, 8, 16) => Some(("ip6 saddr", Field::Ipv6Address)),
        (PayloadBase::Network, 24, 16) => Some(("ip6 daddr", Field::Ipv6Address)),
        (PayloadBase::Transport, 0, 2) => Some(("th sport", Field::Port)),
        (PayloadBase::Transport, 2, 2) => Some(("th dport", Field::Port)),
        _ => None,
    };
    match known {
        Some((text, field)) => (text.to_owned(), Some(field)),
        None => {
            let base = if base == PayloadBase::Network { "nh" } else { "th" };
            (format!("@{base},{offset},{length}"), None)
        }
    }
}

fn ct(key: CtKey, direction: Option<Direction>) -> String {
    let key = match key {
        CtKey::State => "state",
        CtKey::Status => "status",
        CtKey::Mark => "mark",
    };
    match direction {
        None => format!("ct {key}"),
        Some(Direction::Original) => format!("ct original {key}"),
        Some(Direction::Reply) => format!("ct reply {key}"),
    }
}

fn fib(address: FibAddress, result: FibResult) -> String {
    let address = match address {
        FibAddress::Source => "saddr",
        FibAddress::Destination => "daddr",
    };
    let result = match result {
        FibResult::AddressType => "type",
        FibResult::LinkIndex => "oif",
    };
    format!("fib {address} {result}")
}

fn comparison_sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "",
        Comparison::NotEqual => "!= ",
        Comparison::Less => "< ",
        Comparison::LessOrEqual => "<= ",
        Comparison::Greater => "> ",
        Comparison::GreaterOrEqual => ">= ",
    }
}

fn type_names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.type_name()).collect::<Vec<_>>().join(" . ")
}

fn element(set: &Set, key: &Key, data: &Data) -> String {
    let key = match key {
        Key::Value(value) => parts(&set.key, value),
        Key::Range(first, last) => format!("{}-{}", parts(&set.key, first), parts(&set.key, last)),
    };
    match (data, &set.kind) {
        (Data::None, _) => key,
        (Data::Verdict(verdict), _) => format!("{key} : {}", show_verdict(verdict)),
        (Data::Value(value), SetKind::Map(fields)) => format!("{key} : {}", parts(fields, value)),
        (Data::Value(value), SetKind::Set | SetKind::VerdictMap) => format!("{key} : {}", show(None, value)),
    }
}

fn parts(fields: &[Field], value: &[u8]) -> String {
    let mut rest = value;
    let parts = fields.iter().map(|field| {
        let (part, behind) = rest.split_at(field.padded_length().min(rest.len()));
        rest = behind;
        show(Some(*field), &part[..field.length().min(part.len())])
    });
    parts.collect::<Vec<_>>().join(" . ")
}

fn show_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn show(field: Option<Field>, data: &[u8]) -> String {
    match (field, data) {
        (Some(Field::Ipv4Address), &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        (Some(Field::Ipv6Address), data) => match <[u8; 16]>::try_from(data) {
            Ok(octets) => Ipv6Addr::from(octets).to_string(),
            Err(_) => format!("{data:02x?}"),
        },
        (Some(Field::Protocol), [6]) => "tcp".to_owned(),
        (Some(Field::Protocol), [17]) => "udp".to_owned(),
        (Some(Field::Protocol), [132]) => "sctp".to_owned(),
        (Some(Field::Port), &[high, low]) => u16::from_be_bytes([high, low]).to_string(),
        (Some(Field::Number), &[a, b, c, d]) => format!("{:#x}", u32::from_ne_bytes([a, b, c, d])),
        (Some(Field::LinkName), data) => {
            let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
            format!("{:?}", String::from_utf8_lossy(&data[..end]))
        }
        (_, data) => format!("{data:02x?}"),
    }
}
