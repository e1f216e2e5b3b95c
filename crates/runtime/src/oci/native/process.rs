//! The last steps of a container's process: it becomes the user's.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, execve, getcwd, setgroups, setresgid, setresuid};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};

use super::capabilities::{self, SYS_ADMIN, Sets};
use super::program::{self, ProgramError};
use super::seccomp::Filter;
use super::terminal::{self, Terminal};
use super::{handshake, home, streams};
use crate::descriptors::close_all_on_exec;
use crate::oci::Stdio;

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("working directory {0} is not absolute")]
    RelativeCwd(PathBuf),
    #[error("the machine has no AppArmor for profile {0:?}")]
    NoAppArmor(String),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("entering working directory {path}")]
    Cwd { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Program(#[from] ProgramError),
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ProcessError {
    move |source| ProcessError::Io { what, source: source.into() }
}

/// A process as it is to be.
pub struct Plan {
    arguments: Vec<CString>,
    environment: Vec<String>,
    program: String,
    cwd: PathBuf,
    pub uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    sets: Sets,
    limits: Vec<PosixRlimit>,
    no_new_privileges: bool,
    filter: Option<Filter>,
    app_armor: Option<String>,
}

/// What is executed, found.
pub struct Program {
    path: CString,
    environment: Vec<CString>,
}

fn text(text: &str) -> Result<CString, ProgramError> {
    CString::new(text).map_err(|_| ProgramError::Nul)
}

impl Plan {
    pub fn new(process: &Process, filter: Option<Filter>) -> Result<Plan, ProcessError> {
        refuse_unsupported(process)?;
        let arguments = process.args().as_deref().unwrap_or_default();
        let program = arguments.first().ok_or(ProgramError::NoArguments)?.clone();
        if !process.cwd().is_absolute() {
            return Err(ProcessError::RelativeCwd(process.cwd().clone()));
        }
        let user = process.user();
        let profile = process.apparmor_profile().as_deref();
        let app_armor = profile.filter(|name| !["", "unconfined"].contains(name)).map(str::to_owned);
        if let Some(name) = app_armor.as_ref().filter(|_| !has_app_armor()) {
            return Err(ProcessError::NoAppArmor(name.clone()));
        }
        Ok(Plan {
            arguments: arguments.iter().map(|argument| text(argument)).collect::<Result<_, _>>()?,
            environment: process.env().clone().unwrap_or_default(),
            program,
            cwd: process.cwd().clone(),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            sets: Sets::of(process.capabilities().as_ref()),
            limits: process.rlimits().clone().unwrap_or_default(),
            no_new_privileges: process.no_new_privileges() == Some(true),
            filter,
            app_armor,
        })
    }

    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Has the next `execve` enter the AppArmor profile. To be called while the machine's `/proc` is
    /// in sight.
    pub fn confine(&self) -> Result<(), ProcessError> {
        let Some(name) = &self.app_armor else { return Ok(()) };
        let own = "/proc/thread-self/attr/apparmor/exec";
        let old = "/proc/thread-self/attr/exec";
        let path = if Path::new(own).exists() { own } else { old };
        fs::write(path, format!("exec {name}")).map_err(failed("entering an AppArmor profile"))
    }

    /// A filter needs `no_new_privs` or `CAP_SYS_ADMIN`: where the process is to have neither, it is
    /// lent the capability, and gives it up as soon as the filter is in place.
    fn lends(&self) -> bool {
        self.filter.is_some() && !self.no_new_privileges && self.sets.effective & SYS_ADMIN == 0
    }

    /// Takes the streams, becomes the user in the process's root, and says ready. Afterwards only
    /// [`execute`](Plan::execute) is missing.
    pub fn take_over(
        &self,
        stdio: Stdio,
        terminal: Option<Terminal>,
        socket: BorrowedFd<'_>,
    ) -> Result<Program, ProcessError> {
        let slave = terminal.as_ref().map(|terminal| terminal.slave.as_fd());
        if let Some(slave) = slave {
            terminal::control(slave).map_err(failed("controlling the terminal"))?;
        }
        streams::take_all(&stdio, slave).map_err(failed("taking the streams"))?;
        drop(stdio);
        let program = self.become_user()?;
        close_all_on_exec().map_err(failed("closing descriptors"))?;
        let master = terminal.as_ref().map(|terminal| terminal.master.as_fd());
        handshake::tell_ready(socket, master).map_err(failed("saying ready"))?;
        Ok(program)
    }

    /// Gives up everything but what the process is to have, in its root. Afterwards only the filter
    /// is missing, and `execve`.
    fn become_user(&self) -> Result<Program, ProcessError> {
        for limit in &self.limits {
            setrlimit(resource(limit.typ()), limit.soft(), limit.hard())
                .map_err(failed("limiting resources"))?;
        }
        // Root may enter what the user may not; but where root is refused, the user may be let in, as
        // on network file systems.
        let entered = chdir(&self.cwd);
        capabilities::bound(self.sets.bounding).map_err(failed("bounding capabilities"))?;
        nix::sys::prctl::set_keepcaps(true).map_err(failed("keeping capabilities"))?;
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(failed("setting groups"))?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setresgid(gid, gid, gid).map_err(failed("setting the group"))?;
        setresuid(uid, uid, uid).map_err(failed("setting the user"))?;
        let mut sets = self.sets;
        if self.lends() {
            sets.permitted |= SYS_ADMIN;
            sets.effective |= SYS_ADMIN;
        }
        capabilities::set(&sets).map_err(failed("setting capabilities"))?;
        capabilities::set_ambient(sets.ambient).map_err(failed("setting ambient capabilities"))?;
        let cwd = |source: io::Error| ProcessError::Cwd { path: self.cwd.clone(), source };
        entered.or_else(|_| chdir(&self.cwd)).map_err(|error| cwd(error.into()))?;
        // Below another root than ours, the directory would be a way out.
        let inside = getcwd().map_err(|error| cwd(error.into()))?;
        if !inside.is_absolute() {
            return Err(cwd(io::ErrorKind::NotFound.into()));
        }
        umask(Mode::from_bits_truncate(self.umask));
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(failed("forbidding new privileges"))?;
        }
        self.find()
    }

    fn find(&self) -> Result<Program, ProcessError> {
        let path = program::find(&self.program, &self.environment)?;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| ProgramError::Nul)?;
        let mut environment =
            self.environment.iter().map(|entry| text(entry)).collect::<Result<Vec<_>, _>>()?;
        if !self.environment.iter().any(|entry| entry.starts_with("HOME=")) {
            environment.push(text(&format!("HOME={}", home::of(self.uid, Path::new("/etc/passwd"))))?);
        }
        Ok(Program { path, environment })
    }

    /// Returns only when it fails.
    pub fn execute(&self, program: &Program) -> String {
        let Err(text) = self.try_execute(program);
        // Nobody listens any more but the container's log, where runc's users find it too.
        eprintln!("{text}");
        text
    }

    fn try_execute(&self, program: &Program) -> Result<Infallible, String> {
        if let Some(filter) = &self.filter {
            filter.load().map_err(|error| format!("seccomp: loading the filter: {error}"))?;
            if self.lends() {
                capabilities::set(&self.sets)
                    .map_err(|error| format!("seccomp: giving up what loaded the filter: {error}"))?;
            }
        }
        execve(&program.path, &self.arguments, &program.environment)
            .map_err(|error| format!("exec {}: {}", self.program, error.desc().to_lowercase()))
    }
}

fn refuse_unsupported(process: &Process) -> Result<(), ProcessError> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let asked = [
        (given(process.selinux_label()), "an SELinux label"),
        (process.io_priority().is_some(), "an I/O priority"),
        (process.scheduler().is_some(), "a scheduling policy"),
        (process.exec_cpu_affinity().is_some(), "a CPU affinity"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(ProcessError::Unsupported(what)),
        None => Ok(()),
    }
}

fn has_app_armor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(extra: serde_json::Value, filtered: bool) -> Result<Plan, String> {
        let mut json = serde_json::json!({
            "user": { "uid": 7, "gid": 8 }, "cwd": "/", "args": ["true"],
            "capabilities": { "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] },
        });
        json.as_object_mut().expect("is one").extend(extra.as_object().expect("is one").clone());
        let profile = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        let profile = serde_json::from_value(profile).expect("is a profile");
        let filter = filtered.then(|| Filter::compile(&profile).expect("compiles"));
        let process = serde_json::from_value(json).expect("is a process");
        Plan::new(&process, filter).map_err(|error| error.to_string())
    }

    #[test]
    fn the_capability_is_lent_for_a_filter_only() {
        let check = |extra: serde_json::Value, filtered: bool, expected: bool| {
            assert_eq!(plan(extra.clone(), filtered).expect("is possible").lends(), expected, "{extra}");
        };
        check(serde_json::json!({}), true, true);
        check(serde_json::json!({}), false, false);
        check(serde_json::json!({ "noNewPrivileges": true }), true, false);
        check(serde_json::json!({ "capabilities": { "effective": ["CAP_SYS_ADMIN"] } }), true, false);
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let check = |extra: serde_json::Value, expected: &str| {
            assert_eq!(plan(extra, false).err().as_deref(), Some(expected));
        };
        check(serde_json::json!({ "selinuxLabel": "a:b" }), "an SELinux label is not supported");
        check(serde_json::json!({ "cwd": "tmp" }), "working directory tmp is not absolute");
        check(serde_json::json!({ "args": [] }), "args must not be empty");
        check(serde_json::json!({ "args": ["a\0b"] }), "an argument or variable has a NUL byte");
        assert!(plan(serde_json::json!({ "apparmorProfile": "unconfined" }), false).is_ok());
        if !has_app_armor() {
            let expected = "the machine has no AppArmor for profile \"web\"";
            check(serde_json::json!({ "apparmorProfile": "web" }), expected);
        }
    }
}
