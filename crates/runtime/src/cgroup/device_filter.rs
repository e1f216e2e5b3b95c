//! The devices that a cgroup of version 2 may use: a small program in the kernel.
//!
//! The kernel runs it for every opening and making of a device, with the kind of access and the
//! device in a context (`struct bpf_cgroup_dev_ctx`); it answers 1 for yes. The rules are looked at
//! from the last to the first, so that the last that matches decides.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::devices::{Kind, Rule};

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// The destination's register in the lower half, the source's in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers of the program: what is asked for.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const SCRATCH: u8 = 1;

const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// The program for `rules`; what none of them matches is forbidden.
pub fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut all = vec![
        // access_type: the kind in the lower 16 bits, the access in the upper.
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = rule_block(rule);
        let unconditional = block.len() == 2;
        all.extend(block);
        if unconditional {
            // The verifier refuses what can never be reached.
            return all;
        }
    }
    all.extend(answer(false));
    all
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, RESULT, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

fn rule_block(rule: &Rule) -> Vec<Instruction> {
    let mut conditions = Vec::new();
    let kind = match rule.kind {
        Kind::Any => None,
        Kind::Character => Some(DEVICE_CHARACTER),
        Kind::Block => Some(DEVICE_BLOCK),
    };
    conditions.extend(kind.map(|kind| instruction(JUMP_NOT_EQUAL, KIND, 0, 0, kind)));
    if rule.access != super::devices::ALL {
        // An allowance must cover all that is asked for; a prohibition is about any part of it.
        let (bits, jump) = match rule.allow {
            true => (!rule.access & super::devices::ALL, JUMP_NOT_EQUAL),
            false => (rule.access, JUMP_EQUAL),
        };
        conditions.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        conditions.push(instruction(AND, SCRATCH, 0, 0, i32::from(bits)));
        conditions.push(instruction(jump, SCRATCH, 0, 0, 0));
    }
    let number = |register, number: u32| instruction(JUMP_NOT_EQUAL, register, 0, 0, number.cast_signed());
    conditions.extend(rule.major.map(|major| number(MAJOR, major)));
    conditions.extend(rule.minor.map(|minor| number(MINOR, minor)));
    let count = conditions.len();
    for (index, condition) in conditions.iter_mut().enumerate() {
        if [JUMP_NOT_EQUAL, JUMP_EQUAL].contains(&condition.code) {
            // To behind the answer, which has two instructions.
            condition.offset = i16::try_from(count - index + 1).expect("a rule has few conditions");
        }
    }
    conditions.extend(answer(rule.allow));
    conditions
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The first members of `union bpf_attr` for loading; the kernel takes the rest for zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the structure is live, has the layout of the command and tells its own size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Restricts a cgroup of version 2, given by its directory, for good.
pub fn attach(cgroup: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
    let program = load(&program(rules))?;
    let attach = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel just made it for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests;
