//! The checks, one table.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Level, Violation};

/// A pod or a template of pods.
pub(super) struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

type Run = fn(&Pod<'_>) -> Option<Violation>;

pub(super) struct Check {
    pub name: &'static str,
    pub level: Level,
    /// The first minor version of the standards that has it.
    pub from: u32,
    /// The first one that no longer has it.
    pub until: Option<u32>,
    /// The baseline check that this one stands for.
    pub overrides: Option<&'static str>,
    /// Whether it is about what only Linux has.
    pub linux_only: bool,
    pub run: Run,
}

const fn baseline(name: &'static str, from: u32, run: Run) -> Check {
    Check { name, level: Level::Baseline, from, until: None, overrides: None, linux_only: false, run }
}

const fn restricted(name: &'static str, from: u32, run: Run) -> Check {
    Check { level: Level::Restricted, ..baseline(name, from, run) }
}

impl Check {
    const fn until(self, minor: u32) -> Check {
        Check { until: Some(minor), ..self }
    }

    const fn instead_of(self, name: &'static str) -> Check {
        Check { overrides: Some(name), ..self }
    }

    const fn linux_only(self) -> Check {
        Check { linux_only: true, ..self }
    }
}

/// In the order in which violations are told.
pub(super) static CHECKS: [Check; 27] = [
    baseline("appArmorProfile", 0, app_armor),
    baseline("capabilities_baseline", 0, default_capabilities),
    baseline("hostNamespaces", 0, host_namespaces),
    baseline("hostPathVolumes", 0, host_paths),
    baseline("hostPorts", 0, host_ports),
    baseline("hostProbesAndHostLifecycle", 34, probed_hosts),
    baseline("privileged", 0, privileged),
    baseline("procMount", 0, proc_mount).until(35),
    baseline("procMount", 35, |pod| if has_own_users(pod) { None } else { proc_mount(pod) }),
    baseline("seLinuxOptions", 0, |pod| se_linux(pod, &SE_LINUX_TYPES[..4])).until(31),
    baseline("seLinuxOptions", 31, |pod| se_linux(pod, &SE_LINUX_TYPES)),
    baseline("seccompProfile_baseline", 0, seccomp_annotations).until(19),
    baseline("seccompProfile_baseline", 19, seccomp_baseline),
    baseline("sysctls", 0, |pod| sysctls(pod, 5)).until(27),
    baseline("sysctls", 27, |pod| sysctls(pod, 6)).until(29),
    baseline("sysctls", 29, |pod| sysctls(pod, 10)).until(32),
    baseline("sysctls", 32, |pod| sysctls(pod, 12)),
    baseline("windowsHostProcess", 0, host_process),
    restricted("allowPrivilegeEscalation", 8, privilege_escalation).linux_only(),
    restricted("capabilities_restricted", 22, dropped_capabilities)
        .instead_of("capabilities_baseline")
        .linux_only(),
    restricted("procMount_restricted", 35, proc_mount).instead_of("procMount"),
    restricted("restrictedVolumes", 0, volume_types).instead_of("hostPathVolumes"),
    restricted("runAsNonRoot", 0, run_as_non_root).until(35),
    restricted("runAsNonRoot", 35, |pod| if has_own_users(pod) { None } else { run_as_non_root(pod) }),
    restricted("runAsUser", 23, run_as_user).until(35),
    restricted("runAsUser", 35, |pod| if has_own_users(pod) { None } else { run_as_user(pod) }),
    restricted("seccompProfile_restricted", 19, seccomp_restricted)
        .instead_of("seccompProfile_baseline")
        .linux_only(),
];

const SE_LINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// In the order in which versions allowed them: 1.0, 1.27, 1.29, 1.32.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(|list| items(&spec[list]))
    }

    /// The names of the containers of which something holds.
    fn named(&self, holds: impl FnMut(&&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(holds).map(|container| text(&container["name"])).collect()
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let annotations = self.metadata["annotations"].as_object().into_iter().flatten();
        annotations.map(|(name, value)| (name.as_str(), text(value)))
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn quoted<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names.iter().copied()))
}

/// Who set something: the pod, some of its containers, or both.
fn setters(pod: bool, names: &[&str]) -> String {
    let by_pod = pod.then(|| "pod".to_owned());
    let by_containers = (!names.is_empty()).then(|| containers(names));
    by_pod.into_iter().chain(by_containers).collect::<Vec<_>>().join(" and ")
}

fn forbidden(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

/// Whether root in the pod is nobody outside of it (KEP-127).
fn has_own_users(pod: &Pod<'_>) -> bool {
    pod.spec["hostUsers"] == false
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut is_bad = |security: &Value| {
        let profile = &security["appArmorProfile"];
        let bad = profile.is_object() && !matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(text(&profile["type"]).to_owned());
        }
        bad
    };
    let by_pod = is_bad(&pod.spec["securityContext"]);
    let names = pod.named(|container| is_bad(&container["securityContext"]));
    let fine = |value: &str| matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
    let annotated = pod.annotations().filter(|(name, value)| name.starts_with(ANNOTATION) && !fine(value));
    let annotated: BTreeSet<String> = annotated.map(|(name, value)| format!("{name}={value:?}")).collect();
    let by_annotation =
        (!annotated.is_empty()).then(|| plural(annotated.len(), "annotation", "annotations").to_owned());
    let by_fields = Some(setters(by_pod, &names)).filter(|setters| !setters.is_empty());
    let setters: Vec<String> = by_fields.into_iter().chain(by_annotation).collect();
    if setters.is_empty() {
        return None;
    }
    let values: Vec<&str> = values.iter().chain(&annotated).map(String::as_str).collect();
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let what = quoted(values.iter().copied());
    forbidden(reason, format!("{} must not set AppArmor profile type to {what}", setters.join(" and ")))
}

fn default_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = pod.named(|container| {
        let capabilities = items(&container["securityContext"]["capabilities"]["add"]).iter().map(text);
        let before: Vec<&str> = capabilities.filter(|one| !DEFAULT_CAPABILITIES.contains(one)).collect();
        added.extend(before.iter().map(|one| (*one).to_owned()));
        !before.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let added = quoted(added.iter().map(String::as_str));
    let detail =
        format!("{} must not include {added} in securityContext.capabilities.add", containers(&names));
    forbidden("non-default capabilities", detail)
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { forbidden("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = items(&pod.spec["volumes"]).iter().filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<&str> = volumes.map(|volume| text(&volume["name"])).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(names.iter().copied()));
    forbidden("hostPath volumes", detail)
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = pod.named(|container| {
        let taken = items(&container["ports"]).iter().filter_map(|port| port["hostPort"].as_i64());
        let taken: Vec<String> = taken.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let any = !taken.is_empty();
        ports.extend(taken);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (uses, noun) = (plural(names.len(), "uses", "use"), plural(ports.len(), "hostPort", "hostPorts"));
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    forbidden("hostPort", format!("{} {uses} {noun} {}", containers(&names), ports.join(", ")))
}

fn probed_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let names = pod.named(|container| {
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        let asked = handlers.iter().flat_map(|handler| [&handler["httpGet"], &handler["tcpSocket"]]);
        let asked: Vec<&str> = asked.map(|way| text(&way["host"])).filter(|host| !host.is_empty()).collect();
        hosts.extend(asked.iter().map(|host| (*host).to_owned()));
        !asked.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = names.into_iter().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural(names.len(), "uses", "use");
    let noun = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    let hosts = quoted(hosts.iter().map(String::as_str));
    forbidden("probe or lifecycle host", format!("{} {uses} {noun} {hosts}", containers(&names)))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| container["securityContext"]["privileged"] == true);
    if names.is_empty() {
        return None;
    }
    forbidden("privileged", format!("{} must not set securityContext.privileged=true", containers(&names)))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = pod.named(|container| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    if names.is_empty() {
        return None;
    }
    let kinds = quoted(kinds.iter().map(String::as_str));
    forbidden(
        "procMount",
        format!("{} must not set securityContext.procMount to {kinds}", containers(&names)),
    )
}

fn se_linux(pod: &Pod<'_>, types: &[&str]) -> Option<Violation> {
    let (mut bad, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |security: &Value| {
        let options = &security["seLinuxOptions"];
        let kind = text(&options["type"]);
        let (sets_user, sets_role) = (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        if !types.contains(&kind) {
            bad.insert(kind.to_owned());
        }
        user |= sets_user;
        role |= sets_role;
        sets_user || sets_role || !types.contains(&kind)
    };
    let by_pod = is_bad(&pod.spec["securityContext"]);
    let names = pod.named(|container| is_bad(&container["securityContext"]));
    let setters = setters(by_pod, &names);
    if setters.is_empty() {
        return None;
    }
    let kinds = (!bad.is_empty()).then(|| {
        format!("{} {}", plural(bad.len(), "type", "types"), quoted(bad.iter().map(String::as_str)))
    });
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what: Vec<String> = kinds.into_iter().chain(user).chain(role).collect();
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    forbidden("seLinuxOptions", detail)
}

/// Before there was a field.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let known = |name: &str| {
        name == OF_POD
            || name.strip_prefix(OF_CONTAINER).is_some_and(|of| pod.containers().any(|one| one["name"] == of))
    };
    let fine = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let bad = pod.annotations().filter(|(name, value)| known(name) && !fine(value));
    let bad: BTreeSet<String> = bad.map(|(name, value)| format!("{name}={value:?}")).collect();
    if bad.is_empty() {
        return None;
    }
    let noun = plural(bad.len(), "annotation", "annotations");
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    forbidden("seccompProfile", format!("forbidden {noun} {}", bad.join(", ")))
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |security: &Value| {
        let profile = &security["seccompProfile"];
        let bad = profile.is_object() && !is_confined(profile);
        if bad {
            values.insert(text(&profile["type"]).to_owned());
        }
        bad
    };
    let by_pod = is_bad(&pod.spec["securityContext"]);
    let names = pod.named(|container| is_bad(&container["securityContext"]));
    let setters = setters(by_pod, &names);
    if setters.is_empty() {
        return None;
    }
    let values = quoted(values.iter().map(String::as_str));
    forbidden(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {values}"),
    )
}

fn is_confined(profile: &Value) -> bool {
    matches!(text(&profile["type"]), "Localhost" | "RuntimeDefault")
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_baseline(pod) {
        return Some(violation);
    }
    if is_confined(&pod.spec["securityContext"]["seccompProfile"]) {
        return None;
    }
    let names = pod.named(|container| !container["securityContext"]["seccompProfile"].is_object());
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&names)
    );
    forbidden("seccompProfile", detail)
}

fn sysctls(pod: &Pod<'_>, allowed: usize) -> Option<Violation> {
    let set = items(&pod.spec["securityContext"]["sysctls"]).iter().map(|sysctl| text(&sysctl["name"]));
    let bad: Vec<&str> = set.filter(|name| !SYSCTLS[..allowed].contains(name)).collect();
    if bad.is_empty() { None } else { forbidden("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let sets = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let names = pod.named(|container| sets(&container["securityContext"]));
    let setters = setters(sets(&pod.spec["securityContext"]), &names);
    if setters.is_empty() {
        return None;
    }
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    forbidden("hostProcess", detail)
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    forbidden("allowPrivilegeEscalation != false", detail)
}

fn dropped_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let of = |container: &Value, list: &str| -> Vec<String> {
        let capabilities = items(&container["securityContext"]["capabilities"][list]);
        capabilities.iter().map(|one| text(one).to_owned()).collect()
    };
    let keeping = pod.named(|container| !of(container, "drop").iter().any(|one| one == "ALL"));
    let mut added = BTreeSet::new();
    let adding = pod.named(|container| {
        let others: Vec<String> =
            of(container, "add").into_iter().filter(|one| one != "NET_BIND_SERVICE").collect();
        let any = !others.is_empty();
        added.extend(others);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details
            .push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let added = quoted(added.iter().map(String::as_str));
        details.push(format!(
            "{} must not include {added} in securityContext.capabilities.add",
            containers(&adding)
        ));
    }
    if details.is_empty() { None } else { forbidden("unrestricted capabilities", details.join("; ")) }
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let sources = |volume: &Value| -> Vec<String> {
        let fields = volume.as_object().into_iter().flatten();
        let sources = fields.filter(|(name, value)| *name != "name" && !value.is_null());
        sources.map(|(name, _)| name.clone()).collect()
    };
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in items(&pod.spec["volumes"]) {
        let sources = sources(volume);
        if !sources.iter().any(|source| ALLOWED.contains(&source.as_str())) {
            names.push(text(&volume["name"]));
            kinds.insert(sources.into_iter().next().unwrap_or_else(|| "unknown".to_owned()));
        }
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural(names.len(), "volume", "volumes"),
        quoted(names.iter().copied()),
        plural(names.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(kinds.iter().map(String::as_str))
    );
    forbidden("restricted volume types", detail)
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let of_pod = &pod.spec["securityContext"]["runAsNonRoot"];
    let names = pod.named(|container| container["securityContext"]["runAsNonRoot"] == false);
    let setters = setters(of_pod == false, &names);
    if !setters.is_empty() {
        return forbidden(REASON, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.named(|container| container["securityContext"]["runAsNonRoot"] != true);
    if of_pod == true || silent.is_empty() {
        return None;
    }
    forbidden(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |security: &Value| security["runAsUser"].as_i64() == Some(0);
    let names = pod.named(|container| is_root(&container["securityContext"]));
    let setters = setters(is_root(&pod.spec["securityContext"]), &names);
    if setters.is_empty() {
        None
    } else {
        forbidden("runAsUser=0", format!("{setters} must not set runAsUser=0"))
    }
}
