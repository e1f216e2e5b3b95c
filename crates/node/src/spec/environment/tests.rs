use super::*;

fn facts() -> NodeFacts {
    NodeFacts {
        host_ip: [10, 0, 0, 9].into(),
        pod_ips: vec![[10, 0, 0, 1].into()],
        allocatable_cpu_millis: 4000,
        allocatable_memory: 1 << 30,
        allocatable_storage: 1 << 40,
    }
}

fn sources() -> Sources {
    let map = serde_json::from_value(serde_json::json!({"data": {"k": "v", "bad=key": "x"}}))
        .expect("a config map");
    let secret = serde_json::from_value(serde_json::json!({"data": {"pw": "aGk="}})).expect("a secret");
    Sources {
        config_maps: BTreeMap::from([("map".to_owned(), map)]),
        secrets: BTreeMap::from([("sec".to_owned(), secret)]),
    }
}

fn check(container: serde_json::Value, expected: Result<&[(&str, &str)], &str>) {
    let pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}}))
    .expect("a pod");
    let mut container = container;
    container["name"] = "c".into();
    let container: Container = serde_json::from_value(container).expect("a container");
    let services = BTreeMap::from([("SVC_SERVICE_HOST".to_owned(), "10.1.1.1".to_owned())]);
    let got = build(&pod, &container, &sources(), &services, &facts());
    match (got, expected) {
        (Ok(got), Ok(expected)) => {
            let mut all: Vec<(&str, &str)> =
                got.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(all.pop(), Some(("SVC_SERVICE_HOST", "10.1.1.1")));
            assert_eq!(all, expected);
        }
        (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
        (got, expected) => panic!("{got:?} is not {expected:?}"),
    }
}

#[test]
fn variables_come_in_order_and_see_the_ones_before() {
    use serde_json::json;
    check(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)$(SVC_SERVICE_HOST)"},
            {"name": "C", "value": "3"}, {"name": "E"}]}),
        Ok(&[("A", "1"), ("B", "1$(C)10.1.1.1"), ("C", "3"), ("E", "")]),
    );
    check(
        json!({"envFrom": [{"configMapRef": {"name": "map"}, "prefix": "P_"}, {"secretRef": {"name": "sec"}}],
            "env": [{"name": "pw", "value": "over"}]}),
        Ok(&[("P_k", "v"), ("pw", "over")]),
    );
    check(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}}]}),
        Ok(&[("A", "10.0.0.1"), ("B", "v"), ("C", "hi")]),
    );
}

#[test]
fn what_is_missing_is_an_error_unless_optional() {
    use serde_json::json;
    check(json!({"envFrom": [{"configMapRef": {"name": "no"}}]}), Err("configmap \"no\" not found"));
    check(json!({"envFrom": [{"configMapRef": {"name": "no", "optional": true}}]}), Ok(&[]));
    check(
        json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}),
        Err("secret \"no\" not found"),
    );
    check(
        json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k"}}}]}),
        Err("couldn't find key k in Secret n/sec"),
    );
    check(
        json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "x"}}}]}),
        Err("couldn't find key x in ConfigMap n/map"),
    );
    check(
        json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "x", "optional": true}}}]}),
        Ok(&[]),
    );
}

#[test]
fn keys_that_are_no_names_are_reported() {
    let container = serde_json::from_value(
        serde_json::json!({"name": "c", "envFrom": [{"configMapRef": {"name": "map"}}]}),
    )
    .expect("a container");
    let pod = Pod::default();
    let got = build(&pod, &container, &sources(), &BTreeMap::new(), &facts()).expect("builds");
    assert_eq!(got.skipped.len(), 1);
    assert!(
        got.skipped[0].starts_with("Keys [bad=key] from the EnvFrom configMap /map were skipped"),
        "{got:?}"
    );
}
