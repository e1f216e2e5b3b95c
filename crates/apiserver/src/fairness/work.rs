//! How much a request needs: lists by the objects that they read, writes by the watchers that they wake.

use std::time::Duration;

use sampan_api::table::Verb;

use super::queue_set::Work;
use crate::registry::Registry;
use crate::route::{Query, ResourceRoute};

const OBJECTS_PER_SEAT: usize = 100;
const WATCHERS_PER_SEAT: usize = 10;
/// How long a seat is busy with the watchers of one event.
const EVENT: Duration = Duration::from_millis(5);

/// Estimates a request on a resource; `max_seats` is what its level allows.
pub fn estimate(registry: &Registry, route: &ResourceRoute, query: &Query, max_seats: u32) -> Work {
    let cache = || registry.resource(&route.gvr).ok().map(|resource| resource.cache);
    match route.verb {
        Verb::List => list(cache().map_or(0, |cache| cache.len()), query, max_seats),
        Verb::Watch if query.flag("sendInitialEvents") == Ok(true) => {
            list(cache().map_or(0, |cache| cache.len()), query, max_seats)
        }
        Verb::Create if route.subresource.as_deref() == Some("token") => Work::seats(1),
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => {
            write(cache().map_or(0, |cache| cache.watchers()), max_seats)
        }
        Verb::Get | Verb::Watch | Verb::DeleteCollection => Work::seats(1),
    }
}

fn list(stored: usize, query: &Query, max_seats: u32) -> Work {
    let fields = query.get("fieldSelector");
    if fields.is_some_and(|fields| fields.split(',').any(|field| field.starts_with("metadata.name="))) {
        return Work::seats(1);
    }
    // A page without a selector ends after its limit; anything else may read everything.
    let selects = fields.is_some() || query.get("labelSelector").is_some();
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok());
    let read = match limit.filter(|limit| *limit > 0 && !selects) {
        Some(limit) => limit.min(stored),
        None => stored,
    };
    Work::seats(u32::try_from(read.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(u32::MAX).clamp(1, max_seats.max(1)))
}

fn write(watchers: usize, max_seats: u32) -> Work {
    if watchers < WATCHERS_PER_SEAT {
        return Work::seats(1);
    }
    // Wider than allowed becomes longer, of the same area.
    let wanted = u32::try_from(watchers.div_ceil(WATCHERS_PER_SEAT)).unwrap_or(u32::MAX);
    let final_seats = wanted.min(max_seats.max(1));
    Work { seats: 1, final_seats, linger: EVENT * wanted / final_seats }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_what_they_read() {
        let check = |stored: usize, query: &str, seats: u32| {
            assert_eq!(list(stored, &Query::parse(query), 10), Work::seats(seats), "{stored} {query}");
        };
        check(0, "", 1);
        check(100, "", 1);
        check(101, "", 2);
        check(1_000_000, "", 10);
        check(1_000_000, "limit=500", 5);
        check(300, "limit=500", 3);
        check(1_000_000, "limit=500&labelSelector=a", 10);
        check(1_000_000, "fieldSelector=metadata.name%3Dx", 1);
    }

    #[test]
    fn writes_pay_for_the_watchers_that_they_wake() {
        let work =
            |final_seats: u32, ms: u64| Work { seats: 1, final_seats, linger: Duration::from_millis(ms) };
        assert_eq!(write(9, 10), Work::seats(1));
        assert_eq!(write(25, 10), work(3, 5));
        assert_eq!(write(5000, 10), work(10, 250));
    }
}
