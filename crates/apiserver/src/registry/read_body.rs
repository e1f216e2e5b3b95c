//! From the bytes of a request to a value that fits its schema.

use sampan_api::Status;
use sampan_api::custom::{Version, embedded};
use sampan_api::protobuf::{self, ProtobufError};
use sampan_api::schema::{self, Decoded};
use sampan_api::table::ResourceDef;
use serde_json::Value;

use super::repeated_keys::repeated_keys;
use super::{Body, Context, Registry, Resource};

/// The encodings of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Yaml,
    /// `application/vnd.kubernetes.protobuf`, built-in kinds only.
    Protobuf,
}

/// The most bytes of a request body, as in kube-apiserver.
pub const MAX_BODY: usize = 3 << 20;

/// Decodes a body without looking at its type.
pub fn decode_value(body: &Body) -> Result<Decoded, Status> {
    if body.bytes.len() > MAX_BODY {
        return Err(Status::too_large(MAX_BODY));
    }
    match body.format {
        BodyFormat::Json => {
            schema::decode(&body.bytes, MAX_BODY).map_err(|error| Status::bad_request(error.to_string()))
        }
        BodyFormat::Protobuf => {
            let limits = protobuf::Limits { bytes: MAX_BODY, ..protobuf::Limits::default() };
            match protobuf::decode(&body.bytes, None, &limits) {
                Ok((_, _, value)) => Ok(Decoded { value, duplicates: Vec::new() }),
                Err(ProtobufError::TooLarge { limit }) => Err(Status::too_large(limit)),
                // Custom resources have no protobuf form.
                Err(ProtobufError::Unregistered { .. }) => {
                    Err(Status::unsupported_media_type("application/json, application/yaml"))
                }
                Err(error) => Err(Status::bad_request(error.to_string())),
            }
        }
        BodyFormat::Yaml => {
            let value: Value = yaml_serde::from_slice(&body.bytes)
                .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
            let json = serde_json::to_vec(&value).map_err(Status::internal)?;
            schema::decode(&json, 2 * MAX_BODY).map_err(|error| Status::bad_request(error.to_string()))
        }
    }
}

/// Decodes a configuration to apply: YAML, of which JSON is a part that most clients send. Beside the
/// value stand the keys that are given more than once.
pub fn decode_applied(body: &Body) -> Result<(Value, Vec<String>), Status> {
    let is_json = body.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_json
        && let Ok(decoded) = decode_value(&Body { format: BodyFormat::Json, ..body.clone() })
        && decoded.duplicates.is_empty()
    {
        return Ok((decoded.value, Vec::new()));
    }
    let body = Body { format: BodyFormat::Yaml, ..body.clone() };
    let decoded = decode_value(&body).map_err(|status| match status.code {
        400 => Status::bad_request(format!("error decoding YAML: {}", status.message)),
        _ => status,
    })?;
    Ok((decoded.value, repeated_keys(&body.bytes)))
}

impl Registry {
    /// Decodes an object of a resource: its kind must be right, its types too, and unknown fields
    /// are dropped, reported or refused as the client asked.
    pub(super) fn read_object(
        &self,
        resource: &Resource,
        body: &Body,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let decoded = decode_value(body)?;
        check_kind(resource, &decoded.value, body)?;
        let document = (body.format == BodyFormat::Json).then_some(&body.bytes[..]);
        check(resource, decoded, document, context)
    }
}

/// Holds a value against the resource's schema.
pub(crate) fn check_object(
    resource: &Resource,
    value: Value,
    context: &mut Context,
) -> Result<Value, Status> {
    check(resource, Decoded { value, duplicates: Vec::new() }, None, context)
}

/// Every object says what it is, also one that this process made.
pub(super) fn name_type(def: &ResourceDef, object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), def.gvr.api_version().into());
        object.insert("kind".into(), def.kind.to_string().into());
    }
}

fn check(
    resource: &Resource,
    decoded: Decoded,
    document: Option<&[u8]>,
    context: &mut Context,
) -> Result<Value, Status> {
    let def = &resource.def;
    let Decoded { mut value, duplicates } = decoded;
    name_type(def, &mut value);
    if let Some(version) = &def.version {
        return check_custom(resource, version, value, &duplicates, context);
    }
    let Some((schema, id)) = def.schema() else {
        return Err(Status::internal(format!("{} has no schema", def.gvr)));
    };
    let report = schema::check(schema, id, &mut value);
    let validation = context.options.field_validation;
    let warnings = report.verdict(validation, &def.kind, &def.gvr.version, &duplicates, document)?;
    context.warnings.extend(warnings);
    Ok(value)
}

/// Custom resources are pruned and defaulted as they come in; their types are held against them when they
/// are validated.
fn check_custom(
    resource: &Resource,
    version: &Version,
    mut value: Value,
    duplicates: &[String],
    context: &mut Context,
) -> Result<Value, Status> {
    let def = &resource.def;
    let metadata = value.get_mut("metadata").map(embedded::check_metadata).unwrap_or_default();
    let mut report = metadata;
    report.unknown.iter_mut().for_each(|path| *path = format!("metadata.{path}"));
    report.unknown.extend(version.normalise(&mut value));
    let validation = context.options.field_validation;
    context.warnings.extend(report.verdict(validation, &def.kind, &def.gvr.version, duplicates, None)?);
    context.warnings.extend(version.deprecation.clone());
    Ok(value)
}

fn check_kind(resource: &Resource, value: &Value, body: &Body) -> Result<(), Status> {
    let def = &resource.def;
    let Some(object) = value.as_object() else {
        return Err(schema::unrecognized(&def.kind, "the body is not a JSON object", &body.bytes));
    };
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    // Absent ones are taken from the request path, as upstream's decoder defaults them.
    let right =
        (version.is_empty() || version == def.gvr.api_version()) && (kind.is_empty() || kind == def.kind);
    if right {
        return Ok(());
    }
    if kind == def.kind || kind.is_empty() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            def.gvr.api_version()
        )));
    }
    Err(Status::bad_request(format!(
        "no kind \"{kind}\" is registered for version \"{version}\" at this path; it serves {} of {}",
        def.kind,
        def.gvr.api_version()
    )))
}
