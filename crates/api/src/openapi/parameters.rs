//! The parameters of operations.

use serde_json::{Value, json};

use super::Dialect;

/// A query or path parameter: name, type, description.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "Whether the answer is indented for reading ('true').");
const DRY_RUN: Parameter = ("dryRun", "string", "'All' runs every stage of the request but stores nothing.");
const FIELD_MANAGER: Parameter =
    ("fieldManager", "string", "The name of whoever makes these changes; required for apply patches.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What happens to unknown and duplicate fields: 'Ignore' drops them, 'Warn' drops them and warns, 'Strict' \
     refuses the request.",
);
const RESOURCE_VERSION: Parameter =
    ("resourceVersion", "string", "Which versions of the stored state the answer may come from.");
const GRACE: Parameter =
    ("gracePeriodSeconds", "integer", "Seconds until the object is deleted; zero deletes at once.");
const ORPHAN: Parameter = ("orphanDependents", "boolean", "Deprecated; use propagationPolicy.");
const PROPAGATION: Parameter = (
    "propagationPolicy",
    "string",
    "What happens to dependent objects: 'Orphan', 'Background' or 'Foreground'.",
);
const IGNORE_STORE_ERROR: Parameter = (
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "boolean",
    "Deletes an object even when its stored form cannot be read.",
);

/// Of reads of one object.
pub(super) const READ: &[Parameter] = &[PRETTY, RESOURCE_VERSION];
/// Of creation and replacement.
pub(super) const WRITE: &[Parameter] = &[PRETTY, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
/// Of patches.
pub(super) const PATCH: &[Parameter] = &[
    PRETTY,
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_VALIDATION,
    ("force", "boolean", "Takes over fields that other managers own; for apply patches only."),
];
/// Of the deletion of one object.
pub(super) const DELETE: &[Parameter] = &[PRETTY, DRY_RUN, GRACE, ORPHAN, PROPAGATION, IGNORE_STORE_ERROR];
/// Of lists and watches.
pub(super) const LIST: &[Parameter] = &[
    PRETTY,
    ("allowWatchBookmarks", "boolean", "Whether a watch may be sent bookmarks."),
    ("continue", "string", "The token of the previous part of a list."),
    ("fieldSelector", "string", "Selects objects by their fields."),
    ("labelSelector", "string", "Selects objects by their labels."),
    ("limit", "integer", "The most objects in one answer."),
    RESOURCE_VERSION,
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied to a list: 'Exact' or 'NotOlderThan'.",
    ),
    ("sendInitialEvents", "boolean", "Whether a watch begins with the present state."),
    ("timeoutSeconds", "integer", "The longest duration of the request."),
    ("watch", "boolean", "Streams changes instead of a list."),
];
/// Of the deletion of a collection, beside those of lists.
pub(super) const DELETE_COLLECTION: &[Parameter] = &[DRY_RUN, GRACE, ORPHAN, PROPAGATION, IGNORE_STORE_ERROR];

/// The query of a subresource that streams or proxies.
pub(super) fn connect(subresource: &str) -> &'static [Parameter] {
    const CONTAINER: Parameter = ("container", "string", "The container; the only one where it is left out.");
    const STDIN: Parameter = ("stdin", "boolean", "Whether standard input is attached.");
    const STDOUT: Parameter = ("stdout", "boolean", "Whether standard output is attached.");
    const STDERR: Parameter = ("stderr", "boolean", "Whether standard error is attached.");
    const TTY: Parameter = ("tty", "boolean", "Whether a terminal is allocated.");
    match subresource {
        "exec" => &[
            ("command", "string", "The command, not run in a shell."),
            CONTAINER,
            STDIN,
            STDOUT,
            STDERR,
            TTY,
        ],
        "attach" => &[CONTAINER, STDIN, STDOUT, STDERR, TTY],
        "portforward" => &[("ports", "integer", "The ports to forward; required over WebSocket.")],
        "proxy" => &[("path", "string", "The path of the request to forward.")],
        "log" => &[
            PRETTY,
            CONTAINER,
            ("follow", "boolean", "Whether the answer goes on with new lines."),
            ("insecureSkipTLSVerifyBackend", "boolean", "Whether the node's certificate goes unchecked."),
            ("limitBytes", "integer", "The most bytes of the answer."),
            ("previous", "boolean", "Whether the log is the one of the previous instance of the container."),
            ("sinceSeconds", "integer", "Only lines of the last so many seconds."),
            ("stream", "string", "'All', 'Stdout' or 'Stderr'."),
            ("tailLines", "integer", "Only so many lines from the end."),
            ("timestamps", "boolean", "Whether each line begins with its time."),
        ],
        _ => &[],
    }
}

/// Query parameters as the document lists them.
pub(super) fn query(dialect: Dialect, parameters: &[Parameter]) -> Vec<Value> {
    parameters.iter().map(|(name, of, description)| value(dialect, "query", name, of, description)).collect()
}

/// A parameter in the path.
pub(super) fn in_path(dialect: Dialect, name: &str, description: &str) -> Value {
    let mut value = value(dialect, "path", name, "string", description);
    value["required"] = true.into();
    value
}

fn value(dialect: Dialect, place: &str, name: &str, of: &str, description: &str) -> Value {
    match dialect {
        Dialect::V2 => {
            json!({"name": name, "in": place, "description": description, "type": of, "uniqueItems": true})
        }
        Dialect::V3 => {
            let schema = json!({"type": of, "uniqueItems": true});
            json!({"name": name, "in": place, "description": description, "schema": schema})
        }
    }
}
