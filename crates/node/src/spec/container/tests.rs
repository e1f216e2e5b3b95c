use serde_json::{Value, json};

use super::*;

fn build_spec(
    pod: Value,
    container: Value,
    image: ImageConfig,
    identity: Identity,
) -> Result<Value, SpecError> {
    let mut pod = pod;
    pod["containers"] = json!([]);
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": pod});
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    let mut container = container;
    container["name"] = "c".into();
    let container: Container = serde_json::from_value(container).expect("a container");
    let environment = [("A".to_owned(), "1".to_owned())];
    let inputs = Inputs {
        pod: &pod,
        container: &container,
        image: &image,
        id: "id",
        rootfs: Path::new("/r"),
        identity: &identity,
        environment: &environment,
        volumes: &[],
        files: &PodFiles::default(),
        network_namespace: Some(Path::new("/ns")),
        cgroup_parent: Path::new("/sampan/kubepods/besteffort/podu"),
        hostname: "p",
        memory_capacity: 1 << 30,
        pids_limit: 100,
        seccomp_dir: Path::new("/nowhere"),
    };
    build(&inputs).map(|spec| serde_json::to_value(spec).expect("serialises"))
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["cmd".into()],
        env: vec!["PATH=/bin".into(), "A=0".into(), "B=2".into()],
        working_dir: "/work".into(),
        ..ImageConfig::default()
    }
}

#[test]
fn command_and_args_stand_for_the_images() {
    let check = |container: Value, image: ImageConfig, expected: Option<&[&str]>| {
        let spec = build_spec(json!({}), container.clone(), image, Identity::default());
        match expected {
            Some(expected) => {
                assert_eq!(spec.expect("builds")["process"]["args"], json!(expected), "{container}")
            }
            None => assert!(matches!(spec, Err(SpecError::NoCommand)), "{container}"),
        }
    };
    check(json!({}), image(), Some(&["/entry", "cmd"]));
    check(json!({"args": ["$(A)", "$(X)"]}), image(), Some(&["/entry", "1", "$(X)"]));
    check(json!({"command": ["/other"]}), image(), Some(&["/other"]));
    check(json!({"command": ["/other"], "args": ["x"]}), image(), Some(&["/other", "x"]));
    check(json!({}), ImageConfig::default(), None);
}

#[test]
fn the_pods_variables_change_the_images() {
    let identity = Identity { home: "/home".into(), ..Identity::default() };
    let spec = build_spec(json!({}), json!({"tty": true}), image(), identity).expect("builds");
    assert_eq!(
        spec["process"]["env"],
        json!(["PATH=/bin", "HOSTNAME=p", "TERM=xterm", "A=1", "B=2", "HOME=/home"])
    );
    assert_eq!(spec["process"]["cwd"], "/work");
}

#[test]
fn a_plain_container_is_confined() {
    let spec = build_spec(json!({}), json!({}), image(), Identity::default()).expect("builds");
    assert_eq!(spec["linux"]["cgroupsPath"], "/sampan/kubepods/besteffort/podu/id");
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(spec["process"]["noNewPrivileges"], false);
    assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 100);
    assert!(
        spec["linux"]["maskedPaths"].as_array().is_some_and(|paths| paths.contains(&json!("/proc/kcore")))
    );
    let bounding = spec["process"]["capabilities"]["bounding"].as_array().expect("a list");
    assert!(!bounding.contains(&json!("CAP_SYS_ADMIN")) && bounding.contains(&json!("CAP_CHOWN")));
    assert!(spec["linux"].get("devices").is_none_or(Value::is_null));
}

#[test]
fn what_a_container_asks_of_its_security() {
    let secure = |security: Value| {
        build_spec(json!({}), json!({"securityContext": security}), image(), Identity::default())
            .expect("builds")
    };
    let privileged = secure(json!({"privileged": true}));
    assert!(privileged["linux"].get("seccomp").is_none());
    assert!(privileged["linux"].get("maskedPaths").is_none_or(Value::is_null));
    assert_eq!(privileged["linux"]["resources"]["devices"][0]["allow"], true);
    assert_eq!(secure(json!({"allowPrivilegeEscalation": false}))["process"]["noNewPrivileges"], true);
    assert_eq!(secure(json!({"readOnlyRootFilesystem": true}))["root"]["readonly"], true);
    assert!(secure(json!({"procMount": "Unmasked"}))["linux"].get("maskedPaths").is_none_or(Value::is_null));
    let user = Identity { uid: 1000, gid: 5, groups: vec![7], home: "/".into() };
    let spec = build_spec(json!({}), json!({}), image(), user).expect("builds");
    assert_eq!(spec["process"]["user"], json!({"uid": 1000, "gid": 5, "additionalGids": [7]}));
    assert!(spec["process"]["capabilities"].get("effective").is_none_or(Value::is_null));
}

#[test]
fn limits_and_sysctls_reach_the_kernel() {
    let pod = json!({"securityContext": {"sysctls": [{"name": "net/core/somaxconn", "value": "10"}]}});
    let container = json!({"resources": {"limits": {"cpu": "500m", "memory": "1Mi"}}});
    let spec = build_spec(pod, container, image(), Identity::default()).expect("builds");
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["cpu"], json!({"shares": 512, "quota": 50000, "period": 100000}));
    assert_eq!(resources["memory"]["limit"], 1 << 20);
    assert_eq!(spec["linux"]["sysctl"], json!({"net.core.somaxconn": "10"}));
}
