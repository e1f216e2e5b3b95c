//! The query parameters of writes, and what must hold between them.

use sampan_api::Status;
use sampan_api::schema::FieldValidation;
use sampan_api::status::Cause;
use sampan_api::table::Verb;
use sampan_client::PatchKind;

use crate::ApiServer;
use crate::identity::authorization::Attributes;
use crate::registry::{Context, MAX_MANAGER, WriteOptions};
use crate::route::{Query, ResourceRoute};

/// `dryRun`, `fieldValidation`, `fieldManager`, `force`.
pub fn write_options(query: &Query, options_kind: &str) -> Result<WriteOptions, Status> {
    let mut dry_run = false;
    for value in query.all("dryRun").filter(|value| !value.is_empty()) {
        if value != "All" {
            return Err(Status::failure(
                422,
                "Invalid",
                format!(
                    " \"\" is invalid: dryRun: Unsupported value: \"{value}\": supported values: \"All\""
                ),
            ));
        }
        dry_run = true;
    }
    let asked = query.get("fieldValidation").unwrap_or_default();
    let field_validation = FieldValidation::parse(asked).ok_or_else(|| {
        Status::failure(422, "Invalid", format!(
            " \"\" is invalid: fieldValidation: Unsupported value: \"{asked}\": supported values: \"Ignore\", \"Strict\", \"Warn\""))
    })?;
    let field_manager = query.get("fieldManager").map(str::to_owned);
    if let Some(fault) = field_manager.as_deref().and_then(manager_fault) {
        return Err(Status::invalid("meta.k8s.io", options_kind, "", vec![fault]));
    }
    Ok(WriteOptions {
        dry_run,
        field_validation,
        field_manager,
        force: query.flag("force")?,
        owners_settled: false,
    })
}

/// What is wrong with a field manager's name.
fn manager_fault(manager: &str) -> Option<Cause> {
    let message = if manager.len() > MAX_MANAGER {
        format!("Too long: may not be more than {MAX_MANAGER} bytes")
    } else if manager.chars().any(char::is_control) {
        format!("Invalid value: {manager:?}: should only contain printable characters")
    } else {
        return None;
    };
    Some(Cause { reason: "FieldValueInvalid".into(), message, field: "fieldManager".into() })
}

/// An apply names its manager, and only an apply may force.
pub fn check_apply(kind: PatchKind, query: &Query) -> Result<(), Status> {
    let manager = query.get("fieldManager").unwrap_or_default();
    let (reason, message, field) = match kind {
        PatchKind::Apply if manager.is_empty() => {
            ("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
        }
        PatchKind::Json | PatchKind::Merge | PatchKind::Strategic if query.get("force").is_some() => {
            ("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
        }
        PatchKind::Apply | PatchKind::Json | PatchKind::Merge | PatchKind::Strategic => return Ok(()),
    };
    let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
    Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]))
}

/// Who applies what does not exist creates it, and must be allowed to.
pub async fn authorize_creation(
    server: &ApiServer,
    route: &ResourceRoute,
    context: &Context,
    name: &str,
) -> Result<(), Status> {
    let needed = Attributes {
        user: &context.user,
        verb: Verb::Create.as_str(),
        group: &route.gvr.group,
        version: &route.gvr.version,
        resource: &route.gvr.resource,
        subresource: "",
        namespace: route.namespace.as_deref().unwrap_or_default(),
        name,
        path: "",
        field_selector: None,
    };
    server.authorize_request(&needed).await
}
