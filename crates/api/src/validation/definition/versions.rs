//! `spec.versions`, and what was moved up from them.

use std::collections::BTreeSet;

use super::super::field::{At, Faults};
use super::{default_values, dotted, label, schema, structure};
use crate::custom::Structural;
use crate::custom::structural::Kind;

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
/// The most `selectableFields` of one version.
const MAX_SELECTABLE: usize = 8;

/// All versions of a definition in its internal form.
pub(super) fn versions(spec: &At<'_, '_>, faults: &mut Faults) {
    let versions = spec.get("versions");
    let shared = spec.get("validation");
    let shared_has_schema = shared.get("openAPIV3Schema").is_set();
    let mut names = BTreeSet::new();
    let (mut unique, mut stored) = (true, 0);
    for version in versions.items() {
        let schema = version.get("schema");
        if !shared_has_schema && !schema.get("openAPIV3Schema").is_set() {
            faults.required(&schema.get("openAPIV3Schema"), "schemas are required");
        }
    }
    for version in versions.items() {
        stored += usize::from(version.get("storage").is_true());
        unique &= names.insert(version.get("name").text());
        label(&version.get("name"), faults);
        self::version(&version, spec, faults);
    }
    if !unique {
        faults.invalid(&versions, "must contain unique version names");
    }
    if stored != 1 {
        faults.invalid(&versions, "must have exactly one version marked as storage version");
    }
    let has_status = has_status(&spec.get("subresources"))
        || versions.items().any(|version| self::has_status(&version.get("subresources")));
    validation(&spec.get("validation"), has_status, faults);
    subresources(&spec.get("subresources"), faults);
    columns(&spec.get("additionalPrinterColumns"), faults);
    selectable(&spec.get("selectableFields"), &shared.get("openAPIV3Schema"), faults);
}

fn version(version: &At<'_, '_>, spec: &At<'_, '_>, faults: &mut Faults) {
    deprecation(version, faults);
    let own = version.get("subresources");
    let has_status = if own.is_set() { has_status(&own) } else { has_status(&spec.get("subresources")) };
    let schema = version.get("schema");
    validation(&schema, has_status, faults);
    subresources(&own, faults);
    columns(&version.get("additionalPrinterColumns"), faults);
    let shared = spec.get("validation");
    let schema = schema.get("openAPIV3Schema");
    let schema = if schema.is_set() { schema } else { shared.get("openAPIV3Schema") };
    selectable(&version.get("selectableFields"), &schema, faults);
}

fn has_status(subresources: &At<'_, '_>) -> bool {
    subresources.get("status").is_set()
}

fn deprecation(version: &At<'_, '_>, faults: &mut Faults) {
    let warning = version.get("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.get("deprecated").is_true() {
        faults.invalid(&warning, "can only be set for deprecated versions");
        return;
    }
    if warning.text().len() > 256 {
        faults.invalid(&warning, "must be <= 256 characters long");
    }
    if warning.text().is_empty() {
        faults.invalid(&warning, "must not be an empty string");
    }
    if let Some((at, _)) = warning.text().char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        faults.invalid(&warning, &detail);
    }
}

/// `schema` of a version, or `validation` of all.
fn validation(validation: &At<'_, '_>, has_status: bool, faults: &mut Faults) {
    const AT_ROOT: [&str; 22] = [
        "description",
        "type",
        "format",
        "title",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "multipleOf",
        "required",
        "items",
        "properties",
        "externalDocs",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ];
    let root = validation.get("openAPIV3Schema");
    if !root.is_set() {
        return;
    }
    let before = faults.count();
    if has_status {
        let kind = root.get("type");
        if kind.is_set() && kind.text() != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            faults.invalid(&kind, detail);
        } else if root.entries().any(|(key, _)| !AT_ROOT.contains(&key)) {
            let detail = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum \
                          MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items \
                          Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed \
                          at the root of the schema if the status subresource is enabled";
            faults.invalid(&root, detail);
        }
    }
    if root.get("nullable").is_true() {
        faults.forbidden(&root.get("nullable"), "nullable cannot be true at the root");
    }
    let structural = faults.count();
    structure::root(&root, faults);
    if faults.count() == structural {
        default_values::root(&root, faults);
    }
    schema::root(&root, faults);
    if faults.count() == before
        && let Err(error) = Structural::compile(root.value)
    {
        faults.invalid_text(&root, "", &error.to_string());
    }
}

fn subresources(subresources: &At<'_, '_>, faults: &mut Faults) {
    let scale = subresources.get("scale");
    if !scale.is_set() {
        return;
    }
    for (field, roots, detail, is_required) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec", true),
        ("statusReplicasPath", &[".status."][..], "should be a json path under .status", true),
        (
            "labelSelectorPath",
            &[".spec.", ".status."][..],
            "should be a json path under either .spec or .status",
            false,
        ),
    ] {
        let path = scale.get(field);
        if path.text().is_empty() {
            if is_required {
                faults.required(&path, "");
            }
        } else if dotted(&path, faults) && !roots.iter().any(|root| path.text().starts_with(root)) {
            faults.invalid(&path, detail);
        }
    }
}

fn columns(columns: &At<'_, '_>, faults: &mut Faults) {
    for column in columns.items() {
        if column.get("name").text().is_empty() {
            faults.required(&column.get("name"), "");
        }
        let kind = column.get("type");
        if kind.text().is_empty() {
            faults.required(&kind, &format!("must be one of {COLUMN_TYPES}"));
        } else if !COLUMN_TYPES.split(',').any(|one| one == kind.text()) {
            faults.invalid(&kind, &format!("must be one of {COLUMN_TYPES}"));
        }
        let format = column.get("format");
        if !format.text().is_empty() && !COLUMN_FORMATS.split(',').any(|one| one == format.text()) {
            faults.invalid(&format, &format!("must be one of {COLUMN_FORMATS}"));
        }
        let (path, shown) = (column.get("jsonPath"), column.get("JSONPath"));
        let before = faults.count();
        if path.text().is_empty() {
            faults.required(&shown, "");
        } else {
            dotted(&path, faults);
        }
        // The internal form writes it in capitals.
        faults.move_to(before, &shown);
    }
}

/// `selectableFields` name scalar fields outside of lists and metadata.
fn selectable(fields: &At<'_, '_>, schema: &At<'_, '_>, faults: &mut Faults) {
    if fields.is_empty() {
        return;
    }
    if fields.len() > MAX_SELECTABLE {
        faults.too_many(fields, fields.len(), MAX_SELECTABLE);
    }
    let Ok(structural) = Structural::compile(schema.value) else { return };
    let mut seen = BTreeSet::new();
    for field in fields.items() {
        let path = field.get("jsonPath");
        if path.text().is_empty() {
            faults.required(&path, "");
            continue;
        }
        let steps: Vec<&str> = path.text().trim_start_matches('.').split('.').collect();
        if steps.first() == Some(&"metadata") {
            faults.invalid(&path, "must not point to fields in metadata");
        } else {
            let found = steps.iter().try_fold(&structural, |at, step| at.properties.get(*step));
            let is_scalar = found.is_some_and(|found| {
                matches!(found.kind, Some(Kind::String | Kind::Boolean | Kind::Integer))
            });
            if !path.text().starts_with('.') || found.is_none() {
                faults.invalid(&path, "is an invalid path: does not refer to a valid field");
            } else if !is_scalar {
                let detail = "must point to a field of type string, boolean or integer. Enum string fields and \
                              strings with formats are allowed.";
                faults.invalid(&path, detail);
            }
        }
        if !seen.insert(path.text()) {
            faults.duplicate(&path, path.value);
        }
    }
}
