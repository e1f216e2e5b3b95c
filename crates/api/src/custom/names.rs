//! Which names a definition gets, and what its conditions say.
//!
//! Names belong to a group: no two definitions of it have a plural, singular or short name in common,
//! nor a kind or list kind. Who came first keeps them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Annotation that says who approved an API of a protected group.
const APPROVED: &str = "api-approved.kubernetes.io";

/// The status that a definition should have; None where it has it. `others` are all definitions,
/// itself included or not; `now` is RFC 3339.
pub fn plan(definition: &Value, others: &[Value], now: &str) -> Option<Value> {
    let before = definition.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut status = before.clone();
    if !status.is_object() {
        status = json!({});
    }
    let spec = &definition["spec"];
    if spec["names"] != status["acceptedNames"] {
        let claimed = Claimed::by(others, definition);
        let (accepted, conflict) = accept(&spec["names"], &status["acceptedNames"], &claimed);
        status["acceptedNames"] = accepted;
        let established = is_true(&status, "Established");
        match conflict {
            Some((reason, message)) => {
                set(&mut status, ["NamesAccepted", "False", reason, &message], now);
                if !established {
                    let text = ["Established", "False", "NotAccepted", "not all names are accepted"];
                    set(&mut status, text, now);
                }
            }
            None => set(&mut status, ["NamesAccepted", "True", "NoConflicts", "no conflicts found"], now),
        }
    }
    let is_deleted = definition.pointer("/metadata/deletionTimestamp").is_some();
    if is_true(&status, "NamesAccepted") && !is_true(&status, "Established") && !is_deleted {
        let message = "the initial names have been accepted";
        set(&mut status, ["Established", "True", "InitialNamesAccepted", message], now);
    }
    if let Some((value, reason, message)) = approval(definition) {
        set(&mut status, ["KubernetesAPIApprovalPolicyConformant", value, reason, &message], now);
    }
    (status != before).then_some(status)
}

/// Sets a condition, given as type, status, reason and message. The time is the one of the last change
/// of its status.
pub fn set(status: &mut Value, [kind, value, reason, message]: [&str; 4], now: &str) {
    let Some(fields) = status.as_object_mut() else { return };
    let list = fields.entry("conditions").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    let old = list.iter_mut().find(|one| one["type"] == kind);
    let since = old
        .as_ref()
        .filter(|old| old["status"] == value)
        .and_then(|old| old["lastTransitionTime"].as_str())
        .unwrap_or(now)
        .to_owned();
    let condition = json!({"lastTransitionTime": since, "message": message, "reason": reason, "status": value,
        "type": kind});
    match old {
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}

fn is_true(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}

/// Names that other definitions of a group have.
#[derive(Default)]
struct Claimed {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Claimed {
    fn by(others: &[Value], definition: &Value) -> Self {
        let mut claimed = Claimed::default();
        let text = |names: &Value, key: &str| names[key].as_str().unwrap_or_default().to_owned();
        for other in others {
            if other["spec"]["group"] != definition["spec"]["group"]
                || other["metadata"]["name"] == definition["metadata"]["name"]
            {
                continue;
            }
            let names = &other["status"]["acceptedNames"];
            claimed.resources.extend([text(names, "plural"), text(names, "singular")]);
            claimed.resources.extend(short_names(names).map(str::to_owned));
            claimed.kinds.extend([text(names, "kind"), text(names, "listKind")]);
        }
        claimed
    }
}

fn short_names(names: &Value) -> impl Iterator<Item = &str> {
    names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The names that are accepted, and the last conflict with its reason.
fn accept(wanted: &Value, accepted: &Value, claimed: &Claimed) -> (Value, Option<(&'static str, String)>) {
    let mut names = accepted.as_object().cloned().unwrap_or_else(Map::new);
    let mut conflict = None;
    let free = |name: &Value, own: &Value, used: &BTreeSet<String>| -> Option<String> {
        let text = name.as_str().unwrap_or_default();
        (name != own && used.contains(text)).then(|| format!("{text:?} is already in use"))
    };
    let single = [
        ("plural", "PluralConflict", &claimed.resources),
        ("singular", "SingularConflict", &claimed.resources),
        ("shortNames", "ShortNamesConflict", &claimed.resources),
        ("kind", "KindConflict", &claimed.kinds),
        ("listKind", "ListKindConflict", &claimed.kinds),
    ];
    for (key, reason, used) in single {
        let taken = if key == "shortNames" {
            let own: Vec<&str> = short_names(accepted).collect();
            let taken: Vec<String> = short_names(wanted)
                .filter(|name| !own.contains(name) && used.contains(*name))
                .map(|name| format!("{name:?} is already in use"))
                .collect();
            match taken.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                several => Some(format!("[{}]", several.join(", "))),
            }
        } else {
            free(&wanted[key], &accepted[key], used)
        };
        match taken {
            Some(message) => conflict = Some((reason, message)),
            None => put(&mut names, key, wanted),
        }
    }
    put(&mut names, "categories", wanted);
    (Value::Object(names), conflict)
}

fn put(names: &mut Map<String, Value>, key: &str, wanted: &Value) {
    match wanted.get(key).filter(|value| !value.is_null()) {
        Some(value) => {
            names.insert(key.to_owned(), value.clone());
        }
        None => {
            names.remove(key);
        }
    }
}

/// Whether a group belongs to the Kubernetes project, so that its APIs need approval.
pub fn is_protected(group: &str) -> bool {
    matches!(group, "k8s.io" | "kubernetes.io")
        || group.ends_with(".k8s.io")
        || group.ends_with(".kubernetes.io")
}

/// What the approval annotation says, as status, reason and message of a condition; None for groups
/// that need none.
pub fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(definition["spec"]["group"].as_str().unwrap_or_default()) {
        return None;
    }
    let annotation = definition["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    Some(if annotation.is_empty() {
        let more = "see https://github.com/kubernetes/enhancements/pull/1111";
        (
            "False",
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVED:?}, {more}"),
        )
    } else if annotation.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {annotation:?}"))
    } else if annotation
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'))
    {
        ("True", "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting \
             with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        ("False", "InvalidAnnotation", why)
    })
}
