//! Kubernetes' authorizer: `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use std::sync::Arc;

use super::{Library, no_overload, text};
use crate::eval::Outcome;
use crate::value::{Opaque, Value};

/// Who decides. Answers must be immediate.
pub trait Authorizer: Send + Sync {
    /// Whether `who` (the user of the request when absent) may do this.
    fn decide(&self, who: Option<&ServiceAccount>, what: &Action) -> Decision;
}

/// The identity that a check is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    pub verb: String,
    /// A path that is no resource; the other fields are then empty.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// The steps of a check.
#[derive(Clone)]
pub enum Authz<'a> {
    Authorizer(&'a dyn Authorizer, Option<Arc<ServiceAccount>>),
    Check(&'a dyn Authorizer, Option<Arc<ServiceAccount>>, Kind, Arc<Action>),
    Decision(Arc<Decision>),
}

/// How far a check has been described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Path,
    Group,
    Resource,
}

impl<'a> Authz<'a> {
    /// The variable `authorizer`.
    pub fn root(authorizer: &'a dyn Authorizer) -> Value<'a> {
        Value::Opaque(Opaque::Authz(Authz::Authorizer(authorizer, None)))
    }

    /// The variable `authorizer.requestResource`.
    pub fn resource(authorizer: &'a dyn Authorizer, action: Action) -> Value<'a> {
        Value::Opaque(Opaque::Authz(Authz::Check(authorizer, None, Kind::Resource, Arc::new(action))))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Authz::Authorizer(..) => "kubernetes.authorization.Authorizer",
            Authz::Check(_, _, Kind::Path, _) => "kubernetes.authorization.PathCheck",
            Authz::Check(_, _, Kind::Group, _) => "kubernetes.authorization.GroupCheck",
            Authz::Check(_, _, Kind::Resource, _) => "kubernetes.authorization.ResourceCheck",
            Authz::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

pub const LIBRARY: Library = &[
    (
        &["kubernetes.authorization.Authorizer~path(string) -> kubernetes.authorization.PathCheck"],
        |_, args| start(args, Kind::Path, |action, text| action.path = Some(text)),
    ),
    (
        &["kubernetes.authorization.Authorizer~group(string) -> kubernetes.authorization.GroupCheck"],
        |_, args| start(args, Kind::Group, |action, text| action.group = text),
    ),
    (
        &[
            "kubernetes.authorization.Authorizer~serviceAccount(string, string) -> kubernetes.authorization.Authorizer",
        ],
        |_, args| match args {
            [Value::Opaque(Opaque::Authz(Authz::Authorizer(by, _))), namespace, name] => {
                let (Some(namespace), Some(name)) = (namespace.as_str(), name.as_str()) else {
                    return no_overload();
                };
                let account = ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
                Ok(Value::Opaque(Opaque::Authz(Authz::Authorizer(*by, Some(Arc::new(account))))))
            }
            _ => no_overload(),
        },
    ),
    (
        &["kubernetes.authorization.GroupCheck~resource(string) -> kubernetes.authorization.ResourceCheck"],
        |_, args| refine(args, |action, text| action.resource = text),
    ),
    (
        &[
            "kubernetes.authorization.ResourceCheck~subresource(string) -> kubernetes.authorization.ResourceCheck",
        ],
        |_, args| refine(args, |action, text| action.subresource = text),
    ),
    (
        &[
            "kubernetes.authorization.ResourceCheck~namespace(string) -> kubernetes.authorization.ResourceCheck",
        ],
        |_, args| refine(args, |action, text| action.namespace = text),
    ),
    (
        &["kubernetes.authorization.ResourceCheck~name(string) -> kubernetes.authorization.ResourceCheck"],
        |_, args| refine(args, |action, text| action.name = text),
    ),
    (
        &[
            "kubernetes.authorization.ResourceCheck~fieldSelector(string) -> kubernetes.authorization.ResourceCheck",
        ],
        |_, args| refine(args, |action, text| action.field_selector = text),
    ),
    (
        &[
            "kubernetes.authorization.ResourceCheck~labelSelector(string) -> kubernetes.authorization.ResourceCheck",
        ],
        |_, args| refine(args, |action, text| action.label_selector = text),
    ),
    (
        &[
            "kubernetes.authorization.PathCheck~check(string) -> kubernetes.authorization.Decision",
            "kubernetes.authorization.ResourceCheck~check(string) -> kubernetes.authorization.Decision",
        ],
        |_, args| match args.first() {
            Some(Value::Opaque(Opaque::Authz(Authz::Check(by, who, _, action)))) => {
                let action = Action { verb: text(args, 1)?.to_owned(), ..action.as_ref().clone() };
                let decision = by.decide(who.as_deref(), &action);
                Ok(Value::Opaque(Opaque::Authz(Authz::Decision(Arc::new(decision)))))
            }
            _ => no_overload(),
        },
    ),
    (&["kubernetes.authorization.Decision~allowed() -> bool"], |_, args| {
        decided(args, |decision| Value::Bool(decision.allowed))
    }),
    (&["kubernetes.authorization.Decision~reason() -> string"], |_, args| {
        decided(args, |decision| Value::string(decision.reason.as_str()))
    }),
    (&["kubernetes.authorization.Decision~errored() -> bool"], |_, args| {
        decided(args, |decision| Value::Bool(decision.error.is_some()))
    }),
    (&["kubernetes.authorization.Decision~error() -> string"], |_, args| {
        decided(args, |decision| Value::string(decision.error.clone().unwrap_or_default()))
    }),
];

fn start<'a>(args: &[Value<'a>], kind: Kind, set: fn(&mut Action, String)) -> Outcome<'a> {
    let Some(Value::Opaque(Opaque::Authz(Authz::Authorizer(by, who)))) = args.first() else {
        return no_overload();
    };
    let mut action = Action::default();
    set(&mut action, text(args, 1)?.to_owned());
    Ok(Value::Opaque(Opaque::Authz(Authz::Check(*by, who.clone(), kind, Arc::new(action)))))
}

fn refine<'a>(args: &[Value<'a>], set: fn(&mut Action, String)) -> Outcome<'a> {
    let Some(Value::Opaque(Opaque::Authz(Authz::Check(by, who, _, action)))) = args.first() else {
        return no_overload();
    };
    let mut action = action.as_ref().clone();
    set(&mut action, text(args, 1)?.to_owned());
    Ok(Value::Opaque(Opaque::Authz(Authz::Check(*by, who.clone(), Kind::Resource, Arc::new(action)))))
}

fn decided<'a>(args: &[Value<'a>], show: fn(&Decision) -> Value<'a>) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Authz(Authz::Decision(decision)))] => Ok(show(decision)),
        _ => no_overload(),
    }
}
