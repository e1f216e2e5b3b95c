//! What `kubectl get` shows: the columns of a resource and the cells of an object.
//!
//! Columns, priorities and the words in the cells are those of Kubernetes' server-side printers.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::table::ResourceDef;

/// `columnDefinitions` of a table of this resource.
pub fn columns(_def: &ResourceDef) -> Value {
    json!([column("Name", "string", "name", 0), column("Age", "string", "", 0)])
}

/// The cells of one object, one per column.
pub fn cells(_def: &ResourceDef, object: &Value, now: Timestamp) -> Vec<Value> {
    let metadata = &object["metadata"];
    vec![metadata["name"].clone(), age(&metadata["creationTimestamp"], now).into()]
}

fn column(name: &str, kind: &str, format: &str, priority: u8) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
}

/// The time since a timestamp in kubectl's short form; `<unknown>` where there is none.
pub fn age(timestamp: &Value, now: Timestamp) -> String {
    let then: Option<Timestamp> = timestamp.as_str().and_then(|text| text.parse().ok());
    then.map_or_else(|| "<unknown>".to_owned(), |then| duration(now.as_second() - then.as_second()))
}

/// Seconds in kubectl's short form, as `5m10s` or `3d`.
pub fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |whole: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, expected) in [
            (-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (310, "5m10s"), (601, "10m"),
            (10_799, "179m"), (10_800, "3h"), (28_800, "8h"), (172_800, "2d"), (180_000, "2d2h"), (864_000, "10d"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
