//! Helm's whole life of a release, with charts of our own: hooks, definitions, dependencies, failures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sampan_testkit::{Cluster, Namespace, Output, Suite};

/// Less than how long a command may take, so that it is Helm that says what it waited for.
const PATIENCE: &str = "--timeout=45s";

fn main() -> ExitCode {
    Suite::new("helm")
        .test_image()
        .check("install, upgrade, rollback, test, uninstall", life)
        .check("hooks that fail, and tests", failing_hooks)
        .check("atomic operations that fail", atomic)
        .check("changes by others", changes_by_others)
        .check("packages, dry runs and the other storage", packages)
        .run()
}

/// One release of the chart `depot`.
struct Depot<'a> {
    namespace: &'a Namespace<'a>,
    chart: String,
    name: &'static str,
    /// Where its hooks write.
    journal: PathBuf,
}

impl<'a> Depot<'a> {
    /// A copy of the chart, since building its dependencies writes into it.
    fn new(namespace: &'a Namespace<'a>, name: &'static str) -> Depot<'a> {
        let scratch = namespace.cluster.scratch().join(name);
        let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm");
        std::fs::create_dir(&scratch).expect("a directory");
        let (from, to) = (charts.to_str().expect("text"), scratch.to_str().expect("text"));
        namespace.cluster.run(&["cp", "-R", from, to]).ok();
        let journal = scratch.join("journal");
        std::fs::create_dir(&journal).expect("a directory");
        let chart = format!("{to}/helm/depot");
        namespace.cluster.run(&["helm", "dependency", "update", &chart]).ok();
        Depot { namespace, chart, name, journal }
    }

    fn helm(&self, arguments: &[&str]) -> Output {
        self.namespace.cluster.run(&[&["helm", "--namespace", &self.namespace.name], arguments].concat())
    }

    /// An operation with the chart, such as `install` or `upgrade`.
    fn with_chart(&self, operation: &str, more: &[&str]) -> Output {
        let journal = format!("journal={}", self.journal.display());
        let arguments = [operation, self.name, &self.chart, "--wait", PATIENCE, "--set", &journal];
        self.helm(&[&arguments, more].concat())
    }

    /// What hooks wrote since this was asked last.
    #[track_caller]
    fn wrote(&self, expected: &[&str]) {
        let file = self.journal.join(self.name);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let _ = std::fs::remove_file(&file);
    }

    /// `revision status` of each revision.
    fn history(&self) -> Vec<String> {
        let output = self.helm(&["history", self.name, "--output=json"]).ok().json();
        let entries = output.as_array().into_iter().flatten();
        let line = |entry: &serde_json::Value| {
            format!("{} {}", entry["revision"], entry["status"].as_str().unwrap_or_default())
        };
        entries.map(line).collect()
    }

    #[track_caller]
    fn serves(&self, version: &str) {
        let deployment = format!("deployment/{}", self.name);
        assert_eq!(self.namespace.get(&deployment, ".spec.template.spec.containers[0].command[2]"), version);
        // A pod of the version before may still be ready when helm has what it waits for.
        self.namespace.wait_for(&deployment, ".status.readyReplicas", "2");
    }

    /// Nothing in the cluster differs from the release's manifest.
    fn differs_not(&self) {
        let manifest = self.helm(&["get", "manifest", self.name]).ok();
        self.namespace.kubectl_stdin(&["diff", "-f", "-"], &manifest.stdout).ok().is("");
    }

    fn password(&self) -> String {
        self.namespace.get(&format!("secret/{}", self.name), ".data.password")
    }
}

fn life(cluster: &mut Cluster) {
    let namespace = cluster.namespace("life");
    let depot = Depot::new(&namespace, "depot");
    depot.with_chart("install", &[]).ok().has(&["STATUS: deployed", "Depot depot serves one."]);
    depot.wrote(&["b-first 1", "a-second 1", "after-install 1"]);
    // Those that succeeded went, but for those whose policy is another.
    namespace.kubectl(&["get", "jobs", "-o", "name"]).ok().is("job.batch/depot-after-install");
    depot.serves("one");
    depot.differs_not();
    namespace.kubectl(&["get", "parcels"]).ok().matches("depot +1");
    assert_eq!(namespace.get("parcel/depot", ".spec.class"), "parcel");
    assert_eq!(namespace.get("configmap/depot-label", ".data.text"), "depot-fragile");
    assert_eq!(
        namespace.get("configmap/depot-kept", ".data"),
        r#"{"namespace":"life","policies":"true","version":"1.35"}"#
    );
    assert_eq!(namespace.get("secret/sh.helm.release.v1.depot.v1", ".type"), "helm.sh/release.v1");
    let password = depot.password();

    depot.with_chart("upgrade", &["--set=version=two,label.enabled=false"]).ok();
    depot.wrote(&["before-upgrade 2", "after-change 2"]);
    depot.serves("two");
    depot.differs_not();
    assert_eq!(depot.password(), password, "a lookup finds what there is");
    assert_eq!(namespace.get("parcel/depot", ".spec.weight"), "2");
    namespace.kubectl(&["get", "configmap", "depot-label"]).fails().says(&["not found"]);
    depot.helm(&["test", "depot", "--logs", PATIENCE]).ok().has(&["Phase:          Succeeded", "two depot-"]);

    depot.helm(&["rollback", "depot", "1", "--wait", PATIENCE]).ok();
    // The hooks are those of the revision that comes back, rendered when it was made.
    depot.wrote(&["before-rollback 1", "after-change 1"]);
    depot.serves("one");
    depot.differs_not();
    assert_eq!(namespace.get("configmap/depot-label", ".data.text"), "depot-fragile");
    assert_eq!(depot.history(), ["1 superseded", "2 superseded", "3 deployed"]);
    depot.helm(&["list"]).ok().matches(r"^depot\s+life\s+3\s.*\sdeployed\s+depot-1\.0\.0\s+one");
    depot.helm(&["status", "depot", "--show-resources"]).ok().has(&["==> v1/Deployment", "==> v1/Parcel"]);

    depot.helm(&["uninstall", "depot", "--wait", PATIENCE]).ok().has(&["kept due to the resource policy"]);
    depot.wrote(&["before-delete 1", "after-delete 1"]);
    let kinds = "deployments,services,secrets,configmaps,parcels";
    let left = namespace.kubectl(&["get", kinds, "-o", "name"]).ok().text();
    assert_eq!(left, "configmap/depot-kept\nconfigmap/kube-root-ca.crt");
    // Helm never removes definitions.
    cluster.kubectl(&["get", "crd/parcels.depot.example.com"]).ok();
}

fn failing_hooks(cluster: &mut Cluster) {
    let namespace = cluster.namespace("failing");
    let depot = Depot::new(&namespace, "failing");
    depot.with_chart("install", &["--set=failing=b-first"]).fails().says(&["failed pre-install"]);
    depot.wrote(&["b-first 1"]);
    namespace.kubectl(&["get", "deployment/failing"]).fails().says(&["not found"]);
    assert_eq!(depot.history(), ["1 failed"]);
    depot.with_chart("upgrade", &["--install"]).ok();
    depot.wrote(&["before-upgrade 2", "after-change 2"]);
    depot
        .with_chart("upgrade", &["--set=version=two,failing=before-upgrade"])
        .fails()
        .says(&["pre-upgrade hooks failed", "BackoffLimitExceeded"]);
    depot.wrote(&["before-upgrade 3"]);
    // Its policy is to go when it failed.
    namespace.kubectl(&["get", "job/failing-before-upgrade"]).fails().says(&["not found"]);
    depot.serves("one");
    assert_eq!(depot.history(), ["1 superseded", "2 deployed", "3 failed"]);
    // The test of revision 3 asks for what revision 2 does not serve.
    depot.helm(&["test", "failing", PATIENCE]).fails().says(&["pod failing-answers failed"]);
    depot.helm(&["uninstall", "failing", "--wait", PATIENCE]).ok();
}

fn atomic(cluster: &mut Cluster) {
    let namespace = cluster.namespace("atomic");
    let depot = Depot::new(&namespace, "atomic");
    let never = ["--atomic", "--set=ready=false,hooks=false", "--timeout=3s"];
    depot.with_chart("install", &never).fails().says(&["has been uninstalled due to atomic being set"]);
    namespace.kubectl(&["get", "deployment/atomic"]).fails().says(&["not found"]);
    depot.helm(&["list", "--all", "--short"]).ok().is("");
    depot.with_chart("install", &["--set=hooks=false"]).ok();
    // The way back has to be done in the same time.
    let never = ["--atomic", "--set=ready=false,hooks=false,version=two", "--timeout=10s"];
    depot.with_chart("upgrade", &never).fails().says(&["has been rolled back due to atomic being set"]);
    depot.serves("one");
    depot.differs_not();
    assert_eq!(depot.history(), ["1 superseded", "2 failed", "3 deployed"]);
    depot.helm(&["uninstall", "atomic", "--keep-history"]).ok();
    assert_eq!(depot.history(), ["1 superseded", "2 failed", "3 uninstalled"]);
}

/// What others changed comes back where the chart says something of it, and stays elsewhere.
fn changes_by_others(cluster: &mut Cluster) {
    let namespace = cluster.namespace("others");
    let depot = Depot::new(&namespace, "others");
    depot.with_chart("install", &["--set=hooks=false"]).ok();
    namespace.kubectl(&["scale", "deployment/others", "--replicas=1"]).ok();
    namespace.kubectl(&["label", "deployment/others", "mine=yes"]).ok();
    namespace
        .kubectl(&["patch", "parcel/others", "--type=merge", "-p", r#"{"spec":{"class":"letter"}}"#])
        .ok();
    depot.with_chart("upgrade", &["--set=hooks=false,version=two"]).ok();
    depot.serves("two");
    assert_eq!(namespace.get("deployment/others", ".metadata.labels.mine"), "yes");
    assert_eq!(namespace.get("parcel/others", ".spec"), r#"{"class":"letter","weight":2}"#);
    // Somebody else's objects are not taken over, unless they are wanted to be.
    namespace.kubectl(&["create", "configmap", "second-label"]).ok();
    let second = Depot::new(&namespace, "second");
    second
        .with_chart("install", &["--set=hooks=false"])
        .fails()
        .says(&["ConfigMap \"second-label\"", "cannot be imported into the current release"]);
    second.with_chart("install", &["--set=hooks=false", "--take-ownership"]).ok();
    assert_eq!(namespace.get("configmap/second-label", ".data.text"), "depot-fragile");
    // Whole objects are put in place of what is there, which keeps what was allocated to it.
    let address = namespace.get("service/second", ".spec.clusterIP");
    second.with_chart("upgrade", &["--set=hooks=false", "--force"]).ok();
    assert_eq!(namespace.get("service/second", ".spec.clusterIP"), address);
    for release in [depot, second] {
        release.helm(&["uninstall", release.name, "--wait", "--cascade=foreground", PATIENCE]).ok();
    }
    namespace.kubectl(&["get", "deployments,replicasets", "-o", "name"]).ok().is("");
}

fn packages(cluster: &mut Cluster) {
    let namespace = cluster.namespace("packages");
    let depot = Depot::new(&namespace, "packed");
    let directory = depot.journal.to_str().expect("text").to_owned();
    depot.helm(&["lint", "--strict", &depot.chart]).ok();
    depot.helm(&["package", &depot.chart, "--destination", &directory]).ok().has(&["depot-1.0.0.tgz"]);
    let package = format!("{directory}/depot-1.0.0.tgz");
    // A dry run installs no definitions, and needs them.
    let definitions = depot.helm(&["show", "crds", &package]).ok().stdout;
    namespace.apply(&definitions);
    namespace.wait("crd/parcels.depot.example.com", "condition=Established");
    let dry = ["install", "packed", &package, "--dry-run=server", "--set=hooks=false"];
    depot.helm(&dry).ok().has(&["STATUS: pending-install", "namespace: \"packages\""]);
    namespace.kubectl(&["get", "deployments,configmaps", "-o", "name"]).ok().is("configmap/kube-root-ca.crt");
    let odd = ["install", "odd", &package, "--set=hooks=false,replicas=many"];
    depot
        .helm(&odd)
        .fails()
        .says(&["cannot unmarshal string into Go struct field", "replicas of type int32"]);
    depot.helm(&["uninstall", "odd", "--wait", PATIENCE]).ok();
    let cluster = namespace.cluster;
    let stored = |arguments: &[&str]| {
        let fixed = ["env", "HELM_DRIVER=configmap", "helm", "--namespace=elsewhere"];
        cluster.run(&[&fixed, arguments].concat())
    };
    stored(&["install", "packed", &package, "--create-namespace", "--set=hooks=false", "--wait", PATIENCE])
        .ok();
    stored(&["list", "--all-namespaces", "--short", "--selector=name=packed"]).ok().is("packed");
    let records =
        ["--namespace=elsewhere", "get", "configmaps", "-l", "owner=helm,status=deployed", "-o", "name"];
    cluster.kubectl(&records).ok().is("configmap/sh.helm.release.v1.packed.v1");
    stored(&["uninstall", "packed", "--wait", PATIENCE]).ok();
}
