//! Several servers on one etcd: any of them killed, stopped, cut off; etcd's leader killed.
//!
//! All the while clients write at a steady rate through every server, and each write is accounted for:
//! acknowledged ones are there, once, and none is there twice. Controllers and scheduler write under one
//! server's term at a time, as every server's log of its fenced writes shows.
//!
//! Short by default. `SAMPAN_SERVERS_RATE` says how many writes per second, `SAMPAN_SERVERS_PAUSE` for how
//! many seconds a server is stopped and cut off; 500 and 30 are the long form.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sampan_testkit::Servers;
use sampan_testkit::servers::Net;

mod account;
mod api;
mod leaders;
mod load;

use account::Account;
use leaders::Leaders;
use load::Load;

/// How long a leader's lease is.
const LEASE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let checks: [(&str, fn()); 4] = [
        ("two servers serve one cluster", two_servers),
        ("keys that servers share are rotated", rotation),
        ("state moves from etcd to the server's file and back", migration),
        ("three servers survive whatever happens to one of them", three_servers),
    ];
    let mut failed = false;
    for (name, check) in checks {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        let good = catch_unwind(AssertUnwindSafe(check)).is_ok();
        failed |= !good;
        println!(
            "check servers::{name} ... {} ({:.1?})",
            if good { "ok" } else { "FAILED" },
            started.elapsed()
        );
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// What one writes the other one reads at once; a stopped one hands over; one with other keys is refused.
fn two_servers() {
    let mut servers = Servers::start(2, 1, &[]).expect("two servers on one etcd");
    for (writer, reader) in [(0, 1), (1, 0)] {
        for index in 0..5 {
            let name = format!("map-{writer}-{index}");
            servers.kubectl(writer, &["create", "configmap", &name], "").ok();
            servers.kubectl(reader, &["get", "configmap", &name], "").ok();
        }
    }
    for (maker, asked) in [(0, 1), (1, 0)] {
        let name = format!("account-{maker}");
        servers.kubectl(maker, &["create", "serviceaccount", &name], "").ok();
        let token = servers.kubectl(maker, &["create", "token", &name], "").ok().text();
        let who = ["auth", "whoami", "--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "-o=name"];
        let server = format!("--server=https://{}", servers.address(asked));
        let token = format!("--token={token}");
        servers.kubectl(asked, &[&who[..], &[&server, &token]].concat(), "").ok();
    }
    let addresses = ["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[0].addresses[*].ip}"];
    servers.kubectl(0, &addresses, "").ok().is("10.99.0.1 10.99.0.2");
    servers.kubectl(0, &["get", "nodes"], "").ok().has(&["node-1", "node-2"]);
    given_once(&servers);
    let leaders = Leaders::new(&servers);
    let leading = leaders.controllers(1, None);
    servers.end_server(leading, Signal::SIGTERM).expect("ends");
    let other = 1 - leading;
    assert_eq!(leaders.controllers(other, Some(leading)), other, "the other one leads");
    servers.kubectl(other, &addresses, "").ok().is(&format!("10.99.0.{}", other + 1));
    // One that has keys of its own would lock the others' clients out.
    std::fs::remove_dir_all(servers.data_dir(leading).join("pki")).expect("is there");
    let refused = format!("{:#}", servers.start_server(leading).expect_err("it has no keys"));
    assert!(refused.contains("copy the directory pki"), "{refused}");
    servers.stop().expect("nothing stays");
}

/// What only one may have is given once, whichever servers are asked at the same time.
fn given_once(servers: &Servers) {
    let both = |command: &dyn Fn(usize) -> String| -> usize {
        let asked: Vec<_> = (0..12)
            .map(|index| {
                let command = command(index);
                let words: Vec<&str> = command.split(' ').collect();
                servers.begin_kubectl(index % 2, &words)
            })
            .collect();
        let done = asked.into_iter().map(|asked| asked.join().expect("no panic"));
        done.filter(|output| output.code == Some(0)).count()
    };
    let port = |index: usize| format!("create service nodeport one-{index} --tcp=80 --node-port=30123");
    assert_eq!(both(&port), 1, "a port is given once");
    let address = |index: usize| format!("create service clusterip two-{index} --tcp=80");
    assert_eq!(both(&address), 12, "there are addresses for all");
    let addresses = ["get", "services", "-A", "-o", "jsonpath={.items[*].spec.clusterIP}"];
    let addresses = servers.kubectl(0, &addresses, "").ok().text();
    let mut distinct: Vec<&str> = addresses.split(' ').filter(|address| *address != "None").collect();
    let all = distinct.len();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all, "{addresses}");
    servers.kubectl(0, &["create", "namespace", "bounded"], "").ok();
    servers.kubectl(1, &["create", "quota", "five", "-n", "bounded", "--hard=secrets=5"], "").ok();
    let counted = ["wait", "quota/five", "-n", "bounded", "--for=jsonpath={.status.hard.secrets}=5"];
    servers.kubectl(0, &counted, "").ok();
    let secret = |index: usize| format!("create secret generic s-{index} -n bounded");
    assert_eq!(both(&secret), 5, "a quota holds");
}

/// All keys, by a server that is alone for a moment; the other one starts again with what it is given.
fn rotation() {
    let mut servers = Servers::start(2, 1, &[]).expect("two servers on one etcd");
    servers.kubectl(1, &["create", "secret", "generic", "kept", "--from-literal=a=b"], "").ok();
    let data = text(servers.data_dir(0));
    let sampan = |servers: &Servers, arguments: &[&str]| {
        servers.sampan(0, &[arguments, &["--data-dir", &data]].concat())
    };
    let serves = |servers: &Servers, index: usize, token: &str| {
        let kept = ["get", "secret", "kept", "-o", "jsonpath={.data.a}"];
        servers.kubectl(index, &kept, "").ok().is("Yg==");
        let server = format!("--server=https://{}", servers.address(index));
        let token = format!("--token={token}");
        let who = ["auth", "whoami", "--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "-o=name"];
        servers.kubectl(index, &[&who[..], &[&server, &token]].concat(), "")
    };
    let token = |servers: &Servers| servers.kubectl(0, &["create", "token", "default"], "").ok().text();
    let rotations: [&[&str]; 3] = [
        &["certificates", "rotate-ca", "begin"],
        &["certificates", "rotate-token-key", "begin"],
        &["storage", "rotate-key"],
    ];
    for rotation in rotations {
        sampan(&servers, rotation).fails().says(&["another server runs at 10.99.0.2:6443"]);
    }
    let first = token(&servers);
    let old = servers.hub().directory().join("old.kubeconfig");
    std::fs::copy(servers.kubeconfig(1), &old).expect("copies");
    let old = format!("--kubeconfig={}", old.display());
    servers.end_server(1, Signal::SIGTERM).expect("ends");
    for rotation in rotations {
        sampan(&servers, rotation).ok();
    }
    let second = token(&servers);
    let refused = format!("{:#}", servers.start_server(1).expect_err("it has the old keys"));
    assert!(refused.contains("other keys than this server's"), "{refused}");
    servers.share_keys(1).expect("copies");
    servers.start_server(1).expect("starts with the new keys");
    for (index, token) in [(0, &first), (0, &second), (1, &first), (1, &second)] {
        serves(&servers, index, token).ok();
    }
    servers.kubectl(1, &[&old, "get", "nodes"], "").ok();
    servers.end_server(1, Signal::SIGTERM).expect("ends");
    sampan(&servers, &["certificates", "rotate-ca", "finish"]).ok();
    sampan(&servers, &["certificates", "rotate-token-key", "finish"]).ok();
    let refused = format!("{:#}", servers.start_server(1).expect_err("it trusts the old keys"));
    assert!(refused.contains("other keys than this server's"), "{refused}");
    servers.share_keys(1).expect("copies");
    servers.start_server(1).expect("starts with the new keys alone");
    for index in [0, 1] {
        serves(&servers, index, &second).ok();
        serves(&servers, index, &first).fails().says(&["Unauthorized"]);
    }
    servers
        .kubectl(1, &[&old, "get", "nodes"], "")
        .fails()
        .says(&["certificate signed by unknown authority"]);
    servers.stop().expect("nothing stays");
}

fn migration() {
    let mut servers = Servers::start(1, 1, &[]).expect("a server on etcd");
    servers.kubectl(0, &["create", "secret", "generic", "kept", "--from-literal=a=b"], "").ok();
    let revision = ["get", "secret", "kept", "-o", "jsonpath={.metadata.resourceVersion}"];
    let before = servers.kubectl(0, &revision, "").ok().text();
    let data = text(servers.data_dir(0));
    let etcd = format!("etcd://{}", servers.members[0].member.client());
    let backup = format!("{data}/../backup.sampan");
    let storage = |servers: &Servers, arguments: &[&str]| {
        servers.sampan(0, &[&["storage", "--data-dir", &data], arguments].concat())
    };
    storage(&servers, &["backup", "-o", &backup]).ok();
    storage(&servers, &["migrate", &etcd, "embedded"]).fails().says(&["stop it first"]);
    servers.end_server(0, Signal::SIGTERM).expect("ends");
    storage(&servers, &["backup", "-o", &format!("{backup}.cold"), "--storage", &etcd]).ok();
    storage(&servers, &["migrate", &etcd, "embedded"]).ok();
    storage(&servers, &["fsck"]).ok();
    let revision_of = |servers: &Servers, place: &str| {
        let shown = storage(servers, &["stats", "--json", "--storage", place]).ok();
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
        shown["revision"].as_u64().expect("a number")
    };
    let there = revision_of(&servers, "embedded");
    assert!(there >= before.parse().expect("a number"), "revisions stay");
    storage(&servers, &["migrate", "embedded", &etcd]).fails().says(&["holds a cluster already"]);
    for (name, fill, ahead) in [
        ("what was moved", vec!["migrate", "embedded", &etcd], 0),
        ("what was backed up", vec!["restore", &backup, "--storage", &etcd], 999_999_000),
    ] {
        servers.etcdctl(0, &["del", "--prefix", "/registry/"]).ok();
        storage(&servers, &fill).ok();
        assert!(revision_of(&servers, &etcd) > there + ahead, "{name}: no revision comes twice");
        servers.start_server(0).expect("starts");
        servers.kubectl(0, &["get", "secret", "kept", "-o", "jsonpath={.data.a}"], "").ok().is("Yg==");
        let after = servers.kubectl(0, &revision, "").ok().text();
        assert!(after.parse::<u64>().expect("a number") > there + ahead, "{name}: all is later than before");
        let watch = format!("/api/v1/namespaces/default/secrets?watch=1&resourceVersion={before}");
        servers.kubectl(0, &["get", "--raw", &watch], "").ok().has(&["\"code\":410"]);
        servers.kubectl(0, &["label", "secret", "kept", &format!("turn={ahead}")], "").ok();
        servers.end_server(0, Signal::SIGTERM).expect("ends");
    }
    servers.stop().expect("nothing stays");
}

fn text(path: std::path::PathBuf) -> String {
    path.into_os_string().into_string().expect("a path of text")
}

fn three_servers() {
    let pause = Duration::from_secs(setting("SAMPAN_SERVERS_PAUSE", 0));
    let rate = setting("SAMPAN_SERVERS_RATE", 45);
    let flags = ["--log", "info,sampan::fence=debug"];
    let mut servers = Servers::start(3, 3, &flags).expect("three servers on three members of etcd");
    let leaders = Leaders::new(&servers);
    let load = Load::start(&servers, rate);
    load.progress(40);

    let step = |name: &str, began: Instant| println!("  {name}: {:.1?}", began.elapsed());
    let began = Instant::now();
    let leading = leaders.controllers(0, None);
    servers.end_server(leading, Signal::SIGKILL).expect("it runs");
    let next = leaders.controllers((leading + 1) % 3, Some(leading));
    step("killed; another one leads", began);
    servers.start_server(leading).expect("starts again");
    load.progress(20);

    let began = Instant::now();
    servers.signal(next, Signal::SIGSTOP).expect("it runs");
    let stopped = next;
    let next = leaders.controllers((stopped + 1) % 3, Some(stopped));
    step("stopped; another one leads", began);
    std::thread::sleep(pause.saturating_sub(began.elapsed()));
    servers.signal(stopped, Signal::SIGCONT).expect("it runs");
    load.progress(20);

    let began = Instant::now();
    servers.cut(next, Net::Store).expect("pulls the plug");
    let cut = next;
    let next = leaders.controllers((cut + 1) % 3, Some(cut));
    step("cut off from etcd; another one leads", began);
    std::thread::sleep(pause.saturating_sub(began.elapsed()));
    servers.mend(cut, Net::Store).expect("puts it back");
    load.progress(20);

    let began = Instant::now();
    servers.cut(next, Net::Clients).expect("pulls the plug");
    load.progress(40);
    std::thread::sleep(pause.saturating_sub(began.elapsed()));
    let still = leaders.controllers((next + 1) % 3, None);
    assert_eq!(still, next, "who is cut off from clients goes on to lead");
    servers.mend(next, Net::Clients).expect("puts it back");
    step("cut off from clients; still leads", began);

    let began = Instant::now();
    let member = servers.leading_member().expect("one leads");
    servers.kill_member(member).expect("it runs");
    load.progress(60);
    step("etcd's leader killed; writes go on", began);
    servers.start_member(member).expect("starts again");
    load.progress(20);

    let leading = leaders.controllers(0, None);
    let before = servers.log(leading).len();
    let began = Instant::now();
    servers.end_server(leading, Signal::SIGTERM).expect("ends in order");
    leaders.controllers((leading + 1) % 3, Some(leading));
    step("ended in order; another one leads", began);
    let log = servers.log(leading).split_off(before);
    let gave_up = |line: &str| line.contains("gave the lease up") && line.contains("kube-controller-manager");
    assert!(log.lines().any(gave_up), "it handed over, and its lease did not run out:\n{log}");
    servers.start_server(leading).expect("starts again");
    load.progress(20);

    let outcomes = load.finish();
    let account = Account::of(&servers, outcomes);
    println!("  {}", account.told());
    account.check(LEASE);
    leaders::check_fences(&(0..3).map(|index| servers.log(index)).collect::<Vec<_>>());
    servers.stop().expect("nothing stays");
}
