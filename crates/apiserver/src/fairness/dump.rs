//! `/debug/api_priority_and_fairness/dump_*`: the state of levels and queues as tables of text.

use std::fmt::Write as _;

use super::{Level, Plan};

/// The table at a path, without the part that all have.
pub fn find(plan: &Plan, name: &str) -> Option<String> {
    match name {
        "dump_priority_levels" => Some(priority_levels(plan)),
        "dump_queues" => Some(queues(plan)),
        "dump_requests" => Some(requests(plan)),
        _ => None,
    }
}

fn priority_levels(plan: &Plan) -> String {
    let mut text = String::from(
        "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, SeatsInUse, \
         CurrentLimit, NominalLimit, LowerLimit, UpperLimit\n",
    );
    for level in plan.levels.values() {
        let Level { name, limits, .. } = &**level;
        let _ = level.running.look(|set| {
            writeln!(
                text,
                "{name}, {}, {}, false, {}, {}, {}, {}, {}, {}, {}",
                set.active().count(),
                set.is_idle(),
                set.waiting(),
                set.executing(),
                set.seats_in_use(),
                set.limit(),
                limits.nominal,
                limits.lower,
                limits.upper,
            )
        });
    }
    text
}

fn queues(plan: &Plan) -> String {
    let mut text = String::from(
        "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR\n",
    );
    for level in plan.levels.values() {
        level.running.look(|set| {
            for (at, waiting, executing, seats, next) in set.active() {
                let _ = writeln!(text, "{}, {at}, {waiting}, {executing}, {seats}, {next:.8}ss", level.name);
            }
        });
    }
    text
}

/// Requests by schema: single ones are not kept here.
fn requests(plan: &Plan) -> String {
    let mut text = String::from("PriorityLevelName, FlowSchemaName, Distinguisher, Waiting, Executing\n");
    for schema in &plan.schemas {
        let (waiting, executing) = schema.series.current();
        let (level, name, method) = (&schema.level.name, &schema.name, schema.distinguisher.as_str());
        let _ = writeln!(text, "{level}, {name}, {method}, {waiting}, {executing}");
    }
    text
}
