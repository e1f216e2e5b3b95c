//! Prints what the steps of a container's life cost, in milliseconds, by our own runtime and by runc in
//! turn. Run as root: `cargo run -p sampan-runtime --example measure`, after `--example supervisor`
//! was built.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sampan_runtime::protocol::{ContainerConfig, LogLimits};
use sampan_runtime::sandbox::RuntimeKind;
use sampan_runtime::{Event, ExecConfig, SandboxConfig, Streams, Supervisor};

const ROUNDS: usize = 20;
const STEPS: [&str; 5] = ["create", "start", "exec", "exit", "delete"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = std::env::temp_dir().join(format!("sampan-measure-{}", std::process::id()));
    std::fs::create_dir_all(files.join("rootfs/bin"))?;
    for dir in ["proc", "dev"] {
        std::fs::create_dir_all(files.join("rootfs").join(dir))?;
    }
    std::fs::copy("/bin/busybox", files.join("rootfs/bin/busybox"))?;
    let runc = ["/usr/sbin/runc", "/usr/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let external = runc.map(|binary| ("runc", RuntimeKind::External { binary }));
    for (name, runtime) in [("native", RuntimeKind::Native)].into_iter().chain(external) {
        let result = measure(name, &files, runtime).await;
        sampan_runtime::cleanup(&files.join(name))?;
        result?;
    }
    Ok(std::fs::remove_dir_all(&files)?)
}

async fn measure(name: &str, files: &Path, runtime: RuntimeKind) -> Result<(), Box<dyn std::error::Error>> {
    let cgroup = PathBuf::from(format!("/sampan-measure-{}-{name}", std::process::id()));
    let config = SandboxConfig { runtime, cgroup_parent: Some(cgroup.clone()), ..SandboxConfig::default() };
    let exe = std::env::current_exe()?.with_file_name("supervisor");
    let before = Instant::now();
    let (supervisor, mut events) = Supervisor::launch(&exe, &files.join(name), &config).await?;
    println!("{name}: launch {:.1}", before.elapsed().as_secs_f64() * 1e3);
    let mut samples: [Vec<f64>; STEPS.len()] = Default::default();
    for round in 0..ROUNDS {
        let id = format!("c{round}");
        let mut last = Instant::now();
        let mut step = |index: usize| {
            samples[index].push(last.elapsed().as_secs_f64() * 1e3);
            last = Instant::now();
        };
        supervisor.create(container(&supervisor, files, &cgroup, &id)?).await?;
        step(0);
        supervisor.start(&id).await?;
        step(1);
        let argv = vec!["/bin/busybox".to_owned(), "true".to_owned()];
        let exec = ExecConfig { argv, ..ExecConfig::default() };
        supervisor.exec(&id, exec, Streams::default()).await?.wait().await?;
        step(2);
        supervisor.signal(&id, 9, false).await?;
        while !matches!(events.recv().await, Some(Event::Exited { .. }) | None) {}
        step(3);
        supervisor.remove(&id, false).await?;
        step(4);
    }
    for (step, mut sample) in STEPS.into_iter().zip(samples) {
        sample.sort_by(f64::total_cmp);
        println!("{name}: {step} median {:.2} max {:.2}", sample[ROUNDS / 2], sample[ROUNDS - 1]);
    }
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", supervisor.hello().pid))?;
    for line in smaps.lines().filter(|line| line.starts_with("Private") || line.starts_with("Rss")) {
        println!("{name}: supervisor {line}");
    }
    Ok(supervisor.shutdown(true).await?)
}

fn container(
    supervisor: &Supervisor,
    files: &Path,
    cgroup: &Path,
    id: &str,
) -> Result<ContainerConfig, serde_json::Error> {
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": files.join("rootfs") },
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/busybox", "sleep", "1000"],
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
        ],
        "linux": {
            "cgroupsPath": cgroup.join(id),
            "namespaces": [{ "type": "mount" }, { "type": "network" }],
        },
    });
    let mut config = ContainerConfig {
        id: id.to_owned(),
        spec: serde_json::from_value(spec)?,
        log_path: Some(files.join("log")),
        log_limits: LogLimits::default(),
        tty: false,
        stdin: false,
        stdin_once: false,
    };
    supervisor.join_namespaces(&mut config.spec);
    Ok(config)
}
