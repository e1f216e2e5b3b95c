use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use sampan_api::Status;
use sampan_client::DeleteOptions;
use sampan_client::testing::MemoryBackend;
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::fixtures::{node_json, pod_json, with};

/// A scheduler on an API in memory.
struct Bench {
    backend: Arc<MemoryBackend>,
    client: Client,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    async fn start(nodes: Vec<Value>) -> Self {
        let backend = MemoryBackend::shared();
        let client = Client::new(backend.clone());
        for node in nodes {
            create::<Node>(&client, &node).await;
        }
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let tell = || ready.send(()).expect("the test waits");
        let task = tokio::spawn(run(client.clone(), SchedulerConfig::default(), tell, shutdown));
        is_ready.await.expect("becomes ready");
        Bench { backend, client, stop, task }
    }

    async fn pod(&self, name: &str, more: &Value) {
        create::<Pod>(&self.client, &pod_json(name, more)).await;
    }

    /// Waits until the pods are as wanted.
    async fn until(&self, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let pods = self.client.all::<Pod>();
        let watch = async {
            let mut changes = pods.watch(&ListOptions::default()).await.expect("works");
            loop {
                let now = pods.list(&ListOptions::default()).await.expect("works");
                if wanted(&now) {
                    return now;
                }
                changes.next().await.expect("open").expect("an event");
            }
        };
        // Of the paused clock: it runs only while nothing else does.
        tokio::time::timeout(Duration::from_secs(600), watch).await.expect("the pods never were as wanted")
    }

    /// Stops the scheduler; answers type, reason, object and message of its events.
    async fn stop(self) -> Vec<(String, String, String, String)> {
        self.stop.send(()).expect("runs");
        self.task.await.expect("does not panic");
        let events = self.client.all::<Event>().list(&ListOptions::default()).await.expect("works");
        let mut told: Vec<_> = events
            .into_iter()
            .map(|event| {
                let text = |text: Option<String>| text.unwrap_or_default();
                let about = text(event.involved_object.name);
                (text(event.type_), text(event.reason), about, text(event.message))
            })
            .collect();
        told.sort();
        told
    }
}

async fn create<T: Resource>(client: &Client, value: &Value) {
    let object: T = serde_json::from_value(value.clone()).expect("is one");
    let namespace = object.metadata().namespace.clone();
    match namespace {
        Some(namespace) => drop(client.namespaced::<T>(&namespace).create(&object).await.expect("is new")),
        None => drop(client.all::<T>().create(&object).await.expect("is new")),
    }
}

fn node_of<'a>(pods: &'a [Pod], name: &str) -> Option<&'a str> {
    pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name))?.spec.as_ref()?.node_name.as_deref()
}

fn asking(cpu: &str, priority: i32) -> Value {
    let container = json!({ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } });
    json!({ "spec": { "priority": priority, "containers": [container] } })
}

fn scheduled_condition(pod: &Pod) -> Option<(String, String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some((condition.status.clone(), text(&condition.reason), text(&condition.message)))
}

fn owned(told: &(&str, &str, &str, &str)) -> (String, String, String, String) {
    (told.0.to_owned(), told.1.to_owned(), told.2.to_owned(), told.3.to_owned())
}

#[tokio::test(start_paused = true)]
async fn gives_its_own_pods_a_node_and_no_other() {
    let bench = Bench::start(vec![node_json("a", &json!({}))]).await;
    bench.pod("other", &json!({ "spec": { "schedulerName": "other" } })).await;
    bench.pod("gated", &json!({ "spec": { "schedulingGates": [{ "name": "g" }] } })).await;
    bench.pod("p", &json!({})).await;
    let pods = bench.until(|pods| node_of(pods, "p") == Some("a")).await;
    assert_eq!(node_of(&pods, "other"), None);
    assert_eq!(node_of(&pods, "gated"), None);
    let ungated = json!({ "spec": { "schedulingGates": null } });
    bench
        .client
        .namespaced::<Pod>("default")
        .patch("gated", sampan_client::PatchKind::Merge, &ungated)
        .await
        .expect("works");
    bench.until(|pods| node_of(pods, "gated") == Some("a")).await;
    let message = "Successfully assigned default/p to a";
    assert!(bench.stop().await.contains(&owned(&("Normal", "Scheduled", "p", message))));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_gets_the_node_that_comes() {
    let bench = Bench::start(vec![node_json("a", &json!({}))]).await;
    bench.pod("p", &asking("6", 0)).await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 Preemption is not helpful for scheduling.";
    let condition = ("False".to_owned(), "Unschedulable".to_owned(), message.to_owned());
    bench.until(|pods| scheduled_condition(&pods[0]).as_ref() == Some(&condition)).await;
    create::<Node>(&bench.client, &node_json("b", &json!({ "status": { "allocatable": { "cpu": "8" } } })))
        .await;
    let pods = bench.until(|pods| node_of(pods, "p") == Some("b")).await;
    assert_eq!(scheduled_condition(&pods[0]).map(|(status, _, _)| status), Some("True".to_owned()));
    let told = bench.stop().await;
    assert!(told.contains(&owned(&("Warning", "FailedScheduling", "p", message))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn no_nodes_is_a_reason_too() {
    let bench = Bench::start(vec![]).await;
    bench.pod("p", &json!({})).await;
    let told = |pods: &[Pod]| scheduled_condition(&pods[0]).map(|(_, _, message)| message);
    bench.until(|pods| told(pods).as_deref() == Some("no nodes available to schedule pods")).await;
    create::<Node>(&bench.client, &node_json("a", &json!({}))).await;
    bench.until(|pods| node_of(pods, "p") == Some("a")).await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_fails_is_forgotten_and_tried_again() {
    let bench = Bench::start(vec![node_json("a", &json!({}))]).await;
    let failures = AtomicUsize::new(0);
    bench.backend.intercept(move |verb, target| {
        let binding = verb == "create" && target.subresource == Some("binding") && target.name == "p";
        if binding && failures.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(Status::internal("the disk is on fire"));
        }
        Ok(())
    });
    bench.pod("p", &asking("3", 0)).await;
    bench.pod("q", &asking("1", 0)).await;
    bench.until(|pods| node_of(pods, "p") == Some("a") && node_of(pods, "q") == Some("a")).await;
    let told = bench.stop().await;
    let text = "binding rejected: Internal error occurred: the disk is on fire";
    assert!(told.contains(&owned(&("Warning", "FailedScheduling", "p", text))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn room_is_made_for_an_important_pod() {
    let bench = Bench::start(vec![node_json("a", &json!({}))]).await;
    bench.pod("low", &asking("4", 1)).await;
    bench.until(|pods| node_of(pods, "low") == Some("a")).await;
    bench.pod("high", &asking("3", 9)).await;
    bench.until(|pods| node_of(pods, "high") == Some("a")).await;
    let pods = bench.until(|pods| node_of(pods, "low").is_none()).await;
    assert_eq!(pods.len(), 1, "the victim is gone");
    let uid = pods[0].metadata.uid.clone().unwrap_or_default();
    let told = bench.stop().await;
    let text = format!("Preempted by pod {uid} on node a");
    assert!(told.contains(&owned(&("Normal", "Preempted", "low", &text))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_preemption_that_fails_is_tried_again() {
    let bench = Bench::start(vec![node_json("a", &json!({}))]).await;
    let failures = AtomicUsize::new(0);
    bench.backend.intercept(move |verb, target| {
        let refused =
            verb == "delete" && target.name == "low" && failures.fetch_add(1, Ordering::Relaxed) < 2;
        if refused { Err(Status::unavailable("try again")) } else { Ok(()) }
    });
    bench.pod("low", &asking("4", 1)).await;
    bench.until(|pods| node_of(pods, "low") == Some("a")).await;
    bench.pod("high", &asking("3", 9)).await;
    bench.until(|pods| node_of(pods, "high") == Some("a")).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_victim_that_takes_its_time_is_waited_for() {
    let bench = Bench::start(vec![node_json("a", &json!({})), node_json("b", &json!({}))]).await;
    let slow = json!({ "metadata": { "finalizers": ["example.com/slow"] } });
    bench.pod("low", &with(asking("4", 1), &slow)).await;
    bench.pod("lower", &with(asking("4", 0), &slow)).await;
    bench.until(|pods| node_of(pods, "low").is_some() && node_of(pods, "lower").is_some()).await;
    bench.pod("high", &asking("3", 9)).await;
    let going = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    let nominated = |pods: &[Pod]| {
        pods.iter().any(|pod| pod.status.as_ref().is_some_and(|status| status.nominated_node_name.is_some()))
    };
    let pods = bench.until(|pods| nominated(pods) && pods.iter().any(|pod| going(&pod))).await;
    let free = node_of(&pods, "lower").map(str::to_owned);
    // A pod that fits nowhere else must not take the room that is being made.
    bench.pod("small", &asking("2", 5)).await;
    bench
        .until(|pods| {
            pods.iter().any(|pod| {
                pod.metadata.name.as_deref() == Some("small") && scheduled_condition(pod).is_some()
            })
        })
        .await;
    let done = json!({ "metadata": { "finalizers": null } });
    let pods = bench.client.namespaced::<Pod>("default");
    pods.patch("lower", sampan_client::PatchKind::Merge, &done).await.expect("works");
    let pods = bench.until(|pods| node_of(pods, "high").is_some()).await;
    assert_eq!(node_of(&pods, "high").map(str::to_owned), free);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_pods_fill_the_nodes_and_no_more() {
    let nodes = (0..5).map(|at| node_json(&format!("n{at}"), &json!({}))).collect();
    let bench = Bench::start(nodes).await;
    for at in 0..50 {
        bench.pod(&format!("p{at:02}"), &asking("500m", 0)).await;
        if at == 20 {
            bench.backend.break_watches();
        }
    }
    let placed = |pods: &[Pod]| {
        pods.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).count()
    };
    let pods = bench
        .until(|pods| {
            placed(pods) == 40 && pods.iter().filter(|pod| scheduled_condition(pod).is_some()).count() == 50
        })
        .await;
    for at in 0..5 {
        let name = format!("n{at}");
        let here = pods
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name));
        assert_eq!(here.count(), 8, "on {name}");
    }
    let gone = pods.iter().find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
    let gone = gone.and_then(|pod| pod.metadata.name.clone()).expect("some are placed");
    bench
        .client
        .namespaced::<Pod>("default")
        .delete(&gone, &DeleteOptions::default())
        .await
        .expect("is there");
    bench.until(|pods| pods.len() == 49 && placed(pods) == 40).await;
    bench.stop().await;
}
