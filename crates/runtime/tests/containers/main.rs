//! Real containers under a real supervisor. Needs root, and `/bin/busybox` linked statically.

mod confinement;
mod pod;

use std::io::{Read, Write};
use std::path::Path;

use oci_spec::runtime::{
    LinuxMemory, LinuxNamespaceType, LinuxResources, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall, Spec,
};
use pod::{Pod, input, output, text};
use sampan_runtime::protocol::{ContainerState, FailureKind, LogLimits};
use sampan_runtime::sandbox::{NamespaceMode, RuntimeKind, SOCKET};
use sampan_runtime::{Event, ExecConfig, PidMode, RequestError, SandboxConfig, Streams, Supervisor, cleanup};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

fn refusal<T: std::fmt::Debug>(result: Result<T, RequestError>) -> FailureKind {
    match result {
        Err(RequestError::Refused(failure)) => failure.kind,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn exec(argv: &[&str]) -> ExecConfig {
    ExecConfig { argv: argv.iter().map(|arg| arg.to_string()).collect(), ..ExecConfig::default() }
}

#[tokio::test]
async fn output_goes_to_the_log_and_the_exit_code_is_told() {
    let mut pod = Pod::launch("run", SandboxConfig::default()).await;
    pod.run("a", "echo out; echo err >&2; printf half; exit 3").await;
    let exit = pod.exit("a").await;
    assert_eq!((exit.exit_code, exit.signal, exit.oom_killed), (3, None, false));
    assert_eq!(pod.log("a", "stdout"), [('F', "out".into()), ('P', "half".into())]);
    assert_eq!(pod.log("a", "stderr"), [('F', "err".into())]);
    let hello = pod.supervisor.refresh().await.expect("answers");
    assert_eq!(hello.containers[0].state, ContainerState::Exited);
    pod.supervisor.remove("a", false).await.expect("is removed");
    pod.end().await;
}

#[tokio::test]
async fn signals_kill_and_wrong_requests_are_refused() {
    let mut pod = Pod::launch("kill", SandboxConfig::default()).await;
    let supervisor = pod.supervisor.clone();
    assert_eq!(refusal(supervisor.start("a").await), FailureKind::NotFound);
    pod.run("a", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done").await;
    pod.wait_for_output("a", "ready").await;
    assert_eq!(refusal(supervisor.start("a").await), FailureKind::WrongState);
    assert_eq!(refusal(supervisor.remove("a", false).await), FailureKind::WrongState);
    assert_eq!(refusal(supervisor.shutdown(false).await), FailureKind::WrongState);
    assert_eq!(refusal(supervisor.resize("a", 1, 1).await), FailureKind::WrongState);
    let again = pod.config("a", "true");
    assert_eq!(refusal(supervisor.create(again).await), FailureKind::AlreadyExists);
    for id in ["", "..", "a/b", &"x".repeat(200)] {
        let config = pod.config(id, "true");
        assert_eq!(refusal(supervisor.create(config).await), FailureKind::Invalid, "{id}");
    }
    for nonsense in [0, -1, 65] {
        assert_eq!(refusal(supervisor.signal("a", nonsense, false).await), FailureKind::Runtime);
    }
    supervisor.signal("a", SIGTERM, false).await.expect("is sent");
    assert_eq!(pod.exit("a").await.exit_code, 7);
    pod.run("b", "sleep 1000 & sleep 1000").await;
    supervisor.signal("b", SIGKILL, true).await.expect("is sent");
    let exit = pod.exit("b").await;
    assert_eq!((exit.exit_code, exit.signal, exit.oom_killed), (137, Some(9), false));
    // Never started, and running: both go by force.
    supervisor.create(pod.config("c", "true")).await.expect("is created");
    supervisor.remove("c", false).await.expect("was never started");
    pod.run("d", "sleep 1000").await;
    supervisor.remove("d", true).await.expect("is killed and removed");
    pod.end().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_made_leaves_nothing() {
    let pod = Pod::launch("fail", SandboxConfig::default()).await;
    let mut config = pod.config("a", "true");
    let process = config.spec.process_mut().as_mut().expect("has a process");
    process.set_args(Some(vec!["no-such-program".into()]));
    match pod.supervisor.create(config).await {
        Err(RequestError::Refused(failure)) => {
            assert!(failure.message.contains("executable file not found in $PATH"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    let mut config = pod.config("b", "true");
    config.spec.root_mut().as_mut().expect("has a root").set_path("/no/such/root".into());
    assert_eq!(refusal(pod.supervisor.create(config).await), FailureKind::Runtime);
    let mut config = pod.config("c", "true");
    let mut mount = oci_spec::runtime::Mount::default();
    mount
        .set_destination("/data".into())
        .set_typ(Some("bind".into()))
        .set_options(Some(vec!["rbind".into()]));
    mount.set_source(Some("/no/such/source".into()));
    config.spec.mounts_mut().as_mut().expect("has mounts").push(mount);
    match pod.supervisor.create(config).await {
        Err(RequestError::Refused(failure)) => {
            assert!(failure.message.contains("/no/such/source"), "the cause is told: {failure}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pod.supervisor.refresh().await.expect("answers").containers, []);
    assert!(!pod.dir().join("containers/a").exists());
    assert!(!pod.cgroup_exists("a") && !pod.cgroup_exists("b") && !pod.cgroup_exists("c"));
    pod.supervisor.create(pod.config("a", "true")).await.expect("the name is free");
    pod.end().await;
}

#[tokio::test]
async fn images_may_expect_what_runc_does() {
    let mut pod = Pod::launch("expect", SandboxConfig::default()).await;
    // A user who is not root writes to /dev/stdout, in a working directory that is not there.
    let mut config = pod.config("a", "echo $PWD > /dev/stdout; echo err > /dev/stderr");
    let process = config.spec.process_mut().as_mut().expect("has a process");
    process.set_cwd("/srv/new".into());
    let mut user = process.user().clone();
    user.set_uid(1000).set_gid(1000);
    process.set_user(user);
    pod.run_config(config).await;
    assert_eq!(pod.exit("a").await.exit_code, 0);
    assert_eq!(pod.log("a", "stdout"), [('F', "/srv/new".into())]);
    assert_eq!(pod.log("a", "stderr"), [('F', "err".into())]);
    // A program for another machine.
    let mut config = pod.config("b", "");
    let process = config.spec.process_mut().as_mut().expect("has a process");
    process.set_args(Some(vec!["/tmp/foreign".into()]));
    pod.add_program("tmp/foreign", b"\x7fELF what is this");
    pod.run_config(config).await;
    assert_ne!(pod.exit("b").await.exit_code, 0);
    assert_eq!(pod.log("b", "stderr"), [('F', "exec /tmp/foreign: exec format error".into())]);
    pod.end().await;
}

#[tokio::test]
async fn too_much_memory_is_told_as_such() {
    let mut pod = Pod::launch("oom", SandboxConfig::default()).await;
    let mut config = pod.config("a", "tail /dev/zero");
    pod::limit_memory(&mut config.spec, 16 << 20);
    pod.run_config(config).await;
    let exit = pod.exit("a").await;
    assert_eq!((exit.exit_code, exit.oom_killed), (137, true));
    pod.end().await;
}

#[tokio::test]
async fn stats_and_limits_are_of_the_container() {
    let mut pod = Pod::launch("stats", SandboxConfig::default()).await;
    let mut config = pod.config("a", "echo ready; sleep 1000");
    pod::limit_memory(&mut config.spec, 64 << 20);
    pod.run_config(config).await;
    pod.wait_for_output("a", "ready").await;
    let stats = pod.supervisor.stats("a").await.expect("has some");
    assert_eq!(stats.memory_limit, Some(64 << 20));
    assert!(stats.cpu_usage_ns > 0 && stats.memory_usage > 0 && stats.pids >= 1, "{stats:?}");
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(32 << 20));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory)).set_devices(None);
    pod.supervisor.update_resources("a", resources).await.expect("is done");
    assert_eq!(pod.supervisor.stats("a").await.expect("has some").memory_limit, Some(32 << 20));
    pod.end().await;
}

#[tokio::test]
async fn processes_run_in_containers() {
    let mut pod = Pod::launch("exec", SandboxConfig::default()).await;
    pod.run("a", "sleep 1000").await;
    let supervisor = &pod.supervisor;
    let ((stdin, mut to), (mut out, stdout), (mut err, stderr)) = (input(), output(), output());
    let mut config =
        exec(&["sh", "-c", "read line; echo got $line $X $$PPID; pwd; id -u; echo bad >&2; exit 4"]);
    config.env = vec!["X=y".into()];
    config.cwd = Some("/tmp".into());
    config.user = Some(sampan_runtime::protocol::ExecUser { uid: 12, gid: 34, additional_gids: vec![] });
    let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    let mut running = supervisor.exec("a", config, streams).await.expect("runs");
    to.write_all(b"it\n").expect("is taken");
    let exit = running.wait().await.expect("ends");
    assert_eq!((exit.exit_code, exit.signal), (4, None));
    let said = text(&mut out);
    assert!(said.starts_with("got it y ") && said.ends_with("/tmp\n12\n"), "{said}");
    assert_eq!(text(&mut err), "bad\n");
    // No streams at all; killed.
    let mut running = supervisor.exec("a", exec(&["sleep", "1000"]), Streams::default()).await.expect("runs");
    supervisor.signal_exec(running.exec, SIGKILL).await.expect("is sent");
    assert_eq!(running.wait().await.expect("ends").exit_code, 137);
    let missing = supervisor.exec("a", exec(&["/nope"]), Streams::default()).await;
    assert!(missing.expect_err("is missing").to_string().contains("no such file or directory"));
    assert_eq!(std::fs::read_dir(pod.dir().join("exec")).expect("is there").count(), 0);
    pod.end().await;
}

#[tokio::test]
async fn a_terminal_can_be_had_and_sized() {
    let mut pod = Pod::launch("tty", SandboxConfig::default()).await;
    let mut config = pod.config("a", "test -t 0 && echo terminal; read x; stty size; read y; echo $y");
    (config.tty, config.stdin) = (true, true);
    pod.run_config(config).await;
    pod.wait_for_output("a", "terminal").await;
    pod.supervisor.resize("a", 33, 44).await.expect("has one");
    let (stdin, mut to) = input();
    let (mut out, stdout) = output();
    let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: None };
    pod.supervisor.attach("a", streams).await.expect("attaches");
    to.write_all(b"\nlast\n").expect("is taken");
    assert_eq!(pod.exit("a").await.exit_code, 0);
    let said = text(&mut out);
    assert!(said.contains("33 44\r\n") && said.ends_with("last\r\n"), "{said:?}");
    let log = pod.log("a", "stdout");
    assert!(log.contains(&('F', "33 44".into())), "{log:?}");

    pod.run("b", "sleep 1000").await;
    let mut config = exec(&["sh", "-c", "read x; stty size; tty"]);
    config.tty = true;
    let mut running = pod.supervisor.exec("b", config, Streams::default()).await.expect("runs");
    let mut terminal = std::fs::File::from(running.terminal.take().expect("came along"));
    sampan_runtime::resize_terminal(&terminal, 11, 22).expect("is a terminal");
    terminal.write_all(b"\n").expect("is taken");
    assert_eq!(running.wait().await.expect("ends").exit_code, 0);
    let mut said = Vec::new();
    // A terminal whose other side closed answers with an error.
    let _hung_up = terminal.read_to_end(&mut said);
    let said = String::from_utf8(said).expect("text");
    assert!(said.contains("11 22\r\n/dev/pts/0\r\n"), "{said:?}");
    pod.end().await;
}

#[tokio::test]
async fn several_attach_and_one_types() {
    let mut pod = Pod::launch("attach", SandboxConfig::default()).await;
    let mut config = pod.config("a", "cat; echo done >&2");
    (config.stdin, config.stdin_once) = (true, true);
    pod.supervisor.create(config).await.expect("is created");
    let (stdin, mut to) = input();
    let (mut first, stdout) = output();
    let (mut second, other_stdout) = output();
    let (mut errors, stderr) = output();
    let streams = Streams { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr) };
    pod.supervisor.attach("a", streams).await.expect("attaches");
    let streams = Streams { stdout: Some(other_stdout), ..Streams::default() };
    pod.supervisor.attach("a", streams).await.expect("attaches");
    pod.supervisor.start("a").await.expect("starts");
    // More than a pipe holds: nothing may be lost on the way there and back.
    let big = "0123456789abcde\n".repeat(20_000);
    let sent = big.clone();
    let writer = std::thread::spawn(move || to.write_all(sent.as_bytes()));
    let readers =
        [std::thread::spawn(move || text(&mut first)), std::thread::spawn(move || text(&mut second))];
    assert_eq!(pod.exit("a").await.exit_code, 0);
    writer.join().expect("writes").expect("all is taken");
    for reader in readers {
        assert!(reader.join().expect("reads") == big);
    }
    assert_eq!(text(&mut errors), "done\n");
    assert_eq!(pod.log("a", "stdout").len(), 20_000);
    pod.end().await;
}

#[tokio::test]
async fn logs_are_rotated_by_size_and_by_request() {
    let mut pod = Pod::launch("rotate", SandboxConfig::default()).await;
    let mut config = pod.config("a", "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; read x");
    config.log_limits = LogLimits { max_bytes: 2000, max_files: 3 };
    config.stdin = true;
    pod.run_config(config).await;
    let first = loop {
        if let Event::LogRotated { to, .. } = pod.event().await {
            break to;
        }
    };
    assert!(first.to_string_lossy().contains("a.log.20"), "{first:?}");
    let (stdin, mut to) = input();
    pod.supervisor.attach("a", Streams { stdin: Some(stdin), ..Streams::default() }).await.expect("attaches");
    to.write_all(b"\n").expect("is taken");
    assert_eq!(pod.exit("a").await.exit_code, 0);
    pod.supervisor.rotate_log("a").await.expect("has one");
    pod.supervisor.reopen_log("a").await.expect("has one");
    let files = std::fs::read_dir(pod.log_dir()).expect("is there").count();
    assert_eq!(files, 3);
    pod.end().await;
}

fn deny_mkdir() -> LinuxSeccomp {
    let mut rule = LinuxSyscall::default();
    rule.set_names(vec!["mkdir".into(), "mkdirat".into()]).set_action(LinuxSeccompAction::ScmpActErrno);
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(LinuxSeccompAction::ScmpActAllow)
        .set_architectures(None)
        .set_syscalls(Some(vec![rule]));
    seccomp
}

/// A container and an exec in it, both as `uid`, must not be able to make a directory, and must have
/// no capability that the container was not given.
async fn check_seccomp(no_new_privileges: Option<bool>, uid: u32) {
    let mut pod = Pod::launch("seccomp", SandboxConfig::default()).await;
    let script = "mkdir /tmp/x; grep -i -e seccomp: -e cappr /proc/self/status; sleep 1000";
    let mut config = pod.config("a", script);
    let process = config.spec.process_mut().as_mut().expect("has a process");
    process.set_no_new_privileges(no_new_privileges);
    let mut user = process.user().clone();
    user.set_uid(uid).set_gid(uid);
    process.set_user(user);
    let linux = config.spec.linux_mut().as_mut().expect("has linux");
    linux.set_seccomp(Some(deny_mkdir()));
    pod.run_config(config).await;
    pod.wait_for_output("a", "Seccomp:\t2").await;
    let case = format!("{no_new_privileges:?} {uid}");
    let capabilities = pod.log("a", "stdout")[0].1.clone();
    let (mut out, stdout) = output();
    let streams = Streams { stdout: Some(stdout), ..Streams::default() };
    let script = "mkdir /tmp/x || grep -i -e seccomp: -e cappr /proc/self/status";
    let mut running = pod.supervisor.exec("a", exec(&["sh", "-c", script]), streams).await.expect("runs");
    assert_eq!(running.wait().await.expect("ends").exit_code, 0);
    assert_eq!(text(&mut out), format!("{capabilities}\nSeccomp:\t2\n"), "{case}");
    // Either output may be logged before the other one, and both before a later process's end.
    assert_eq!(
        pod.log("a", "stderr"),
        [('F', "mkdir: can't create directory '/tmp/x': Operation not permitted".into())]
    );
    pod.end().await;
}

#[tokio::test]
async fn seccomp_filters_containers_and_execs() {
    for no_new_privileges in [None, Some(false), Some(true)] {
        for uid in [0, 1000] {
            check_seccomp(no_new_privileges, uid).await;
        }
    }
}

#[tokio::test]
async fn the_next_server_adopts_what_runs_and_what_ended() {
    let mut running = 0;
    // By then the server was killed and nobody is connected.
    let pod = Pod::launch_by_killed_server("adopt", &["sleep 1000", WAIT_FOR_GO], |root, pids| {
        running = pids[0];
        std::fs::write(root.join("tmp/go"), "").expect("is written");
        pod::wait_for_end(pids[1]);
    });
    let pod = pod.await;
    let hello = pod.supervisor.hello();
    let of = |id: &str| hello.containers.iter().find(|container| container.id == id).expect("is known");
    assert_eq!((of("c0").state, of("c0").pid as i32), (ContainerState::Running, running));
    assert_eq!(of("c1").state, ContainerState::Exited);
    assert_eq!(of("c1").exit.as_ref().map(|exit| exit.exit_code), Some(5));
    pod.end().await;
}

const WAIT_FOR_GO: &str = "while ! test -e /tmp/go; do sleep 0.02; done; exit 5";

#[tokio::test]
async fn what_a_dead_supervisor_left_is_cleaned_up() {
    let mut pod = Pod::launch("crash", SandboxConfig { pid: PidMode::Pod, ..SandboxConfig::default() }).await;
    pod.run("a", "sleep 1000").await;
    let pid = pod.pid("a").await as i32;
    let supervisor = pod.supervisor.hello().pid as i32;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL)
        .expect("is killed");
    assert!(matches!(pod.supervisor.refresh().await, Err(RequestError::Disconnected)));
    pod::wait_for_end(supervisor);
    assert!(Supervisor::connect(pod.dir()).await.is_err());
    cleanup(pod.dir()).expect("is cleaned up");
    assert!(!pod.dir().exists() && !pod.cgroup_exists("") && !Path::new(&format!("/proc/{pid}")).exists());
    cleanup(pod.dir()).expect("again");
}

#[tokio::test]
async fn containers_of_a_pod_share_what_is_configured() {
    let config = SandboxConfig { hostname: "shop-0".into(), pid: PidMode::Pod, ..SandboxConfig::default() };
    let mut pod = Pod::launch("share", config).await;
    pod.run("a", "exec sleep 1234").await;
    pod.run(
        "b",
        "sleep 4321 & hostname; ps -o comm,args | grep -v ps; ls /proc/1/root/; readlink /proc/self/ns/ipc",
    )
    .await;
    assert_eq!(pod.exit("b").await.exit_code, 0);
    let said: Vec<String> = pod.log("b", "stdout").into_iter().map(|(_, text)| text).collect();
    let all = said.join("\n");
    assert!(
        all.starts_with("shop-0\n") && all.contains("sampan-init") && all.contains("sleep 1234"),
        "{all}"
    );
    let ours = std::fs::read_link("/proc/self/ns/ipc").expect("is there");
    assert_ne!(said.last().map(String::as_str), ours.to_str());
    // What it left behind is gone with it, though its PID namespace is not.
    assert!(!pod.processes("b"));
    pod.end().await;
}

#[tokio::test]
async fn a_pod_may_use_the_host_s_namespaces() {
    let host = NamespaceMode::Host;
    let config = SandboxConfig { ipc: host, uts: host, pid: PidMode::Host, ..SandboxConfig::default() };
    let mut pod = Pod::launch("host", config).await;
    pod.run("a", "for n in ipc uts pid; do readlink /proc/self/ns/$n; done; sleep 1000 & exit 0").await;
    assert_eq!(pod.exit("a").await.exit_code, 0);
    let ours = ["ipc", "uts", "pid"].map(|name| {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("is there");
        ('F', link.to_str().expect("text").to_owned())
    });
    assert_eq!(pod.log("a", "stdout"), ours);
    assert!(!pod.processes("a"));
    // The first process of a PID namespace would ignore it.
    pod.run("b", "sleep 1000").await;
    pod.supervisor.signal("b", 37, true).await.expect("a real-time signal is sent");
    let exit = pod.exit("b").await;
    assert_eq!((exit.exit_code, exit.signal), (165, Some(37)));
    pod.end().await;
}

#[tokio::test]
async fn nonsense_on_the_socket_harms_nobody() {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    let mut pod = Pod::launch("nonsense", SandboxConfig::default()).await;
    pod.run("a", "sleep 1000").await;
    let body = br#"{"id":7,"request":{"Fly":{}}}"#;
    let unknown = [&b"SP\x01\x00\x00\x00\x00"[..], &[body.len() as u8], body].concat();
    let inputs: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", ""),
        (b"SP\x01\x00\xff\xff\xff\xff", ""),
        (b"SP\x01\x02\x00\x00\x00\x00", ""),
        (&unknown, "unknown variant"),
    ];
    for (input, expected) in inputs {
        let dir = std::fs::File::open(pod.dir()).expect("is there");
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let mut stream = UnixStream::connect(path).expect("listens");
        stream.write_all(input).expect("is taken");
        stream.shutdown(std::net::Shutdown::Write).expect("is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("ends");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answer.is_empty(), expected.is_empty(), "{answer}");
        assert!(answer.contains(expected), "{answer}");
    }
    pod.supervisor.refresh().await.expect("still answers");
    pod.end().await;
}

#[tokio::test]
async fn an_external_runtime_does_the_same() {
    let binary = ["/usr/sbin/runc", "/usr/bin/runc"].map(Path::new).into_iter().find(|path| path.exists());
    let binary = binary.expect("this test needs Debian's runc").to_path_buf();
    let config = SandboxConfig { runtime: RuntimeKind::External { binary }, ..SandboxConfig::default() };
    let mut pod = Pod::launch("external", config).await;
    pod.run("a", "echo out; sleep 1000").await;
    pod.wait_for_output("a", "out").await;
    let (mut out, stdout) = output();
    let streams = Streams { stdout: Some(stdout), ..Streams::default() };
    let mut running = pod.supervisor.exec("a", exec(&["echo", "in"]), streams).await.expect("runs");
    assert_eq!(running.wait().await.expect("ends").exit_code, 0);
    assert_eq!(text(&mut out), "in\n");
    let mut config = exec(&["tty"]);
    config.tty = true;
    let mut running = pod.supervisor.exec("a", config, Streams::default()).await.expect("runs");
    assert_eq!(running.wait().await.expect("ends").exit_code, 0);
    let missing = pod.supervisor.exec("a", exec(&["/nope"]), Streams::default()).await;
    assert!(missing.expect_err("is missing").to_string().contains("no such file or directory"));
    pod.supervisor.signal("a", SIGKILL, false).await.expect("is sent");
    assert_eq!(pod.exit("a").await.exit_code, 137);
    pod.supervisor.remove("a", false).await.expect("is removed");
    pod.end().await;
}

#[test]
fn specs_join_only_what_is_shared() {
    let namespaces =
        sampan_runtime::sandbox::PodNamespaces { ipc: Some("/proc/1/ns/ipc".into()), uts: None, pid: None };
    let mut spec = Spec::default();
    namespaces.join(&SandboxConfig { pid: PidMode::Host, ..SandboxConfig::default() }, &mut spec);
    let kinds = |spec: &Spec| -> Vec<LinuxNamespaceType> {
        let linux = spec.linux().as_ref().expect("has linux");
        linux.namespaces().iter().flatten().map(|namespace| namespace.typ()).collect()
    };
    let joined = kinds(&spec);
    assert!(joined.contains(&LinuxNamespaceType::Ipc));
    assert!(!joined.contains(&LinuxNamespaceType::Uts) && !joined.contains(&LinuxNamespaceType::Pid));
}
