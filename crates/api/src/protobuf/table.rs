//! Reads the compiled-in table of messages.
//!
//! The format, line by line: `#` begins a comment, `@package version` opens a package, `:Name` a
//! message in it (`:Name|` one whose JSON is the value of its second field or else of its first),
//! and a line that begins with a space is a field of that message: `number name type`. After the
//! name, `?` says that a field's absence differs from its zero, `!` that it stands in the JSON also
//! when it is empty, `~` that it does not although it is a message. The name `^` is a message whose
//! fields stand in the JSON of the one around it.
//!
//! A type is one of `s` string, `y` bytes, `b` boolean, `i` int32, `l` int64, `d` double, `t` Time,
//! `u` MicroTime, `q` Quantity, `?` IntOrString, `*` free JSON, `.Name` of the same package, or a
//! full name. Before it may stand `[` repeated, `&` repeated inside a message of its own, `{` map
//! from strings, `{&` map to such messages.
//!
//! Fields are sorted by number. The table is written by `xtask/schema-generator/protobuf`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Index of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId(u16);

pub(super) struct Message {
    pub name: &'static str,
    pub is_union: bool,
    first: u16,
    count: u16,
    /// Its fields and those of messages that stand in its JSON, as indices, in the order of the wire.
    flat: Vec<u16>,
    /// Positions in `flat` in the order of the fields' names.
    by_name: Vec<u16>,
}

pub(super) struct Field {
    pub number: u32,
    /// Empty for a message whose fields stand in the outer one's JSON.
    pub name: &'static str,
    pub is_pointer: bool,
    /// In the JSON also when empty.
    pub always: bool,
    /// Not in the JSON when zero, although it is a message.
    pub omit_zero: bool,
    pub shape: Shape,
    pub of: Of,
    /// What is on the wire when it is not in the JSON.
    absent: OnceLock<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Repeated,
    /// A message whose field 1 repeats.
    Wrapped,
    Map,
    MapOfWrapped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    String,
    Bytes,
    Boolean,
    Int32,
    Int64,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// A message whose field 1 is JSON text.
    Json,
    Message(MessageId),
}

pub(super) struct Table {
    messages: Vec<Message>,
    fields: Vec<Field>,
    /// By `apiVersion`, then by kind.
    kinds: HashMap<&'static str, HashMap<&'static str, MessageId>>,
}

impl Table {
    pub(super) fn builtin() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| {
            parse(include_str!("../../schema/protobuf.txt"))
                .expect("the compiled-in table is well formed (tested)")
        })
    }

    /// The message of a kind. Options and `Status` are spoken in every version.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<MessageId> {
        let in_version = |version: &str| self.kinds.get(version)?.get(kind).copied();
        in_version(api_version).or_else(|| match kind {
            "CreateOptions" | "DeleteOptions" | "PatchOptions" | "UpdateOptions" | "Status" => {
                in_version("v1")
            }
            "PartialObjectMetadata" if api_version.starts_with("meta.k8s.io/") => in_version("v1"),
            _ => None,
        })
    }

    pub(super) fn message(&self, id: MessageId) -> &Message {
        &self.messages[usize::from(id.0)]
    }

    /// Sorted by number.
    pub(super) fn fields(&self, id: MessageId) -> &[Field] {
        let message = self.message(id);
        &self.fields[usize::from(message.first)..][..usize::from(message.count)]
    }

    fn flatten(&self, id: MessageId, flat: &mut Vec<u16>) {
        for (at, field) in self.fields(id).iter().enumerate() {
            match field.of {
                Of::Message(inner) if field.name.is_empty() => self.flatten(inner, flat),
                _ => flat.push(self.message(id).first + at as u16),
            }
        }
    }

    /// The fields that stand in a message's JSON, for [`Table::field`].
    pub(super) fn flat(&self, id: MessageId) -> &[u16] {
        &self.message(id).flat
    }

    pub(super) fn field(&self, index: u16) -> &Field {
        &self.fields[usize::from(index)]
    }

    /// Where a name stands in [`Table::flat`].
    pub(super) fn flat_index(&self, id: MessageId, name: &str) -> Option<usize> {
        let Message { flat, by_name, .. } = self.message(id);
        let name_at = |position: &u16| self.fields[usize::from(flat[usize::from(*position)])].name;
        let at = by_name.binary_search_by(|position| name_at(position).cmp(name)).ok()?;
        Some(usize::from(by_name[at]))
    }

    /// What is on the wire for a field that is not in the JSON.
    pub(super) fn absent<'f>(&self, field: &'f Field) -> &'f [u8] {
        field.absent.get_or_init(|| {
            let mut out = Vec::new();
            // Null is of every type.
            let written = super::encode::field(self, MessageId(0), field, &serde_json::Value::Null, &mut out);
            debug_assert!(written.is_ok());
            out.into()
        })
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, MessageId)> {
        self.kinds.iter().flat_map(|(version, kinds)| kinds.iter().map(|(kind, id)| (*version, *kind, *id)))
    }
}

/// The 1-based number of the line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine(pub usize);

pub(super) fn parse(text: &'static str) -> Result<Table, BadLine> {
    let mut table = Table { messages: Vec::new(), fields: Vec::new(), kinds: HashMap::new() };
    let numbers = number_messages(text);
    let (mut package, mut version) = ("", "");
    for (at, line) in text.lines().enumerate() {
        let bad = || BadLine(at + 1);
        if let Some(rest) = line.strip_prefix('@') {
            (package, version) = rest.split_once(' ').ok_or_else(bad)?;
        } else if let Some(name) = line.strip_prefix(':') {
            let id = MessageId(table.messages.len() as u16);
            let first = u16::try_from(table.fields.len()).map_err(|_| bad())?;
            let (name, is_union) = name.strip_suffix('|').map_or((name, false), |name| (name, true));
            table.messages.push(Message {
                name,
                is_union,
                first,
                count: 0,
                flat: Vec::new(),
                by_name: Vec::new(),
            });
            table.kinds.entry(version).or_default().insert(name, id);
        } else if let Some(rest) = line.strip_prefix(' ') {
            let field = field(&numbers, package, rest).ok_or_else(bad)?;
            let message = table.messages.last_mut().ok_or_else(bad)?;
            let fields = &table.fields[usize::from(message.first)..];
            if fields.last().is_some_and(|before| before.number >= field.number) {
                return Err(bad());
            }
            message.count += 1;
            table.fields.push(field);
        } else if !line.starts_with('#') {
            return Err(bad());
        }
    }
    for at in 0..table.messages.len() {
        let mut flat = Vec::new();
        table.flatten(MessageId(at as u16), &mut flat);
        let name = |position: &u16| table.fields[usize::from(flat[usize::from(*position)])].name;
        let mut by_name: Vec<u16> = (0..flat.len() as u16).collect();
        by_name.sort_by_key(name);
        (table.messages[at].flat, table.messages[at].by_name) = (flat, by_name);
    }
    Ok(table)
}

/// Messages may be used before they are defined.
fn number_messages(text: &'static str) -> HashMap<(&'static str, &'static str), MessageId> {
    let mut numbers = HashMap::new();
    let mut package = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('@') {
            package = rest.split(' ').next().unwrap_or_default();
        } else if let Some(name) = line.strip_prefix(':') {
            let id = MessageId(numbers.len() as u16);
            numbers.insert((package, name.trim_end_matches('|')), id);
        }
    }
    numbers
}

fn field(
    numbers: &HashMap<(&'static str, &'static str), MessageId>,
    package: &'static str,
    line: &'static str,
) -> Option<Field> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let marked = words.next()?;
    let kind = words.next()?;
    let name = marked.trim_end_matches(['?', '!', '~', '^']);
    let marks = &marked[name.len()..];
    let at = kind.find(|c| !matches!(c, '[' | '{' | '&'))?;
    let (nesting, of) = kind.split_at(at);
    let shape = match nesting {
        "" => Shape::Single,
        "[" => Shape::Repeated,
        "&" => Shape::Wrapped,
        "{" => Shape::Map,
        "{&" => Shape::MapOfWrapped,
        _ => return None,
    };
    let of = match of {
        "s" => Of::String,
        "y" => Of::Bytes,
        "b" => Of::Boolean,
        "i" => Of::Int32,
        "l" => Of::Int64,
        "d" => Of::Double,
        "t" => Of::Time,
        "u" => Of::MicroTime,
        "q" => Of::Quantity,
        "?" => Of::IntOrString,
        "*" => Of::Json,
        name => {
            let (of, name) = name.rsplit_once('.')?;
            let package = if of.is_empty() { package } else { of };
            Of::Message(*numbers.get(&(package, name))?)
        }
    };
    let inlined = marks == "^";
    if inlined && !(shape == Shape::Single && matches!(of, Of::Message(_))) {
        return None;
    }
    Some(Field {
        number,
        name,
        is_pointer: marks.contains('?'),
        always: marks.contains('!'),
        omit_zero: marks.contains('~'),
        shape,
        of,
        absent: OnceLock::new(),
    })
}
