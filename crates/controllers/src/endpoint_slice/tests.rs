use serde_json::json;

use super::*;
use crate::controller::Fleet;
use crate::testing::{Bench, until};

fn service(spec: serde_json::Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": spec}))
        .expect("a service")
}

fn pod(patch: serde_json::Value) -> ServicePod {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "1"},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
    for (path, value) in patch.as_object().into_iter().flatten() {
        let (parent, name) = path.rsplit_once('/').expect("a path");
        pod.pointer_mut(parent).expect("exists")[name] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn zone(node: &str) -> Option<String> {
    Some(format!("zone-of-{node}"))
}

#[test]
fn conditions_follow_the_pod() {
    let plain = json!({"ports": [{"port": 80, "targetPort": "web"}]});
    let published = json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true});
    let unready = json!({"/status/conditions": [{"type": "Ready", "status": "False"}]});
    let terminating = json!({"/metadata/deletionTimestamp": "2024-01-01T00:00:00Z"});
    for (spec, patch, expected) in [
        (&plain, json!({}), Some([true, true, false])),
        (&plain, unready.clone(), Some([false, false, false])),
        (&plain, terminating, Some([false, true, true])),
        (&published, unready, Some([true, false, false])),
        (&plain, json!({"/status/phase": "Succeeded"}), None),
        (&plain, json!({"/status/phase": "Failed"}), None),
        (&plain, json!({"/status/podIP": "", "/status/podIPs": []}), None),
    ] {
        let wanted = wanted(&service(spec.clone()), &[pod(patch.clone())], zone);
        let conditions = wanted.values().flatten().next().and_then(|endpoint| endpoint.conditions.clone());
        let flags =
            conditions.map(|one| [one.ready, one.serving, one.terminating].map(Option::unwrap_or_default));
        assert_eq!(flags, expected, "{patch}");
    }
}

#[test]
fn ports_are_those_of_each_pod() {
    let named = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}));
    let other = pod(
        json!({"/spec/containers": [{"ports": [{"name": "web", "containerPort": 9090}]}], "/metadata/uid": "2"}),
    );
    let unnamed = pod(json!({"/spec/containers": [{}], "/metadata/uid": "3"}));
    let wanted_ports: Vec<Vec<i32>> = wanted(&named, &[pod(json!({})), other, unnamed], zone)
        .into_keys()
        .map(|(_, ports)| ports.into_iter().map(|port| port.port).collect())
        .collect();
    assert_eq!(wanted_ports, [vec![], vec![8080], vec![9090]]);
    let headless = service(json!({"clusterIP": "None", "ipFamilies": ["IPv6", "IPv4"]}));
    let families: Vec<(service_pods::Family, usize)> = wanted(&headless, &[pod(json!({}))], zone)
        .into_keys()
        .map(|(family, ports)| (family, ports.len()))
        .collect();
    assert_eq!(families, [(service_pods::Family::IPv4, 0), (service_pods::Family::IPv6, 0)]);
}

#[test]
fn endpoints_name_their_pod() {
    let hosted = pod(json!({"/spec/hostname": "web-0", "/spec/subdomain": "s"}));
    let service = service(json!({"ports": [{"port": 80}]}));
    let endpoint = wanted(&service, &[hosted], zone).into_values().flatten().next().expect("one");
    assert_eq!(endpoint.hostname.as_deref(), Some("web-0"));
    assert_eq!(endpoint.zone.as_deref(), Some("zone-of-a"));
    assert_eq!(endpoint.target_ref.and_then(|target| target.uid).as_deref(), Some("1"));
}

/// Readiness of each endpoint of a slice.
fn readiness(slice: &serde_json::Value) -> Vec<bool> {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints.map(|endpoint| endpoint["conditions"]["ready"] == true).collect()
}

#[tokio::test]
async fn slices_follow_pods() {
    let mut bench = Bench::start().await;
    let mut fleet = Fleet::default();
    fleet.add_with(bench.shared.clone(), EndpointSlices::default());
    fleet.add_with(bench.shared.clone(), crate::endpoints::LegacyEndpoints::default());
    fleet.add_with(bench.shared.clone(), crate::endpoint_slice_mirroring::EndpointSliceMirrors::default());
    let running = fleet.start(bench.take_feed());
    let selecting = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "clusterIP": "10.1.0.1", "ports": [{"port": 80}]}});
    bench.create("", "v1", "services", "n", selecting).await;
    // Somebody else's endpoints are mirrored and otherwise left alone.
    let own =
        json!({"metadata": {"name": "own"}, "spec": {"clusterIP": "10.1.0.2", "ports": [{"port": 80}]}});
    bench.create("", "v1", "services", "n", own).await;
    bench
        .create(
            "",
            "v1",
            "endpoints",
            "n",
            json!({"metadata": {"name": "own"}, "subsets": [{"addresses": [{"ip": "10.9.9.9"}]}]}),
        )
        .await;
    let slices = ("discovery.k8s.io", "endpointslices");
    until(&bench, slices, |slice| slice["metadata"]["labels"][SERVICE_NAME] == "own").await;
    let placeholder = until(&bench, slices, |slice| slice["metadata"]["labels"][SERVICE_NAME] == "s").await;
    assert_eq!(readiness(&placeholder), [] as [bool; 0]);
    let ready = |ready: &str| json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]});
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"containers": []}, "status": ready("True")});
    bench.create("", "v1", "pods", "n", pod).await;
    let slice = until(&bench, slices, |slice| {
        readiness(slice) == [true] && slice["metadata"]["labels"][SERVICE_NAME] == "s"
    })
    .await;
    until(&bench, ("", "endpoints"), |endpoints| endpoints["subsets"][0]["addresses"][0]["ip"] == "10.0.0.1")
        .await;
    let pods = bench.shared.client.namespaced::<k8s_openapi::api::core::v1::Pod>("n");
    let unready = json!({"status": ready("False")});
    pods.patch_status("p", sampan_client::PatchKind::Merge, &unready).await.expect("patched");
    let changed = until(&bench, slices, |one| readiness(one) == [false]).await;
    assert_eq!(changed["metadata"]["name"], slice["metadata"]["name"]);
    until(&bench, ("", "endpoints"), |endpoints| {
        endpoints["subsets"][0]["notReadyAddresses"][0]["ip"] == "10.0.0.1"
    })
    .await;
    bench.delete("", "v1", "services", "n", "s").await;
    let mut left = None;
    while left != Some(vec!["own".to_owned()]) {
        tokio::task::yield_now().await;
        let all = bench.shared.view.of(Kind::Endpoints).list("n");
        left = Some(all.iter().map(|endpoints| endpoints.header.name.to_string()).collect());
    }
    running.stop().await;
}
