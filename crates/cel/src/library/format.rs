//! Kubernetes' named formats: `format.dns1123Label().validate(x)`.

use jiff::Timestamp;
use jiff::civil::Date;
use sampan_api::names;

use super::{Library, no_overload, text};
use crate::eval::Outcome;
use crate::value::{Opaque, Value};

const NAMES: [&str; 15] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
    "duration",
    "email",
];

pub const LIBRARY: Library = &[
    (&["format.named(string) -> optional(kubernetes.NamedFormat)"], |_, args| {
        let wanted = text(args, 0)?;
        let found = NAMES.into_iter().find(|name| *name == wanted);
        Ok(Value::Optional(found.map(|name| Value::Opaque(Opaque::Format(name)).into())))
    }),
    (&["format.dns1123Label() -> kubernetes.NamedFormat"], |_, _| named("dns1123Label")),
    (&["format.dns1123Subdomain() -> kubernetes.NamedFormat"], |_, _| named("dns1123Subdomain")),
    (&["format.dns1035Label() -> kubernetes.NamedFormat"], |_, _| named("dns1035Label")),
    (&["format.qualifiedName() -> kubernetes.NamedFormat"], |_, _| named("qualifiedName")),
    (&["format.dns1123LabelPrefix() -> kubernetes.NamedFormat"], |_, _| named("dns1123LabelPrefix")),
    (&["format.dns1123SubdomainPrefix() -> kubernetes.NamedFormat"], |_, _| named("dns1123SubdomainPrefix")),
    (&["format.dns1035LabelPrefix() -> kubernetes.NamedFormat"], |_, _| named("dns1035LabelPrefix")),
    (&["format.labelValue() -> kubernetes.NamedFormat"], |_, _| named("labelValue")),
    (&["format.uri() -> kubernetes.NamedFormat"], |_, _| named("uri")),
    (&["format.uuid() -> kubernetes.NamedFormat"], |_, _| named("uuid")),
    (&["format.byte() -> kubernetes.NamedFormat"], |_, _| named("byte")),
    (&["format.date() -> kubernetes.NamedFormat"], |_, _| named("date")),
    (&["format.datetime() -> kubernetes.NamedFormat"], |_, _| named("datetime")),
    (&["kubernetes.NamedFormat~validate(string) -> optional(list(string))"], |_, args| match args {
        [Value::Opaque(Opaque::Format(format)), Value::String(text)] => {
            let faults = faults(format, text);
            if faults.is_empty() {
                return Ok(Value::Optional(None));
            }
            let list = Value::flat_list(faults.into_iter().map(Value::string).collect());
            Ok(Value::Optional(Some(list.into())))
        }
        _ => no_overload(),
    }),
];

fn named<'a>(name: &'static str) -> Outcome<'a> {
    Ok(Value::Opaque(Opaque::Format(name)))
}

fn faults(format: &str, text: &str) -> Vec<String> {
    let told = |result: bool, message: &str| if result { Vec::new() } else { vec![message.to_owned()] };
    // A prefix may end in a dash, since something follows it.
    let prefix = format!("{}a", text.trim_end_matches('-'));
    let prefix = if text.ends_with('-') { prefix.as_str() } else { text };
    match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1035Label" => names::dns1035_label(text),
        "qualifiedName" => names::qualified_name(text),
        "labelValue" => names::label_value(text),
        "dns1123LabelPrefix" => names::dns1123_label(prefix),
        "dns1123SubdomainPrefix" => names::dns1123_subdomain(prefix),
        "dns1035LabelPrefix" => names::dns1035_label(prefix),
        "uuid" => told(is_uuid(text), "does not match the UUID format"),
        "byte" => {
            use base64::Engine as _;
            told(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64")
        }
        "date" => told(text.parse::<Date>().is_ok() && text.len() == 10, "invalid date"),
        "datetime" => told(text.parse::<Timestamp>().is_ok(), "invalid datetime"),
        "duration" => told(super::time::parse_duration(text).is_some(), "invalid duration"),
        "uri" => told(super::url::is_url(text), "invalid URI"),
        "email" => {
            told(text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()), "invalid email")
        }
        _ => Vec::new(),
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
