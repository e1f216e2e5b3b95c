//! The last step of a container's process: from libcontainer's code to the user's.
//!
//! libcontainer applies no seccomp filter to a process that is executed in a running container. A
//! filter needs `no_new_privs` or `CAP_SYS_ADMIN`: where the container has neither, the process is
//! given the capability, and gives it up as soon as the filter is in place.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::seccomp::initialize_seccomp;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{Capabilities, Capability, LinuxSeccomp, Process, Spec};

/// Where a program is looked for when its environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CAP_SYS_ADMIN: u32 = 21;

/// Checks and replaces the process image.
#[derive(Clone, Debug, Default)]
pub struct SampanExecutor {
    /// The filter that libcontainer will not apply.
    seccomp: Option<LinuxSeccomp>,
    /// `CAP_SYS_ADMIN` was lent for the filter.
    lent: bool,
}

impl SampanExecutor {
    /// For an exec: the process as libcontainer must start it, and what completes it.
    pub fn for_exec(process: &Process, mut spec: Spec) -> (Process, SampanExecutor) {
        let mut process = process.clone();
        let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp().clone());
        let mut lent = false;
        if seccomp.is_some() && process.no_new_privileges() != Some(true) {
            let mut capabilities = process.capabilities().clone().unwrap_or_default();
            for get in [Set::Permitted, Set::Effective] {
                let mut set = get.of(&capabilities);
                lent |= set.insert(Capability::SysAdmin);
                get.put(&mut capabilities, set);
            }
            process.set_capabilities(Some(capabilities));
        }
        (process, SampanExecutor { seccomp, lent })
    }
}

#[derive(Clone, Copy)]
enum Set {
    Permitted,
    Effective,
}

impl Set {
    fn of(self, capabilities: &oci_spec::runtime::LinuxCapabilities) -> Capabilities {
        match self {
            Set::Permitted => capabilities.permitted().clone().unwrap_or_default(),
            Set::Effective => capabilities.effective().clone().unwrap_or_default(),
        }
    }

    fn put(self, capabilities: &mut oci_spec::runtime::LinuxCapabilities, set: Capabilities) {
        match self {
            Set::Permitted => capabilities.set_permitted(Some(set)),
            Set::Effective => capabilities.set_effective(Some(set)),
        };
    }
}

impl Executor for SampanExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (args, path) = command(spec).ok_or(ExecutorError::InvalidArg)?;
        let program = find(&args[0], &path).map_err(ExecutorError::Other)?;
        let text = |text: &str| CString::new(text).map_err(|_| ExecutorError::InvalidArg);
        let argv = args.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
        let program = text(&program.to_string_lossy())?;
        if let Some(seccomp) = &self.seccomp {
            initialize_seccomp(seccomp).map_err(|error| ExecutorError::Execution(Box::new(error)))?;
        }
        if self.lent {
            give_up_sys_admin().map_err(|error| ExecutorError::Execution(Box::new(error)))?;
        }
        let Err(error) = nix::unistd::execv(&program, &argv);
        let text = format!("exec {}: {}", args[0], error.desc().to_lowercase());
        // Nobody listens any more but the container's log, where runc's users find it too.
        eprintln!("{text}");
        Err(ExecutorError::Other(text))
    }

    /// The messages are those that runc's users know.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let invalid = |text| ExecutorValidationError::ArgValidationError(text);
        let (args, path) = command(spec).ok_or_else(|| invalid("args must not be empty".to_owned()))?;
        find(&args[0], &path).map(drop).map_err(invalid)
    }
}

/// The arguments and the search path.
fn command(spec: &Spec) -> Option<(&[String], String)> {
    let process = spec.process().as_ref()?;
    let args = process.args().as_ref().filter(|args| !args.is_empty())?;
    let env = process.env().as_deref().unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    Some((args, path.unwrap_or(DEFAULT_PATH).to_owned()))
}

fn find(program: &str, path: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return match executable(Path::new(program)) {
            Ok(()) => Ok(PathBuf::from(program)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("exec: {program:?}: stat {program}: no such file or directory"))
            }
            Err(_) => Err(format!("exec: {program:?}: permission denied")),
        };
    }
    let found = path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(program));
    found
        .into_iter()
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| format!("exec: {program:?}: executable file not found in $PATH"))
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

/// `struct __user_cap_header_struct` and `__user_cap_data_struct` of version 3: two words each.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

fn give_up_sys_admin() -> io::Result<()> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: both pointers are to live structures of the layout that version 3 asks for.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    data[0].effective &= !(1 << CAP_SYS_ADMIN);
    data[0].permitted &= !(1 << CAP_SYS_ADMIN);
    // SAFETY: as above; the kernel only reads the data.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
