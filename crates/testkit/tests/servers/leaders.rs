//! Who leads, and that only one ever did.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use sampan_client::{Backend as _, ListOptions, WatchEvent};
use sampan_testkit::{Sandbox, Servers};
use serde_json::Value;

use crate::api;

const LEASE: &str = "kube-controller-manager";
const DEADLINE: Duration = Duration::from_secs(60);

/// Looks at leases through any server.
pub struct Leaders {
    kubeconfigs: Vec<PathBuf>,
    namespace: std::fs::File,
}

impl Leaders {
    pub fn new(servers: &Servers) -> Self {
        let hub: &Sandbox = servers.hub();
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", hub.init())).expect("the hub is there");
        Leaders {
            kubeconfigs: (0..servers.count()).map(|index| servers.kubeconfig(index)).collect(),
            namespace,
        }
    }

    /// The server that runs the controllers, once one other than `not` does, as server `asked` says.
    pub fn controllers(&self, asked: usize, not: Option<usize>) -> usize {
        let kubeconfig = self.kubeconfigs[asked].clone();
        let namespace = self.namespace.try_clone().expect("a descriptor");
        let thread = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let found = tokio::time::timeout(DEADLINE, wait(&kubeconfig, not));
                found.await.unwrap_or_else(|_| panic!("nobody but {not:?} leads"))
            })
        });
        thread.join().expect("somebody leads")
    }
}

async fn wait(kubeconfig: &std::path::Path, not: Option<usize>) -> usize {
    let options =
        ListOptions { field_selector: Some(format!("metadata.name={LEASE}")), ..ListOptions::default() };
    loop {
        let backend = api::connect(kubeconfig);
        // The server that is asked may be without etcd's leader for a moment: it waits for one before it fails.
        let Ok(mut events) = backend.watch(&api::LEASES, Some("kube-system"), &options).await else {
            continue;
        };
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(lease) | WatchEvent::Modified(lease)) = event else { continue };
            let lease: Value = lease.decode().expect("a lease");
            let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
            // node-1_…
            let number = holder.strip_prefix("node-").and_then(|rest| rest.split('_').next());
            let Some(index) = number.and_then(|number| number.parse::<usize>().ok()) else { continue };
            if not != Some(index - 1) {
                return index - 1;
            }
        }
    }
}

/// One write under a term.
struct Write {
    began: u64,
    revision: u64,
}

/// No write of a term is later than the beginning of the next one.
pub fn check_fences(logs: &[String]) {
    let mut terms: BTreeMap<String, Vec<Write>> = BTreeMap::new();
    for line in logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("sampan::fence: wrote")) {
        let field = |name: &str| {
            let after = line.split_once(&format!("{name}=")).map(|(_, after)| after);
            after
                .and_then(|after| after.split_whitespace().next())
                .unwrap_or_else(|| panic!("{name}: {line}"))
        };
        let number = |name: &str| field(name).parse::<u64>().expect("a number");
        let write = Write { began: number("began"), revision: number("revision") };
        terms.entry(field("term").to_owned()).or_default().push(write);
    }
    assert_eq!(terms.len(), 2, "scheduler and controllers wrote");
    for (term, mut writes) in terms {
        writes.sort_by_key(|write| write.revision);
        let mut began: Vec<u64> = writes.iter().map(|write| write.began).collect();
        assert!(began.is_sorted(), "{term}: two wrote at once");
        assert!(writes.iter().all(|write| write.began < write.revision), "{term}: before its term");
        began.dedup();
        println!("  {term}: {} writes in {} terms, none of two at once", writes.len(), began.len());
        assert!(began.len() > 1, "{term}: there was only one term");
    }
}
