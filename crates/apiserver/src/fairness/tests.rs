use std::sync::atomic::{AtomicUsize, Ordering};

use sampan_api::flow_control as bootstrap;
use serde_json::json;

use super::*;
use crate::identity::User;

fn fairness(total: u32) -> Arc<Fairness> {
    let concurrency = Concurrency { max_requests_in_flight: total, max_mutating_requests_in_flight: 0 };
    let fairness = Fairness::new(concurrency, &Registry::default());
    let objects = |wanted: Vec<bootstrap::Wanted>| -> Vec<_> {
        let object =
            |wanted: bootstrap::Wanted| json!({"metadata": {"name": wanted.name}, "spec": wanted.spec});
        wanted.into_iter().map(object).collect()
    };
    let schemas: Vec<plan::FlowSchema> =
        serde_json::from_value(objects(bootstrap::flow_schemas()).into()).expect("flow schemas");
    let levels: Vec<plan::PriorityLevel> =
        serde_json::from_value(objects(bootstrap::priority_levels()).into()).expect("priority levels");
    fairness.configure(&schemas, &levels);
    fairness
}

fn request<'a>(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Attributes<'a> {
    Attributes { group, version: "v1", resource, namespace: "a", ..Attributes::path(user, verb, "") }
}

#[test]
fn requests_belong_to_upstreams_schemas() {
    let fairness = fairness(600);
    let check = |user: &User, attributes: Attributes<'_>, schema: &str, level: &str| {
        let classified = fairness.classify(&attributes);
        assert_eq!((&*classified.schema().name, &*classified.level().name), (schema, level), "{}", user.name);
    };
    let admin = User::component("admin", &["system:masters"]);
    check(&admin, request(&admin, "get", "", "pods"), "exempt", "exempt");
    let anonymous = User::anonymous();
    check(&anonymous, Attributes::path(&anonymous, "get", "/readyz"), "probes", "exempt");
    check(&anonymous, Attributes::path(&anonymous, "get", "/version"), "global-default", "global-default");
    let manager = User::component("system:kube-controller-manager", &[]);
    let lease = request(&manager, "update", "coordination.k8s.io", "leases");
    check(&manager, lease, "system-leader-election", "leader-election");
    check(&manager, request(&manager, "get", "", "endpoints"), "endpoint-controller", "workload-high");
    check(&manager, request(&manager, "get", "", "pods"), "kube-controller-manager", "workload-high");
    let node = User::component("system:node:n", &["system:nodes"]);
    let own = Attributes { namespace: "", ..request(&node, "get", "", "nodes") };
    check(&node, own, "system-node-high", "node-high");
    check(&node, request(&node, "get", "", "pods"), "system-nodes", "system");
    let system = User::service_account("kube-system", "x", "");
    check(&system, request(&system, "get", "", "configmaps"), "workload-leader-election", "leader-election");
    check(&system, request(&system, "get", "", "pods"), "kube-system-service-accounts", "workload-high");
    let account = User::service_account("default", "x", "");
    check(&account, request(&account, "get", "", "pods"), "service-accounts", "workload-low");
    let nobody = User { name: "nobody".into(), ..User::default() };
    check(&nobody, request(&nobody, "get", "", "pods"), "catch-all", "catch-all");
}

#[test]
fn shares_are_those_of_upstream() {
    let plan = fairness(600).plan();
    let limits = |name: &str| {
        let limits = plan.levels[name].limits;
        (limits.nominal, limits.lower, limits.upper)
    };
    // 600 seats over 245 shares.
    assert_eq!(limits("system"), (74, 50, 674));
    assert_eq!(limits("workload-low"), (245, 24, 845));
    assert_eq!(limits("catch-all"), (13, 13, 613));
    assert_eq!(limits("exempt"), (0, 0, 600));
    let nominal: u32 = plan.levels.values().map(|level| level.limits.nominal).sum();
    let current: u32 = plan.levels.values().map(|level| level.running.look(|set| set.limit())).sum();
    assert!(current.abs_diff(nominal) <= 4, "{current} of {nominal}");
    assert_eq!(plan.levels["workload-low"].max_seats, 10);
}

#[test]
fn a_schema_without_its_level_is_left_out() {
    let fairness = fairness(600);
    let schema = json!([{"metadata": {"name": "mine"}, "spec": {"matchingPrecedence": 1,
        "priorityLevelConfiguration": {"name": "absent"}}}]);
    let plan = fairness.configure(&serde_json::from_value::<Vec<_>>(schema).expect("a schema"), &[]);
    let names: Vec<&str> = plan.schemas.iter().map(|schema| &*schema.name).collect();
    assert_eq!(names, ["exempt", "catch-all"]);
    assert_eq!(plan.levels.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_user_leaves_another_its_turn() {
    let fairness = fairness(40);
    let (served, rejected) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let ask = |name: &'static str, count: usize| {
        let (served, rejected) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (served.clone(), rejected.clone());
        for _ in 0..count {
            let (fairness, served, rejected) = (fairness.clone(), served.clone(), rejected.clone());
            tokio::spawn(async move {
                let user = User::component(name, &[]);
                let classified = fairness.classify(&request(&user, "list", "", "pods"));
                let limit = Duration::from_secs(15);
                match classified.acquire(&fairness, Work::seats(1), limit, || ()).await.0 {
                    Ok(_seat) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => drop(rejected.fetch_add(1, Ordering::Relaxed)),
                }
            });
        }
        counts
    };
    let flood = ask("flood", 5000);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let quiet = ask("quiet", 5);
    tokio::time::sleep(Duration::from_secs(2)).await;
    served.store(quiet.0.load(Ordering::Relaxed), Ordering::Relaxed);
    rejected.store(flood.1.load(Ordering::Relaxed), Ordering::Relaxed);
    assert_eq!(served.load(Ordering::Relaxed), 5, "the quiet user is served before the flood ends");
    assert!(rejected.load(Ordering::Relaxed) > 4000, "a queue has room for 50 requests of a flow");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (done, refused) = (flood.0.load(Ordering::Relaxed), flood.1.load(Ordering::Relaxed));
    assert_eq!(done + refused, 5000, "everybody gets an answer");
    assert!(fairness.plan().levels["global-default"].running.look(|set| set.is_idle()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_goes_away_leaves_no_trace() {
    let fairness = fairness(80);
    let user = User::component("u", &[]);
    let classified = fairness.classify(&request(&user, "get", "", "pods"));
    let limit = Duration::from_secs(1);
    let mut seats = Vec::new();
    let capacity = classified.level().running.look(|set| set.limit());
    for _ in 0..capacity {
        seats.push(classified.acquire(&fairness, Work::seats(1), limit, || ()).await.0.expect("room"));
    }
    let timed_out = classified.acquire(&fairness, Work::seats(1), limit, || ()).await;
    assert_eq!(timed_out.0.err(), Some(Rejection::TimeOut));
    {
        let gone = classified.acquire(&fairness, Work::seats(1), limit, || ());
        tokio::pin!(gone);
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert_eq!(classified.level().running.look(|set| set.waiting()), 1);
    }
    assert_eq!(classified.level().running.look(|set| set.waiting()), 0);
    let waits = classified.acquire(&fairness, Work::seats(1), limit, || ());
    tokio::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    seats.pop();
    assert!(waits.await.0.is_ok());
    drop(seats);
    assert!(classified.level().running.look(|set| set.is_idle()));
}

#[tokio::test(start_paused = true)]
async fn busy_levels_borrow_what_idle_ones_lend() {
    let fairness = fairness(100);
    tokio::spawn(fairness.clone().balance());
    let account = User::service_account("default", "busy", "");
    let level = fairness.plan().levels["workload-low"].clone();
    let before = level.running.look(|set| set.limit());
    for _ in 0..5 * before {
        let (fairness, account) = (fairness.clone(), account.clone());
        tokio::spawn(async move {
            let classified = fairness.classify(&request(&account, "get", "", "pods"));
            let seat = classified.acquire(&fairness, Work::seats(1), Duration::from_secs(60), || ()).await;
            tokio::time::sleep(Duration::from_secs(15)).await;
            drop(seat);
        });
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let during = level.running.look(|set| set.limit());
    assert!(during > before, "{during} after {before}");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(level.running.look(|set| set.is_idle()));
}

#[tokio::test]
async fn without_contention_nothing_is_left_behind() {
    let fairness = fairness(600);
    let account = User::service_account("default", "x", "");
    for _ in 0..10_000 {
        let classified = fairness.classify(&request(&account, "get", "", "pods"));
        let (seat, _) = classified.acquire(&fairness, Work::seats(1), Duration::from_secs(1), || ()).await;
        assert!(seat.is_ok());
    }
    let level = fairness.plan().levels["workload-low"].clone();
    assert!(level.running.look(|set| set.is_idle() && set.virtual_time() >= 0.0));
}
