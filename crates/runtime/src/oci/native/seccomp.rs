//! Filters of system calls.
//!
//! A profile is compiled once: the program for the kernel is kept in a file, beside the profile that it was
//! made of, and read again for every container and exec with that profile.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek};
use std::path::Path;

use libseccomp::error::SeccompError as CompileError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

/// The most instructions that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;
/// `struct sock_filter`.
const INSTRUCTION_BYTES: usize = 8;
/// Files that are kept: more than a node has profiles. Somebody makes new ones then, and all are forgotten.
const KEPT: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("seccomp: {0} is not supported")]
    Unsupported(&'static str),
    #[error("seccomp: {what}")]
    Compile { what: &'static str, source: CompileError },
    #[error("seccomp: errno {0} is out of range")]
    Errno(u32),
    #[error("seccomp: writing the program")]
    Export(#[source] io::Error),
    #[error("seccomp: the filter has {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
    #[error("seccomp: writing the profile")]
    Key(#[source] serde_json::Error),
}

fn failed(what: &'static str) -> impl FnOnce(CompileError) -> SeccompError {
    move |source| SeccompError::Compile { what, source }
}

/// A program for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_LOG` and its like.
    flags: u32,
    /// Whole instructions.
    program: Vec<u8>,
}

impl Filter {
    /// The filter of a profile, from `cache` or made and put there.
    pub fn cached(profile: &LinuxSeccomp, cache: &Path) -> Result<Filter, SeccompError> {
        let key = serde_json::to_vec(profile).map_err(SeccompError::Key)?;
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let path = cache.join(format!("{:016x}.bpf", hasher.finish()));
        if let Some(filter) = std::fs::read(&path).ok().and_then(|bytes| Filter::decode(&bytes, &key)) {
            return Ok(filter);
        }
        let filter = Filter::compile(profile)?;
        if let Err(error) = filter.save(&key, &path) {
            // The next container compiles it again.
            eprintln!("keeping a seccomp filter in {}: {error}", path.display());
        }
        Ok(filter)
    }

    /// The profile with its length, a checksum of what follows, the flags, the program.
    fn save(&self, key: &[u8], path: &Path) -> io::Result<()> {
        let length = (key.len() as u64).to_le_bytes();
        let filter = [&self.flags.to_le_bytes()[..], &self.program].concat();
        let sum = checksum(&filter).to_le_bytes();
        let bytes = [&length[..], key, &sum, &filter].concat();
        // Several containers may be made at once.
        let new = path.with_extension(std::process::id().to_string());
        if let Some(dir) = path.parent() {
            if std::fs::read_dir(dir).is_ok_and(|files| files.count() >= KEPT) {
                std::fs::remove_dir_all(dir)?;
            }
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, path)
    }

    /// `None` when it is of another profile, or damaged.
    fn decode(bytes: &[u8], key: &[u8]) -> Option<Filter> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (found, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (sum, filter) = rest.split_first_chunk::<8>()?;
        let (flags, program) = filter.split_first_chunk::<4>()?;
        let whole = !program.is_empty()
            && program.len().is_multiple_of(INSTRUCTION_BYTES)
            && u64::from_le_bytes(*sum) == checksum(filter);
        (found == key && whole)
            .then(|| Filter { flags: u32::from_le_bytes(*flags), program: program.to_vec() })
    }

    pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
        // A search by halves, since profiles name hundreds of calls.
        Filter::compile_as(profile, 2)
    }

    /// `form` is that of the library: 1 for a list, 2 for a search by halves.
    fn compile_as(profile: &LinuxSeccomp, form: u32) -> Result<Filter, SeccompError> {
        if profile.listener_path().is_some() {
            return Err(SeccompError::Unsupported("listenerPath"));
        }
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let mut context = ScmpFilterContext::new(default).map_err(failed("making a filter"))?;
        for arch in profile.architectures().iter().flatten() {
            context.add_arch(architecture(*arch)).map_err(failed("adding an architecture"))?;
        }
        // Older libraries know lists only.
        let _as_a_list = context.set_ctl_optimize(form);
        for call in profile.syscalls().iter().flatten() {
            let action = action(call.action(), call.errno_ret())?;
            // The library refuses rules that say what holds anyway.
            if action == default {
                continue;
            }
            for name in call.names() {
                // A call that this machine does not have needs no rule.
                let Ok(number) = ScmpSyscall::from_name(name) else { continue };
                let arguments = call.args().as_deref().unwrap_or_default();
                add(&mut context, action, number, arguments)?;
            }
        }
        let mut file = File::from(
            memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC)
                .map_err(|error| SeccompError::Export(error.into()))?,
        );
        context.export_bpf(&file).map_err(failed("writing the program"))?;
        let mut program = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut program)).map_err(SeccompError::Export)?;
        let count = program.len() / INSTRUCTION_BYTES;
        if count > MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong(count));
        }
        Ok(Filter { flags: flags(profile), program })
    }

    /// Restricts the calling process for good. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
    pub fn load(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len() / INSTRUCTION_BYTES)
                .map_err(|_| io::ErrorKind::InvalidInput)?,
            // The kernel copies it from any address.
            filter: self.program.as_ptr().cast_mut().cast(),
        };
        // SAFETY: the program is live and has as many instructions as it says; the kernel only reads.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program)
        };
        Errno::result(result)?;
        Ok(())
    }
}

/// The file is not synced: a crash of the machine may leave a part of it.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// One process has one thread here: synchronising threads means nothing.
fn flags(profile: &LinuxSeccomp) -> u32 {
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync
        | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    profile.flags().iter().flatten().map(bit).fold(0, |all, bit| all | bit)
}

fn add(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    call: ScmpSyscall,
    arguments: &[LinuxSeccompArg],
) -> Result<(), SeccompError> {
    let mut compared = HashSet::new();
    let mut conditions = Vec::with_capacity(arguments.len());
    for argument in arguments {
        compared.insert(argument.index());
        let index =
            u32::try_from(argument.index()).map_err(|_| SeccompError::Unsupported("an argument's index"))?;
        let (operator, datum) = comparison(argument);
        conditions.push(ScmpArgCompare::new(index, operator, datum));
    }
    let failed = failed("adding a rule");
    if conditions.is_empty() {
        context.add_rule(action, call).map_err(failed)?;
    } else if compared.len() == conditions.len() {
        context.add_rule_conditional(action, call, &conditions).map_err(failed)?;
    } else {
        // Several comparisons of one argument stand for alternatives, as in runc.
        for condition in &conditions {
            let failed = self::failed("adding a rule");
            context.add_rule_conditional(action, call, std::slice::from_ref(condition)).map_err(failed)?;
        }
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, SeccompError> {
    let given = errno.unwrap_or(libc::EPERM.cast_unsigned());
    let errno = || i32::try_from(given).map_err(|_| SeccompError::Errno(given));
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno()?),
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(given).map_err(|_| SeccompError::Errno(given))?)
        }
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Unsupported("SCMP_ACT_NOTIFY")),
    })
}

/// The operator and what is compared with.
fn comparison(argument: &LinuxSeccompArg) -> (ScmpCompareOp, u64) {
    let value = argument.value();
    match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        // Here the specification's first value is the mask.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(value), argument.value_two().unwrap_or(0))
        }
    }
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
mod tests;
