//! The query of lists and watches (`metav1.ListOptions`), held against upstream's rules.

use sampan_api::Status;
use sampan_api::status::Cause;
use sampan_client::ListOptions;

use crate::registry::RevisionMatch;
use crate::route::Query;

/// What a watch asks for.
#[derive(Debug)]
pub struct WatchOptions {
    pub list: ListOptions,
    /// `sendInitialEvents`, which is not the same absent as false.
    pub send_initial: Option<bool>,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u64>,
}

/// The options of a list, or of what deletes one.
pub fn list(query: &Query) -> Result<(ListOptions, Option<RevisionMatch>), Status> {
    let options = read(query)?;
    let wanted = query.get("resourceVersionMatch");
    let mut faults = Faults::default();
    if let Some(wanted) = wanted {
        if options.revision.is_none() {
            faults.forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if options.continue_token.is_some() {
            faults.forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            faults.unsupported(wanted, "\"Exact\", \"NotOlderThan\", \"\"");
        }
        if wanted == "Exact" && options.revision == Some(0) {
            faults.forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    if query.get("sendInitialEvents").is_some() {
        query.flag("sendInitialEvents")?;
        faults.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    faults.verdict()?;
    let revision_match = wanted.map(|wanted| match wanted {
        "Exact" => RevisionMatch::Exact,
        _ => RevisionMatch::NotOlderThan,
    });
    Ok((options, revision_match))
}

/// The options of a watch.
pub fn watch(query: &Query) -> Result<WatchOptions, Status> {
    let list = read(query)?;
    let asked = query.get("sendInitialEvents").is_some();
    let send_initial = asked.then(|| query.flag("sendInitialEvents")).transpose()?;
    let mut faults = Faults::default();
    let wanted = query.get("resourceVersionMatch");
    if asked && wanted != Some("NotOlderThan") {
        faults.forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if let Some(wanted) = wanted {
        if !asked {
            faults.forbidden(
                MATCH,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if wanted != "NotOlderThan" {
            faults.unsupported(wanted, "\"NotOlderThan\"");
        }
        if list.continue_token.is_some() {
            faults.forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
    }
    faults.verdict()?;
    Ok(WatchOptions {
        list,
        send_initial,
        bookmarks: query.flag("allowWatchBookmarks")?,
        timeout_seconds: timeout(query)?,
    })
}

/// `timeoutSeconds`, of a century at most; what is not positive counts as absent.
fn timeout(query: &Query) -> Result<Option<u64>, Status> {
    let seconds = query.integer("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.min(100 * 365 * 24 * 3600)))
}

fn read(query: &Query) -> Result<ListOptions, Status> {
    timeout(query)?;
    Ok(ListOptions {
        label_selector: query.get("labelSelector").map(str::to_owned),
        field_selector: query.get("fieldSelector").map(str::to_owned),
        revision: revision(query)?,
        limit: query.integer("limit")?.unwrap_or(0).clamp(0, u32::MAX.into()) as u32,
        continue_token: query.get("continue").map(str::to_owned),
    })
}

/// `resourceVersion`, of lists, watches and single objects.
pub fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    let parsed = text.parse::<u64>();
    parsed.map(Some).map_err(|error| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

const MATCH: &str = "resourceVersionMatch";

#[derive(Default)]
struct Faults {
    causes: Vec<Cause>,
}

impl Faults {
    fn forbidden(&mut self, field: &str, why: &str) {
        let message = format!("Forbidden: {why}");
        self.causes.push(Cause { reason: "FieldValueForbidden".into(), message, field: field.into() });
    }

    fn unsupported(&mut self, value: &str, supported: &str) {
        let message = format!("Unsupported value: {value:?}: supported values: {supported}");
        self.causes.push(Cause { reason: "FieldValueNotSupported".into(), message, field: MATCH.into() });
    }

    fn verdict(self) -> Result<(), Status> {
        match self.causes.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid("meta.k8s.io", "ListOptions", "", self.causes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "ListOptions.meta.k8s.io \"\" is invalid: ";

    fn check<T>(read: fn(&Query) -> Result<T, Status>, query: &str, expected: &str) {
        let actual = match read(&Query::parse(query)) {
            Ok(_) => String::new(),
            Err(status) => match status.message.strip_prefix(PREFIX) {
                Some(rest) => {
                    assert_eq!(status.code, 422);
                    rest.to_owned()
                }
                None => format!("{} {}", status.code, status.message),
            },
        };
        assert_eq!(actual, expected, "{query}");
    }

    #[test]
    fn lists_take_what_upstream_takes() {
        check(list, "", "");
        check(list, "resourceVersion=5&resourceVersionMatch=Exact&limit=3", "");
        check(list, "resourceVersion=0&resourceVersionMatch=NotOlderThan", "");
        check(
            list,
            "resourceVersionMatch=Exact",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
        check(
            list,
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        check(
            list,
            "resourceVersion=5&resourceVersionMatch=NotOlderThan&continue=x",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        );
        check(
            list,
            "resourceVersion=5&resourceVersionMatch=Other",
            "resourceVersionMatch: Unsupported value: \"Other\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        );
        check(
            list,
            "sendInitialEvents=true",
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        );
        check(
            list,
            "resourceVersion=x",
            "400 invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        );
        check(list, "limit=-1", "");
        check(list, "limit=x", "400 strconv.ParseInt: parsing \"x\": invalid syntax");
    }

    #[test]
    fn watches_take_what_upstream_takes() {
        check(watch, "", "");
        check(watch, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "");
        check(watch, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "");
        check(
            watch,
            "sendInitialEvents=true",
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        check(
            watch,
            "resourceVersionMatch=NotOlderThan",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
        check(
            watch,
            "resourceVersionMatch=Exact&sendInitialEvents=true",
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        );
        check(watch, "timeoutSeconds=x", "400 strconv.ParseInt: parsing \"x\": invalid syntax");
    }
}
