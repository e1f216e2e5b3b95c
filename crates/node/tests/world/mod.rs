//! A node under test, and an API server in memory that it knows.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sampan_api::Gvr;
use sampan_client::node_streams::PodRef;
use sampan_client::testing::MemoryBackend;
use sampan_client::typed::Resource;
use sampan_client::{Client, Informer, InformerEvent, ListOptions, Target};
use sampan_image::{ImageConfig, ImageStore, PackSource, Reference, RegistryClient, RegistryOptions};
use sampan_net::NodeNetwork;
use sampan_node::{Node, NodeConfig, RegistryPuller};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Nothing here takes that long unless it is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// Leaves the machine's network and mounts. Before any thread is made.
pub fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts are ours");
}

pub struct World {
    node: Option<Node>,
    client: Client,
    images: ImageStore,
    config: NodeConfig,
    /// Names of the pods that the node has deleted for good.
    deleted: watch::Receiver<HashSet<String>>,
    _files: tempfile::TempDir,
}

impl Drop for World {
    /// A test that fails leaves nothing either.
    fn drop(&mut self) {
        drop(self.node.take());
        for pod in fs::read_dir(self.config.pods_dir()).into_iter().flatten().flatten() {
            if let Err(error) = sampan_runtime::cleanup(&pod.path().join("supervisor")) {
                eprintln!("a supervisor is left: {error}");
            }
        }
        self.remove_cgroups();
    }
}

impl World {
    pub async fn start() -> World {
        let files = tempfile::tempdir().expect("a directory");
        let network = NodeNetwork {
            bridge: "sampan0".into(),
            mtu: 1500,
            pod_cidr: "10.42.0.0/24".parse().expect("a range"),
            cluster_cidr: "10.42.0.0/16".parse().expect("a range"),
            service_cidr: "10.43.0.0/16".parse().expect("a range"),
            dns_ip: None,
            node_ips: vec![[10, 42, 0, 1].into()],
            node_port_addresses: Vec::new(),
            cluster_links: Vec::new(),
            forward_from_outside: false,
            table: "sampan".into(),
        };
        let exe = std::env::current_exe().expect("runs from a file");
        let mut config = NodeConfig::new(
            "node",
            files.path().join("data"),
            exe,
            network,
            [10, 42, 0, 1].into(),
            [10, 43, 0, 10].into(),
        );
        config.cgroup_root = PathBuf::from(format!("/sampan-test-node-{}", std::process::id()));
        let images = ImageStore::open(&files.path().join("images")).expect("a store");
        let image = files.path().join("image");
        make_image(&image);
        let reference = Reference::parse("test:1").expect("a name");
        images.pack(PackSource::Directory(image), &reference, ImageConfig::default()).await.expect("packs");
        let memory = MemoryBackend::shared();
        let (sender, deleted) = watch::channel(HashSet::new());
        memory.intercept(move |verb, target| {
            if verb == "delete" && target.gvr.resource == "pods" {
                sender.send_modify(|names: &mut HashSet<String>| {
                    names.insert(target.name.to_owned());
                });
            }
            Ok(())
        });
        let client = Client::new(memory);
        let mut world = World { node: None, client, images, config, deleted, _files: files };
        world
            .create(
                "services",
                json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}}),
            )
            .await;
        world.launch().await;
        world
    }

    async fn launch(&mut self) {
        let registry = RegistryClient::new(RegistryOptions::default());
        let puller = Arc::new(RegistryPuller { registry, store: self.images.clone() });
        let (client, proxy) = (self.client.clone(), self.client.clone());
        let node = Node::start(self.config.clone(), client, proxy, self.images.clone(), puller).await;
        let node = node.expect("starts");
        tokio::time::timeout(LIMIT, node.ready()).await.expect("gets ready");
        self.node = Some(node);
    }

    pub async fn restart(&mut self) {
        self.node.take().expect("it runs").shutdown().await;
        self.launch().await;
    }

    pub async fn end(mut self) {
        self.node.take().expect("it runs").shutdown().await;
        let left = files_below(&self.config.pods_dir());
        assert!(left.is_empty(), "files of pods are left: {left:?}");
    }

    fn remove_cgroups(&self) {
        let relative = self.config.cgroup_root.strip_prefix("/").expect("absolute").to_owned();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            remove_cgroup(&hierarchy.path().join(&relative));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(&relative));
    }

    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    pub fn pod_ref(&self, name: &str) -> PodRef {
        PodRef { namespace: "n".into(), name: name.into(), uid: String::new() }
    }

    pub async fn create(&self, resource: &'static str, object: Value) {
        let gvr = Gvr::new("", "v1", resource);
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let target = Target { gvr: &gvr, namespace: namespace.as_deref(), name: "", subresource: None };
        let body = serde_json::to_vec(&object).expect("serialises");
        self.client.backend().create(target, body.into()).await.expect("is created");
    }

    pub async fn create_pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node");
        self.create(
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "n", "finalizers": ["test/keep"]}, "spec": spec}),
        )
        .await;
    }

    /// Marks a pod as the API server does on a graceful deletion. A finalizer keeps the object, which
    /// the API in memory would remove at once.
    pub async fn delete(&self, name: &str, grace: Option<i64>) {
        let pods = self.client.namespaced::<Pod>("n");
        let patch = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace.unwrap_or(2)}});
        pods.patch(name, sampan_client::PatchKind::Merge, &patch).await.expect("is patched");
    }

    /// The pod once it is as wanted.
    pub async fn wait(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        let found = async {
            let (sender, mut events) = mpsc::unbounded_channel();
            let _informer = self.follow(sender);
            while let Some(event) = events.recv().await {
                if let InformerEvent::Applied { new, .. } = event
                    && &*new.header.name == name
                {
                    seen = new.decode().expect("an object");
                    if wanted(&seen) {
                        return seen.clone();
                    }
                }
            }
            unreachable!("an informer goes on")
        };
        match tokio::time::timeout(LIMIT, found).await {
            Ok(found) => found,
            Err(_) => panic!("pod {name} is not as wanted: {}", seen),
        }
    }

    /// Waits until the node deletes the pod's object, which is the last that it does for a pod.
    pub async fn wait_gone(&self, name: &str) {
        let mut deleted = self.deleted.clone();
        let gone = deleted.wait_for(|names| names.contains(name));
        tokio::time::timeout(LIMIT, gone).await.expect("the pod goes").expect("the API stays");
    }

    fn follow(&self, sender: mpsc::UnboundedSender<InformerEvent>) -> Informer {
        Informer::start(self.client.clone(), Pod::gvr(), Some("n".into()), ListOptions::default(), sender)
    }

    /// Process ids of containers whose command line has `text`. What they fork looks the same until it
    /// executes, but is not the first of its namespace.
    pub fn processes(&self, text: &str) -> Vec<u32> {
        let mut found: Vec<u32> = fs::read_dir("/proc")
            .expect("proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
                is_first && line.starts_with("sh -c trap") && line.contains(text)
            })
            .collect();
        found.sort_unstable();
        found
    }
}

fn make_image(dir: &Path) {
    for part in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
        fs::create_dir_all(dir.join(part)).expect("makes");
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).expect("Debian's busybox-static");
    for applet in ["sh", "cat", "echo", "sleep", "hostname", "id", "true"] {
        symlink("busybox", dir.join("bin").join(applet)).expect("links");
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&entry.path()));
        }
    }
    found
}

fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    // One that others use stays, and nothing here makes such.
    let _ = fs::remove_dir(dir);
}
