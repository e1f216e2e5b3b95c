//! A Kubernetes namespace for one check.

use super::Cluster;
use crate::command::{Output, Running};
use crate::terminal::Terminal;

/// A namespace, deleted when dropped (nobody waits: the end of the suite does).
#[derive(Debug)]
pub struct Namespace<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl<'a> Namespace<'a> {
    pub(super) fn create(cluster: &'a Cluster, name: &str) -> Namespace<'a> {
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        cluster.kubectl_stdin(&["create", "-f", "-"], &manifest).ok();
        Namespace { cluster, name: name.to_owned() }
    }

    /// Leaves it to the end of the suite: what is in it must outlive this value.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    fn arguments<'b>(&'b self, arguments: &[&'b str]) -> Vec<&'b str> {
        [&["kubectl", "--namespace", &self.name], arguments].concat()
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.cluster.run(&self.arguments(arguments))
    }

    pub fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Output {
        self.cluster.run_with_input(&self.arguments(arguments), input.as_bytes())
    }

    /// `kubectl apply` of a manifest, which must succeed.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Output {
        self.kubectl_stdin(&["apply", "-f", "-"], manifest).ok()
    }

    /// `kubectl wait`: waits by a watch until the condition holds.
    #[track_caller]
    pub fn wait(&self, object: &str, condition: &str) -> Output {
        self.kubectl(&["wait", object, &format!("--for={condition}"), "--timeout=55s"]).ok()
    }

    /// Waits until a path in an object has a value.
    #[track_caller]
    pub fn wait_for(&self, object: &str, path: &str, value: &str) -> Output {
        self.wait(object, &format!("jsonpath={{{path}}}={value}"))
    }

    /// What `kubectl get -o jsonpath` prints.
    #[track_caller]
    pub fn get(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).ok().text()
    }

    /// Runs a shell script in a pod's first container.
    #[track_caller]
    pub fn sh(&self, pod: &str, script: &str) -> Output {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// Waits until an event with this reason and message (a pattern) about an object has been told.
    #[track_caller]
    pub fn event(&self, object: &str, reason: &str, message: &str) {
        let format = "custom-columns=REASON:.reason,MESSAGE:.message";
        let field = format!("--field-selector=involvedObject.name={object},reason={reason}");
        let mut watch = self.spawn(&["get", "events", "--watch", &field, "-o", format]);
        watch.until(&format!("^{reason} +{message}"));
    }

    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.cluster.spawn(&self.arguments(arguments))
    }

    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        self.cluster.terminal(&self.arguments(arguments))
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // A failed check shows what was there; its cluster goes away as a whole.
        if !std::thread::panicking() {
            self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}
