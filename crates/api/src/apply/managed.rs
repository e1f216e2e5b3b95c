//! `metadata.managedFields`: who owns which fields of an object.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::set::{FieldSet, SetError};

/// The most entries of managers that updated; the oldest are joined beyond it.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager of joined entries.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// What tells an entry from the others. An applier has one entry whatever version it uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    /// Empty for appliers.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// Who writes by `operation` at a version of the object, or at a subresource of it.
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let name = if name.is_empty() { "unknown" } else { name };
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => api_version,
        };
        Manager {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

impl fmt::Display for Manager {
    /// As messages of conflicts name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// The fields of one manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub fields: FieldSet,
    /// The version that the fields are of.
    pub api_version: String,
    /// RFC 3339, when the manager last changed something.
    pub time: Option<String>,
}

/// An entry that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    #[error("managedFields must be a list of entries")]
    Shape,
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    Version,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {text:?} in managed fields entry {at}")]
    FieldsType { text: String, at: usize },
    #[error("error decoding set")]
    Set(#[from] SetError),
}

/// All owners of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    pub entries: BTreeMap<Manager, Owned>,
}

impl Managed {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads `metadata.managedFields`; absent is empty.
    pub fn from_json(entries: Option<&Value>) -> Result<Self, ManagedError> {
        let entries = match entries {
            None | Some(Value::Null) => return Ok(Managed::default()),
            Some(Value::Array(entries)) => entries,
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                return Err(ManagedError::Shape);
            }
        };
        let mut managed = Managed::default();
        for (at, entry) in entries.iter().enumerate() {
            let (manager, owned) = read_entry(at, entry)?;
            managed.entries.insert(manager, owned);
        }
        Ok(managed)
    }

    /// Writes `metadata.managedFields`, appliers first, then by time; None where nobody owns anything.
    pub fn to_json(&self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries: Vec<(&Manager, &Owned)> = self.entries.iter().collect();
        entries.sort_by(|(a, a_owned), (b, b_owned)| {
            a.operation
                .cmp(&b.operation)
                .then_with(|| a_owned.time.cmp(&b_owned.time))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| a_owned.api_version.cmp(&b_owned.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        Some(entries.into_iter().map(|(manager, owned)| write_entry(manager, owned)).collect())
    }

    /// Joins the oldest entries of updates, by version, until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updates: Vec<(Option<String>, Manager)> = self
            .entries
            .iter()
            .filter(|(manager, _)| manager.operation == Operation::Update)
            .map(|(manager, owned)| (owned.time.clone(), manager.clone()))
            .collect();
        let mut count = updates.len();
        if count <= MAX_UPDATE_MANAGERS {
            return;
        }
        updates.sort();
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for (time, manager) in updates {
            if count <= MAX_UPDATE_MANAGERS {
                return;
            }
            let Some(version) = self.entries.get(&manager).map(|owned| owned.api_version.clone()) else {
                continue;
            };
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, manager);
                continue;
            };
            let bucket = Manager::new(ANCIENT, Operation::Update, &version, "");
            if !self.entries.contains_key(&bucket)
                && let Some(owned) = self.entries.remove(first)
            {
                self.entries.insert(bucket.clone(), owned);
            }
            if manager == bucket {
                continue;
            }
            if let Some(joined) = self.entries.remove(&manager)
                && let Some(owned) = self.entries.get_mut(&bucket)
            {
                owned.fields.merge(joined.fields);
                owned.time = time;
            }
            count -= 1;
        }
    }
}

/// Whether a request asks to forget all owners: an empty list, or a list of one empty entry.
pub fn is_reset(managed_fields: Option<&Value>) -> bool {
    let Some(Value::Array(entries)) = managed_fields else { return false };
    match entries.as_slice() {
        [] => true,
        [one] => one.as_object().is_some_and(|entry| entry.values().all(is_blank)),
        _ => false,
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// Whether two lists of entries differ in nothing but their times.
pub fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return false };
    let timeless = |entry: &Value| {
        let mut entry = entry.as_object().cloned().unwrap_or_default();
        entry.remove("time");
        entry
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| timeless(a) == timeless(b))
}

fn read_entry(at: usize, entry: &Value) -> Result<(Manager, Owned), ManagedError> {
    let entry = entry.as_object().ok_or(ManagedError::Shape)?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(ManagedError::Operation),
    };
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        return Err(ManagedError::Version);
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(ManagedError::NoFieldsType(at)),
        other => return Err(ManagedError::FieldsType { text: other.to_owned(), at }),
    }
    let fields = match entry.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::from_json(fields)?,
    };
    let manager = Manager {
        name: text("manager").to_owned(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { api_version.to_owned() },
        subresource: text("subresource").to_owned(),
    };
    let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
    Ok((manager, Owned { fields, api_version: api_version.to_owned(), time }))
}

fn write_entry(manager: &Manager, owned: &Owned) -> Value {
    let operation = match manager.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut entry = Map::new();
    entry.insert("apiVersion".into(), owned.api_version.as_str().into());
    entry.insert("fieldsType".into(), "FieldsV1".into());
    entry.insert("fieldsV1".into(), owned.fields.to_json());
    entry.insert("manager".into(), manager.name.as_str().into());
    entry.insert("operation".into(), operation.into());
    if !manager.subresource.is_empty() {
        entry.insert("subresource".into(), manager.subresource.as_str().into());
    }
    if let Some(time) = &owned.time {
        entry.insert("time".into(), json!(time));
    }
    Value::Object(entry)
}
