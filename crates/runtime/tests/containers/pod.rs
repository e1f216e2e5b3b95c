//! A pod under test: everything it made is gone at its end, also when a test fails.
//!
//! The supervisor is `examples/supervisor`: `cargo test -p sampan-runtime` builds it, `--test containers` alone does not.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::{LinuxMemory, LinuxResources, Spec};
use sampan_runtime::protocol::{ContainerConfig, LogLimits};
use sampan_runtime::{Event, ExitStatus, SandboxConfig, Supervisor, cleanup};
use tokio::sync::mpsc;

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Pod {
    pub supervisor: Supervisor,
    events: mpsc::Receiver<Event>,
    cgroup: PathBuf,
    dir: PathBuf,
    files: tempfile::TempDir,
    ended: bool,
}

/// A pipe into a container: its end and ours.
pub fn input() -> (OwnedFd, File) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    (reader, File::from(writer))
}

/// A pipe out of a container: our end and its.
pub fn output() -> (File, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    (File::from(reader), writer)
}

/// Everything until the other side closes.
pub fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).expect("is text");
    text
}

/// The executable that Cargo builds beside the tests.
fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("runs from a file");
    let target = test.parent().and_then(Path::parent).expect("is in deps");
    target.join("examples").join(name)
}

pub fn limit_memory(spec: &mut Spec, bytes: i64) {
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(bytes));
    let linux = spec.linux_mut().as_mut().expect("has linux");
    let mut resources: LinuxResources = linux.resources().clone().unwrap_or_default();
    resources.set_memory(Some(memory));
    linux.set_resources(Some(resources));
}

/// Returns when a process is gone. It is nobody's child here.
pub fn wait_for_end(pid: i32) {
    use std::os::fd::{AsFd, FromRawFd};
    // SAFETY: makes a descriptor that nobody else owns, or fails.
    let raw = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return;
    }
    // SAFETY: as above.
    let fd = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    let mut fds = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 10_000u16).expect("polls");
}

impl Pod {
    fn files(name: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let files = tempfile::tempdir().expect("a directory");
        let rootfs = files.path().join("rootfs");
        for dir in ["bin", "proc", "dev", "sys", "etc"] {
            std::fs::create_dir_all(rootfs.join(dir)).expect("is made");
        }
        std::fs::create_dir(rootfs.join("tmp")).expect("is made");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(rootfs.join("tmp"), open).expect("is ours");
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(files.path(), all).expect("is ours");
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("Debian's busybox-static");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("is made");
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = PathBuf::from(format!("/sampan-test-{}-{number}-{name}", std::process::id()));
        // Longer than the address of a socket may be.
        let dir = files.path().join("d".repeat(100)).join("pod");
        (files, dir, cgroup)
    }

    pub async fn launch(name: &str, mut config: SandboxConfig) -> Pod {
        let (files, dir, cgroup) = Pod::files(name);
        config.cgroup_parent = Some(cgroup.clone());
        match Supervisor::launch(&executable("supervisor"), &dir, &config).await {
            Ok((supervisor, events)) => Pod { supervisor, events, cgroup, dir, files, ended: false },
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Has another process launch the supervisor and start containers `c0`, `c1`, …; kills it, calls
    /// `away` with the root directory and the containers' process ids, and only then connects.
    pub async fn launch_by_killed_server(
        name: &str,
        scripts: &[&str],
        away: impl FnOnce(&Path, Vec<i32>),
    ) -> Pod {
        let (files, dir, cgroup) = Pod::files(name);
        let ids = scripts.iter().enumerate().map(|(number, script)| (format!("c{number}"), script));
        let containers: Vec<ContainerConfig> =
            ids.map(|(id, script)| config(files.path(), &cgroup, &id, script)).collect();
        let sandbox = SandboxConfig { cgroup_parent: Some(cgroup.clone()), ..SandboxConfig::default() };
        let input = serde_json::json!({
            "exe": executable("supervisor"), "dir": dir, "sandbox": sandbox, "containers": containers,
        });
        let mut command = std::process::Command::new(executable("server"));
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
        let mut stdin = server.stdin.take().expect("is piped");
        stdin.write_all(input.to_string().as_bytes()).expect("is read");
        drop(stdin);
        let mut pids = String::new();
        BufReader::new(server.stdout.take().expect("is piped")).read_line(&mut pids).expect("is text");
        server.kill().expect("is killed");
        server.wait().expect("is ours");
        away(
            &files.path().join("rootfs"),
            pids.split_whitespace().map(|pid| pid.parse().expect("a number")).collect(),
        );
        let (supervisor, events) = Supervisor::connect(&dir).await.expect("survives");
        Pod { supervisor, events, cgroup, dir, files, ended: false }
    }

    /// The root file system of its containers.
    pub fn root(&self) -> PathBuf {
        self.files.path().join("rootfs")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts an executable file into the root file system.
    pub fn add_program(&self, name: &str, bytes: &[u8]) {
        let path = self.files.path().join("rootfs").join(name);
        std::fs::write(&path, bytes).expect("is written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("is ours");
    }

    pub fn log_dir(&self) -> PathBuf {
        self.files.path().join("logs")
    }

    pub fn config(&self, id: &str, script: &str) -> ContainerConfig {
        let mut config = config(self.files.path(), &self.cgroup, id, script);
        self.supervisor.join_namespaces(&mut config.spec);
        config
    }

    pub async fn run(&mut self, id: &str, script: &str) {
        self.run_config(self.config(id, script)).await;
    }

    pub async fn run_config(&mut self, config: ContainerConfig) {
        let id = config.id.clone();
        self.supervisor.create(config).await.expect("is created");
        self.supervisor.start(&id).await.expect("starts");
    }

    pub async fn event(&mut self) -> Event {
        self.events.recv().await.expect("the supervisor lives")
    }

    pub async fn exit(&mut self, id: &str) -> ExitStatus {
        loop {
            match self.event().await {
                Event::Exited { id: exited, status } if exited == id => return status,
                _ => {}
            }
        }
    }

    pub async fn pid(&self, id: &str) -> u32 {
        let hello = self.supervisor.refresh().await.expect("answers");
        hello.containers.iter().find(|container| container.id == id).expect("is known").pid
    }

    /// Tags and texts of one stream.
    pub fn log(&self, id: &str, stream: &str) -> Vec<(char, String)> {
        let log = std::fs::read_to_string(self.log_dir().join(format!("{id}.log"))).expect("has a log");
        let entries = log.lines().map(|line| {
            let fields: Vec<&str> = line.splitn(4, ' ').collect();
            assert!(fields[0].ends_with('Z') && fields[0].len() == 30, "{line}");
            (fields[1].to_owned(), fields[2].chars().next().expect("a tag"), fields[3].to_owned())
        });
        entries.filter(|(of, ..)| of == stream).map(|(_, tag, text)| (tag, text)).collect()
    }

    /// Waits, by the log's changes, until a line is there.
    pub async fn wait_for_output(&self, id: &str, line: &str) {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let path = self.log_dir().join(format!("{id}.log"));
        let (line, id) = (line.to_owned(), id.to_owned());
        let watch = Inotify::init(InitFlags::empty()).expect("watches");
        watch.add_watch(&path, AddWatchFlags::IN_MODIFY).expect("has a log");
        loop {
            if self.log(&id, "stdout").iter().any(|(_, text)| text.trim_end() == line) {
                return;
            }
            watch.read_events().expect("something happens");
        }
    }

    fn hierarchies() -> impl Iterator<Item = PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("is there");
        let cgroups =
            mounts.lines().filter(|line| line.split(' ').nth(2).is_some_and(|k| k.starts_with("cgroup")));
        let paths: Vec<PathBuf> =
            cgroups.filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)).collect();
        paths.into_iter()
    }

    fn cgroup_dirs(&self, id: &str) -> impl Iterator<Item = PathBuf> {
        let below = self.cgroup.join(id);
        Pod::hierarchies().map(move |mount| mount.join(below.strip_prefix("/").expect("is absolute")))
    }

    pub fn cgroup_exists(&self, id: &str) -> bool {
        self.cgroup_dirs(id).any(|dir| dir.exists())
    }

    /// Whether a container has processes, those that are being killed excluded.
    pub fn processes(&self, id: &str) -> bool {
        for dir in self.cgroup_dirs(id) {
            let processes = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse().ok()) {
                wait_for_end(pid);
            }
        }
        self.cgroup_dirs(id).any(|dir| std::fs::read(dir.join("cgroup.procs")).is_ok_and(|p| !p.is_empty()))
    }

    /// Shuts down by force and looks for what is left.
    pub async fn end(mut self) {
        let pid = self.supervisor.hello().pid as i32;
        self.supervisor.shutdown(true).await.expect("shuts down");
        wait_for_end(pid);
        let log = std::fs::read_to_string(self.dir.join("supervisor.log")).expect("is there");
        assert_eq!(log.lines().filter(|line| !line.contains("a server")).count(), 0, "{log}");
        assert!(!self.cgroup_exists(""), "cgroups are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("is there");
        assert!(!mounts.contains(self.files.path().to_str().expect("text")), "mounts are left");
        let left = std::fs::read_dir(self.dir.join("containers")).expect("is there").count();
        assert_eq!(left, 0, "files of containers are left");
        self.ended = true;
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = cleanup(&self.dir)
        {
            eprintln!("cleaning up after a test: {error:?}");
        }
    }
}

fn config(files: &Path, cgroup: &Path, id: &str, script: &str) -> ContainerConfig {
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": files.join("rootfs") },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"],
                "effective": ["CAP_KILL", "CAP_CHOWN"],
                "permitted": ["CAP_KILL", "CAP_CHOWN"],
            },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        ],
        "linux": {
            "cgroupsPath": cgroup.join(id),
            "namespaces": [{ "type": "mount" }, { "type": "network" }],
            "resources": { "devices": [{ "allow": true, "access": "rwm" }] },
            "maskedPaths": ["/proc/kcore"],
        },
    });
    let spec: Spec = serde_json::from_value(spec).expect("is a spec");
    ContainerConfig {
        id: id.to_owned(),
        spec,
        log_path: Some(files.join("logs").join(format!("{id}.log"))),
        log_limits: LogLimits::default(),
        tty: false,
        stdin: false,
        stdin_once: false,
    }
}

const APPLETS: [&str; 17] = [
    "sh", "sleep", "cat", "echo", "ls", "mkdir", "id", "pwd", "stty", "tty", "tail", "grep", "ps",
    "hostname", "readlink", "printf", "true",
];
