//! From the stored flow schemas and priority levels to a plan: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1 as api;
use serde::Deserialize;

use super::level::{Level, Limits, Running};
use super::metrics::SchemaSeries;
use super::queue_set::Queuing;
use super::rules::Rules;
use crate::identity::authorization::Attributes;
use sampan_api::flow_control::{self as bootstrap, Wanted};

pub use api::{FlowSchema, PriorityLevelConfiguration as PriorityLevel};

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
/// Part of a level's seats that its widest request may take, and the most seats of any request.
const WIDEST_PART: f64 = 0.15;
const WIDEST: u32 = 10;
/// The most queues that are made, whatever a level asks for: more of them isolate nobody any better.
const MAX_QUEUES: usize = 10_000;
/// Shares of a level that does not say.
const SHARES: i32 = 30;

/// Who is served how.
#[derive(Default)]
pub struct Plan {
    /// In the order in which they are asked. Never empty once built: the catch-all is the last resort.
    pub schemas: Vec<Schema>,
    pub levels: BTreeMap<Arc<str>, Arc<Level>>,
}

/// A flow schema whose level exists.
pub struct Schema {
    pub name: Arc<str>,
    pub uid: HeaderValue,
    pub precedence: i32,
    pub level: Arc<Level>,
    pub distinguisher: Distinguisher,
    rules: Rules,
    pub series: Arc<SchemaSeries>,
}

/// What makes two requests of a schema different flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    ByUser,
    ByNamespace,
}

impl Distinguisher {
    pub fn read<'a>(self, request: &Attributes<'a>) -> &'a str {
        match self {
            Distinguisher::None => "",
            Distinguisher::ByUser => &request.user.name,
            Distinguisher::ByNamespace => request.namespace,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Distinguisher::None => "<none>",
            Distinguisher::ByUser => "ByUser",
            Distinguisher::ByNamespace => "ByNamespace",
        }
    }
}

impl Plan {
    /// Makes a plan. What runs in a level of the old plan goes on in the one of the same name.
    pub fn build(
        total: u32,
        schemas: &[FlowSchema],
        levels: &[PriorityLevel],
        old: &Plan,
        series: impl Fn(&str, &str) -> Arc<SchemaSeries>,
    ) -> Self {
        let mut levels: Vec<PriorityLevel> =
            levels.iter().filter(|level| queuing(level).is_some()).cloned().collect();
        imagine(&mut levels, bootstrap::priority_levels(), |level| level.metadata.name.as_deref());
        let mut schemas = schemas.to_vec();
        imagine(&mut schemas, bootstrap::flow_schemas(), |schema| schema.metadata.name.as_deref());
        let shares: f64 = levels.iter().map(|level| f64::from(share(level).0)).sum();
        let levels: BTreeMap<Arc<str>, Arc<Level>> = levels
            .iter()
            .filter_map(|level| {
                let level = read_level(total, shares, level, old)?;
                Some((level.name.clone(), Arc::new(level)))
            })
            .collect();
        let mut schemas: Vec<Schema> =
            schemas.into_iter().filter_map(|schema| read_schema(schema, &levels, &series)).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Plan { schemas, levels }
    }

    /// The first schema that matches. Everybody is authenticated or not, so that the catch-all matches
    /// everybody; it also takes whoever no schema should ever have left out.
    pub fn find(&self, request: &Attributes<'_>) -> usize {
        let last_resort = || self.schemas.iter().position(|schema| &*schema.name == CATCH_ALL).unwrap_or(0);
        self.schemas.iter().position(|schema| schema.rules.match_request(request)).unwrap_or_else(last_resort)
    }
}

/// Adds the mandatory objects that are missing, so that there is a plan in any case.
fn imagine<T: for<'de> Deserialize<'de>>(
    objects: &mut Vec<T>,
    wanted: Vec<Wanted>,
    name: impl Fn(&T) -> Option<&str>,
) {
    for wanted in wanted.into_iter().filter(|wanted| wanted.mandatory) {
        if objects.iter().any(|object| name(object) == Some(wanted.name)) {
            continue;
        }
        let value = serde_json::json!({"metadata": {"name": wanted.name}, "spec": wanted.spec});
        match serde_json::from_value(value) {
            Ok(object) => objects.push(object),
            Err(error) => tracing::error!(%error, name = wanted.name, "a mandatory object cannot be read"),
        }
    }
}

/// How a level queues; None where its parts contradict each other, which validation refuses.
fn queuing(level: &PriorityLevel) -> Option<Queuing> {
    let spec = level.spec.as_ref()?;
    match (spec.type_.as_str(), &spec.limited) {
        ("Exempt", None) => (level.metadata.name.as_deref() == Some(EXEMPT)).then_some(Queuing::Exempt),
        ("Limited", Some(limited)) => {
            let response = limited.limit_response.as_ref()?;
            match (response.type_.as_str(), &response.queuing) {
                ("Reject", None) => Some(Queuing::Reject),
                ("Queue", Some(queuing)) => {
                    let queues = usize::try_from(queuing.queues.unwrap_or(64)).ok()?.clamp(1, MAX_QUEUES);
                    Some(Queuing::Queue {
                        queues,
                        hand_size: usize::try_from(queuing.hand_size.unwrap_or(8)).ok()?.clamp(1, queues),
                        length_limit: usize::try_from(queuing.queue_length_limit.unwrap_or(50)).ok()?,
                    })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Shares, and the percentages that a level lends and borrows.
fn share(level: &PriorityLevel) -> (i32, i32, Option<i32>) {
    let Some(spec) = &level.spec else { return (0, 0, None) };
    if let Some(limited) = &spec.limited {
        let shares = limited.nominal_concurrency_shares.unwrap_or(SHARES).max(0);
        return (shares, limited.lendable_percent.unwrap_or(0), limited.borrowing_limit_percent);
    }
    let exempt = spec.exempt.as_ref();
    let shares = exempt.and_then(|exempt| exempt.nominal_concurrency_shares).unwrap_or(0).max(0);
    (shares, exempt.and_then(|exempt| exempt.lendable_percent).unwrap_or(0), None)
}

fn limits(total: u32, shares: f64, level: &PriorityLevel) -> Limits {
    let (own, lendable, borrowing) = share(level);
    let nominal = if shares > 0.0 { (f64::from(total) * f64::from(own) / shares).ceil() } else { 0.0 };
    let part = |percent: i32| (nominal * f64::from(percent.max(0)) / 100.0).round() as u32;
    let nominal = nominal as u32;
    Limits {
        nominal,
        lower: nominal.saturating_sub(part(lendable)),
        upper: nominal.saturating_add(borrowing.map_or(total, part)),
    }
}

fn read_level(total: u32, shares: f64, level: &PriorityLevel, old: &Plan) -> Option<Level> {
    let queuing = queuing(level)?;
    let name: Arc<str> = level.metadata.name.as_deref()?.into();
    let limits = limits(total, shares, level);
    let max_seats = match queuing {
        Queuing::Queue { hand_size, .. } => {
            let by_part = (f64::from(limits.nominal) * WIDEST_PART).ceil() as u32;
            by_part.min(limits.nominal / hand_size as u32).clamp(1, WIDEST)
        }
        Queuing::Exempt | Queuing::Reject => WIDEST,
    };
    let running = match old.levels.get(&name) {
        Some(old) => old.running.clone(),
        None => Running::new(queuing, limits.nominal - (limits.nominal - limits.lower) / 2),
    };
    Some(Level { name, uid: uid(level.metadata.uid.as_deref()), queuing, limits, max_seats, running })
}

fn read_schema(
    schema: FlowSchema,
    levels: &BTreeMap<Arc<str>, Arc<Level>>,
    series: &impl Fn(&str, &str) -> Arc<SchemaSeries>,
) -> Option<Schema> {
    let spec = schema.spec?;
    // A schema whose level is missing matches nobody; its status says so.
    let level = levels.get(spec.priority_level_configuration.name.as_str())?.clone();
    let name: Arc<str> = schema.metadata.name?.into();
    let method = spec.distinguisher_method.map(|method| method.type_);
    Some(Schema {
        uid: uid(schema.metadata.uid.as_deref()),
        precedence: spec.matching_precedence.unwrap_or(1000),
        distinguisher: match method.as_deref() {
            Some("ByUser") => Distinguisher::ByUser,
            Some("ByNamespace") => Distinguisher::ByNamespace,
            _ => Distinguisher::None,
        },
        rules: Rules::new(spec.rules),
        series: series(&name, &level.name),
        level,
        name,
    })
}

fn uid(uid: Option<&str>) -> HeaderValue {
    HeaderValue::from_str(uid.unwrap_or_default()).unwrap_or(HeaderValue::from_static(""))
}
