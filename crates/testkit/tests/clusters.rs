//! The testkit itself: clusters apart from each other and from the machine, and nothing left of them, not
//! even of a test that was killed.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sampan_testkit::{Cluster, Sandbox};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("victim") {
        victim();
    }
    let checks: [(&str, fn()); 4] = [
        ("a sandbox has a loopback link and no way out", no_way_out),
        ("commands pass on their ends", ends),
        ("two clusters at once do not meet", two_at_once),
        ("nothing is left of a killed test", killed),
    ];
    println!("\nclusters: {} checks", checks.len());
    for (name, check) in checks {
        check();
        println!("check clusters::{name} ... ok");
    }
    ExitCode::SUCCESS
}

fn no_way_out() {
    let sandbox = Sandbox::start().expect("root is needed");
    let links = sandbox.in_network(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("links"));
    let links = links.join().expect("the thread does not panic");
    let names: Vec<&str> =
        links.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert!(names.contains(&"lo") && !names.iter().any(|name| name.starts_with("eth")), "{names:?}");
    let away = sandbox.in_network(|| TcpStream::connect("192.0.2.1:80").map(drop));
    let error = away.join().expect("the thread does not panic").expect_err("there is no route");
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable, "{error}");
    assert_eq!(sandbox.stop().expect("it stops"), Vec::<String>::new());
}

fn ends() {
    let sandbox = Sandbox::start().expect("root is needed");
    let code = |options: &[&str], script: &str| {
        sandbox
            .enter(options)
            .args(["sh", "-c", script])
            .stderr(Stdio::null())
            .status()
            .expect("it runs")
            .code()
    };
    assert_eq!(code(&[], "exit 7"), Some(7));
    assert_eq!(code(&[], "kill -9 $$"), Some(137));
    assert_eq!(code(&["--timeout", "1"], "sleep 1000"), Some(124));
    // Orphans stay inside, and go with it.
    assert_eq!(code(&[], "sleep 1000 > /dev/null & exit 0"), Some(0));
    assert_eq!(sandbox.processes().expect("it runs").len(), 1);
    assert_eq!(sandbox.stop().expect("it stops"), Vec::<String>::new());
}

fn two_at_once() {
    let start = || std::thread::spawn(|| Cluster::start().expect("a cluster"));
    let (one, two) = (start(), start());
    let (one, two) = (one.join().expect("no panic"), two.join().expect("no panic"));
    one.kubectl(&["create", "namespace", "only-one"]).ok();
    one.kubectl(&["get", "namespaces"]).ok().has(&["only-one"]);
    two.kubectl(&["get", "namespaces"]).ok().lacks(&["only-one"]);
    one.stop().expect("nothing stays");
    two.kubectl(&["get", "--raw", "/readyz"]).ok().is("ok");
    two.stop().expect("nothing stays");
}

/// A test that is killed while its cluster runs.
fn victim() -> ! {
    // Shells start what runs in their background with this signal ignored.
    // SAFETY: the default action is no handler, so that nothing of this program runs in one.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.expect("a signal that can be handled");
    let cluster = Cluster::start().expect("a cluster");
    println!("{}", cluster.scratch().display());
    for path in cluster.sandbox().cgroups().expect("cgroups") {
        println!("{}", path.display());
    }
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn killed() {
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        // Its guardian becomes a child of this process, which can then wait for it.
        nix::sys::prctl::set_child_subreaper(true).expect("any process may");
        let mut child = Command::new(std::env::current_exe().expect("a program has a path"))
            .arg("victim")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let paths: Vec<String> = lines.map_while(Result::ok).take_while(|line| line != "ready").collect();
        assert!(paths.len() > 1 && paths.iter().all(|path| std::fs::exists(path).expect("it can be asked")));
        kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
        child.wait().expect("a child can be waited for");
        while waitpid(None, None).is_ok() {}
        for path in paths {
            assert!(!std::fs::exists(&path).expect("it can be asked"), "{signal}: {path} was left");
        }
    }
    nix::sys::prctl::set_child_subreaper(false).expect("any process may");
}
