use serde_json::json;

use super::*;
use crate::testing::TestServer;

async fn server() -> TestServer {
    let server = TestServer::start().await;
    for name in [NAMESPACE, "default"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        server.create("/api/v1/namespaces", &namespace).await;
    }
    server
}

fn elector(server: &TestServer, identity: &str) -> Elector {
    let timing = Timing {
        duration: Duration::from_secs(1),
        renew_within: Duration::from_millis(700),
        retry: Duration::from_millis(100),
    };
    Elector::new(server.server.registry.clone(), "kube-scheduler", identity.to_owned()).with_timing(timing)
}

async fn write_under(server: &TestServer, fence: &Fence, name: &str) -> Result<(), Status> {
    let registry = &server.server.registry;
    let resource = registry.resource(&Gvr::new("", "v1", "configmaps"))?;
    let mut context = Context::new(User::component("system:apiserver", &[MASTERS_GROUP]));
    context.fence = Some(fence.clone());
    let object = json!({"metadata": {"name": name}});
    registry.create_value(&resource, Some("default"), object, &mut context).await.map(|_| ())
}

#[tokio::test]
async fn one_leads_and_is_succeeded_at_once_when_it_gives_up() {
    let server = server().await;
    let first = elector(&server, "first").acquire(|| {}).await.expect("nobody leads");
    write_under(&server, &first.fence(), "a").await.expect("it leads");
    let other = elector(&server, "other");
    let (seen, follows) = tokio::sync::oneshot::channel();
    let mut seen = Some(seen);
    let waiting = tokio::spawn(async move {
        other
            .acquire(|| {
                if let Some(seen) = seen.take() {
                    let _ = seen.send(());
                }
            })
            .await
    });
    follows.await.expect("sees that another one leads");
    let fence = first.fence();
    first.release().await;
    let second = waiting.await.expect("does not panic").expect("leads");
    let refused = write_under(&server, &fence, "b").await.expect_err("its term is over");
    assert_eq!(refused.code, 409, "{refused}");
    write_under(&server, &second.fence(), "b").await.expect("it leads");
    let lease = server.server.registry.get(&LEASES, Some(NAMESPACE), "kube-scheduler").expect("is there");
    assert_eq!(decode(&lease)["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn one_that_is_held_up_loses_its_term_and_cannot_write() {
    let server = server().await;
    let mut first = elector(&server, "first").acquire(|| {}).await.expect("nobody leads");
    // It does not renew, as one that is stopped does not.
    let second = elector(&server, "second").acquire(|| {}).await.expect("the lease ran out");
    write_under(&server, &first.fence(), "a").await.expect_err("its term is over");
    first.hold().await;
    write_under(&server, &second.fence(), "a").await.expect("it leads");
}

#[tokio::test]
async fn what_others_change_of_a_lease_does_not_end_it() {
    let server = server().await;
    let mut first = elector(&server, "first").acquire(|| {}).await.expect("nobody leads");
    let registry = &server.server.registry;
    let resource = registry.resource(&LEASES).expect("is built in");
    registry.caches.applied(first.revision).await;
    let stored = registry.get(&LEASES, Some(NAMESPACE), "kube-scheduler").expect("is there");
    let mut lease = decode(&stored);
    lease["metadata"]["labels"] = json!({"a": "b"});
    let write = Write::update(lease_key(&resource, &stored), stored.header.revision, encode(&lease));
    registry.store().commit_all(vec![write]).await.expect("matches");
    assert!(matches!(first.renew().await, Renewal::Again));
    assert!(matches!(first.renew().await, Renewal::Done));
    assert_eq!(first.lease["metadata"]["labels"]["a"], "b");
}
