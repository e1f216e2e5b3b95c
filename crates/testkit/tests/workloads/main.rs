//! Pods, jobs and what belongs to them, on a real node: what Kubernetes' users know must hold here.

mod containers;
mod jobs;
mod objects;
mod probes;
mod pull;
mod security;
mod termination;
mod volumes;

use std::process::ExitCode;

use sampan_testkit::{Namespace, Suite};

fn main() -> ExitCode {
    Suite::new("workloads")
        .test_image()
        .check("init containers run in order, sidecars beside them", containers::init_order)
        .check("a failing init container holds its pod", containers::init_failure)
        .check("restart policies", containers::restart_policies)
        .check("crash loops back off, with logs of the previous run", containers::crash_loop)
        .check("hooks after the start and before the stop", containers::hooks)
        .check("commands that do not exist", containers::no_command)
        .check("a failing hook ends its container", containers::failing_hook)
        .check("shared namespaces of the pod and the host", containers::shared_namespaces)
        .check("a pod's deadline", containers::deadline)
        .check("liveness probes restart", probes::liveness)
        .check("readiness probes come and go", probes::readiness)
        .check("startup probes hold the others back", probes::startup)
        .check("graceful termination", termination::graceful)
        .check("a grace period that runs out", termination::killed)
        .check("termination messages", termination::messages)
        .check("out of memory", termination::out_of_memory)
        .check("environment from config maps, secrets, fields", volumes::environment)
        .check("config map and secret volumes follow updates", volumes::updates)
        .check("projected volumes and the downward API", volumes::projected)
        .check("empty directories, in memory too", volumes::empty_dir)
        .check("host paths and sub-paths", volumes::host_path)
        .check("what is missing is named, and waited for", volumes::missing)
        .check("limits in the cgroup", security::limits)
        .check("users, capabilities, privileges, seccomp", security::context)
        .check("privileged containers", security::privileged)
        .check("jobs complete", jobs::completions)
        .check("jobs fail and give up", jobs::failure)
        .check("indexed jobs, and their time to live", jobs::indexed)
        .check("pods that no node can take", objects::unschedulable)
        .check("pods that keep apart", objects::anti_affinity)
        .check("deletion in background, foreground, and of orphans", objects::cascade)
        .check("a namespace goes with all that is in it", objects::namespace)
        .check("conflicts of resource versions", objects::conflicts)
        .check("images that cannot be had", pull::errors)
        .check("a private registry", pull::private_registry)
        .run()
}

/// A pod that ends soon when it is deleted (a grace of 0 would remove it from the API before its node knew); `spec` is the rest of its specification, indented by two.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{spec}\n---\n"
    )
}

/// A pod whose only container runs a shell script; `more` are further fields of the container.
fn script(name: &str, policy: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("text is JSON");
    pod(
        name,
        &format!(
            "  restartPolicy: {policy}\n  containers:\n  - name: main\n    image: example.com/test:1\n    command: [sh, -c, {script}]\n    {more}"
        ),
    )
}

/// What a path in the status of a pod's first container prints.
#[track_caller]
fn status(namespace: &Namespace<'_>, pod: &str, path: &str) -> String {
    namespace.get(&format!("pod/{pod}"), &format!(".status.containerStatuses[0].{path}"))
}
