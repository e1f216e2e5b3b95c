//! Version 2 in the protobuf encoding of gnostic (`openapiv2/OpenAPIv2.proto`), which older clients
//! insist on.
//!
//! The encoder walks the JSON document: one function per message, which names the fields that our
//! documents have. Extensions and free values travel as YAML text, of which JSON is a part.

use serde_json::{Map, Value};

/// The whole document.
pub(super) fn document(value: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &value["swagger"]);
    out.message(2, info(&value["info"]));
    out.message(8, named(&value["paths"], 2, path_item));
    out.message(9, named(&value["definitions"], 1, schema));
    out.messages(12, &value["security"], |one| {
        named(one, 1, |scopes| Message::default().with_texts(1, scopes))
    });
    out.message(13, named(&value["securityDefinitions"], 1, security_definition));
    out.bytes
}

/// A message under construction.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A field of wire type 2: its number, its length, its bytes.
    fn field(&mut self, number: u64, content: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    fn text(&mut self, number: u64, value: &Value) {
        if let Some(text) = value.as_str() {
            self.field(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, value: &Value) {
        for text in value.as_array().into_iter().flatten() {
            self.text(number, text);
        }
    }

    fn with_texts(mut self, number: u64, value: &Value) -> Self {
        self.texts(number, value);
        self
    }

    fn flag(&mut self, number: u64, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, number: u64, message: Message) {
        self.field(number, &message.bytes);
    }

    fn messages(&mut self, number: u64, value: &Value, encode: impl Fn(&Value) -> Message) {
        for one in value.as_array().into_iter().flatten() {
            self.message(number, encode(one));
        }
    }

    /// A message that only stands where its JSON does.
    fn optional(&mut self, number: u64, value: &Value, encode: impl Fn(&Value) -> Message) {
        if !value.is_null() {
            self.message(number, encode(value));
        }
    }

    fn extensions(&mut self, number: u64, value: &Value) {
        let entries = value.as_object().into_iter().flatten();
        for (name, value) in entries.filter(|(name, _)| name.starts_with("x-")) {
            self.message(number, named_entry(name, any(value)));
        }
    }
}

/// A map of names to messages, repeated in field `number`.
fn named(value: &Value, number: u64, encode: impl Fn(&Value) -> Message) -> Message {
    let mut out = Message::default();
    for (name, value) in value.as_object().into_iter().flat_map(Map::iter) {
        out.message(number, named_entry(name, encode(value)));
    }
    out
}

fn named_entry(name: &str, value: Message) -> Message {
    let mut entry = Message::default();
    entry.field(1, name.as_bytes());
    entry.message(2, value);
    entry
}

/// A message that holds another one in its field `number`, as the schema's alternatives do.
fn wrapped(number: u64, inner: Message) -> Message {
    let mut out = Message::default();
    out.message(number, inner);
    out
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.field(2, value.to_string().as_bytes());
    out
}

fn info(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["title"]);
    out.text(2, &value["version"]);
    out
}

fn security_definition(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["type"]);
    out.text(2, &value["name"]);
    out.text(3, &value["in"]);
    out.text(4, &value["description"]);
    wrapped(2, out)
}

fn path_item(value: &Value) -> Message {
    let mut out = Message::default();
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        out.optional(number, &value[method], operation);
    }
    out.messages(9, &value["parameters"], parameter);
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &value["tags"]);
    out.text(3, &value["description"]);
    out.text(5, &value["operationId"]);
    out.texts(6, &value["produces"]);
    out.texts(7, &value["consumes"]);
    out.messages(8, &value["parameters"], parameter);
    out.message(9, named(&value["responses"], 1, |one| wrapped(1, response(one))));
    out.texts(10, &value["schemes"]);
    out.extensions(13, value);
    out
}

fn parameter(value: &Value) -> Message {
    let mut out = Message::default();
    let alternative = if value["in"] == "body" {
        out.text(1, &value["description"]);
        out.text(2, &value["name"]);
        out.text(3, &value["in"]);
        out.flag(4, &value["required"]);
        out.optional(5, &value["schema"], schema);
        wrapped(1, out)
    } else {
        let in_path = value["in"] == "path";
        out.flag(1, &value["required"]);
        out.text(2, &value["in"]);
        out.text(3, &value["description"]);
        out.text(4, &value["name"]);
        out.text(if in_path { 5 } else { 6 }, &value["type"]);
        out.flag(if in_path { 19 } else { 20 }, &value["uniqueItems"]);
        wrapped(2, wrapped(if in_path { 4 } else { 3 }, out))
    };
    wrapped(1, alternative)
}

fn response(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["description"]);
    out.optional(2, &value["schema"], |one| wrapped(1, schema(one)));
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["$ref"]);
    out.text(2, &value["format"]);
    out.text(4, &value["description"]);
    out.optional(5, &value["default"], any);
    out.texts(19, &value["required"]);
    out.messages(20, &value["enum"], any);
    out.optional(21, &value["additionalProperties"], |one| wrapped(1, schema(one)));
    if let Some(name) = value["type"].as_str() {
        out.message(22, Message::default().with_texts(1, &Value::from(vec![name])));
    }
    out.optional(23, &value["items"], |one| wrapped(1, schema(one)));
    out.optional(25, &value["properties"], |one| named(one, 1, schema));
    out.extensions(31, value);
    out
}
