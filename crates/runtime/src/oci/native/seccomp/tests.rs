use super::*;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_THREAD: u32 = 0;
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

/// A system call as a filter sees it (`struct seccomp_data`).
#[derive(Clone, Copy)]
struct Call {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16.. => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            other => panic!("no word at {other}"),
        }
    }
}

/// Runs a program as the kernel would: the instructions of classic BPF that filters have.
fn run(filter: &Filter, call: Call) -> u32 {
    let (mut accumulator, mut next) = (0u32, 0);
    loop {
        let bytes = &filter.program[next * INSTRUCTION_BYTES..][..INSTRUCTION_BYTES];
        let code = u16::from_le_bytes([bytes[0], bytes[1]]);
        let constant = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        next += 1;
        let matched = match code {
            0x20 => {
                accumulator = call.word(constant);
                continue;
            }
            0x54 => {
                accumulator &= constant;
                continue;
            }
            0x05 => {
                next += constant as usize;
                continue;
            }
            0x06 => return constant,
            0x15 => accumulator == constant,
            0x25 => accumulator > constant,
            0x35 => accumulator >= constant,
            0x45 => accumulator & constant != 0,
            other => panic!("no instruction {other:#x}"),
        };
        next += usize::from(bytes[if matched { 2 } else { 3 }]);
    }
}

fn profile() -> LinuxSeccomp {
    let json = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0x7e02_0000u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["lseek"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 1, "value": 0x1_0000_0000u64, "op": "SCMP_CMP_GT" }, { "index": 2, "value": 2, "op": "SCMP_CMP_LT" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }] },
            { "names": ["ptrace"], "action": "SCMP_ACT_KILL_THREAD" },
            { "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
        ],
    });
    serde_json::from_value(json).expect("is a profile")
}

fn number(name: &str, arch: ScmpArch) -> u32 {
    ScmpSyscall::from_name_by_arch(name, arch).expect("is known").as_raw_syscall().cast_unsigned()
}

#[test]
fn programs_do_what_profiles_say() {
    let filter = Filter::compile(&profile()).expect("compiles");
    let check = |name: &str, arguments: &[u64], expected: u32| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let call = Call { number: number(name, ScmpArch::X8664), arch: X86_64, arguments: all };
        assert_eq!(run(&filter, call), expected, "{name} {arguments:x?}");
    };
    check("read", &[], ALLOW);
    check("mount", &[], ERRNO | 1);
    check("ptrace", &[], KILL_THREAD);
    // A thread, a process, a namespace of users.
    check("clone", &[0x3d_0f00], ALLOW);
    check("clone", &[0x11], ALLOW);
    check("clone", &[0x1000_0011], ERRNO | 1);
    check("clone3", &[], ERRNO | 38);
    check("personality", &[0], ALLOW);
    check("personality", &[8], ALLOW);
    check("personality", &[9], ERRNO | 1);
    check("lseek", &[0, 0x1_0000_0001, 1], ALLOW);
    check("lseek", &[0, 0x1_0000_0000, 1], ERRNO | 1);
    check("lseek", &[0, 0x1_0000_0001, 2], ERRNO | 1);
    check("socket", &[2], ALLOW);
    check("socket", &[40], ERRNO | 1);
}

#[test]
fn every_architecture_has_its_own_numbers() {
    let filter = Filter::compile(&profile()).expect("compiles");
    let of = |name: &str, numbers: ScmpArch, arch: u32| {
        run(&filter, Call { number: number(name, numbers), arch, arguments: [0; 6] })
    };
    assert_eq!(of("write", ScmpArch::X86, X86), ALLOW);
    assert_eq!(of("mount", ScmpArch::X86, X86), ERRNO | 1);
    // Number 4 is "write" for one and "stat" for the other.
    assert_eq!(of("write", ScmpArch::X86, X86_64), ERRNO | 1);
    // One that the profile does not name.
    assert_eq!(of("read", ScmpArch::X8664, 0xc000_00b7), KILL_THREAD);
}

#[test]
fn searching_by_halves_finds_what_a_list_has() {
    let name = |number: i32| ScmpSyscall::from_raw_syscall(number).get_name_by_arch(ScmpArch::X8664).ok();
    let names: Vec<String> = (0..460).filter(|number| number % 3 != 0).filter_map(name).collect();
    assert!(names.len() > 200);
    let mut profile = profile();
    let mut calls = profile.syscalls().clone().expect("has some");
    let own: Vec<String> = calls.iter().flat_map(|call| call.names().clone()).collect();
    let mut call = calls[0].clone();
    call.set_names(names.into_iter().filter(|name| !own.contains(name)).collect());
    calls.push(call);
    profile.set_syscalls(Some(calls));
    let (halves, list) = (Filter::compile_as(&profile, 2), Filter::compile_as(&profile, 1));
    let (halves, list) = (halves.expect("compiles"), list.expect("compiles"));
    let mut allowed = 0;
    for arch in [X86_64, X86, 0xc000_00b7] {
        for number in (0..600).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            for argument in [0, 1, 8, 40, 0x1000_0011, u64::MAX] {
                let call = Call { number, arch, arguments: [argument; 6] };
                assert_eq!(run(&halves, call), run(&list, call), "{arch:x} {number} {argument:x}");
                allowed += u32::from(run(&halves, call) == ALLOW);
            }
        }
    }
    assert!(allowed > 1000, "{allowed}");
}

#[test]
fn a_profile_is_compiled_once() {
    let files = tempfile::tempdir().expect("a directory");
    let cache = files.path().join("seccomp");
    let made = Filter::cached(&profile(), &cache).expect("compiles");
    let path = std::fs::read_dir(&cache).expect("is there").next().expect("a file").expect("is read").path();
    let bytes = std::fs::read(&path).expect("is there");
    let key = serde_json::to_vec(&profile()).expect("is written");
    assert_eq!(Filter::decode(&bytes, &key), Some(made.clone()));
    assert_eq!(Filter::cached(&profile(), &cache).expect("is there"), made);
    // Of another profile, or cut off.
    assert_eq!(Filter::decode(&bytes, b"{}"), None);
    for length in [0, 7, 12, bytes.len() - 1] {
        assert_eq!(Filter::decode(&bytes[..length], &key), None, "{length}");
    }
    // A part of the program lost, as a crash of the machine may leave it.
    let mut torn = bytes.clone();
    torn[bytes.len() - 64..].fill(0);
    assert_eq!(Filter::decode(&torn, &key), None);
    std::fs::write(&path, &bytes[..40]).expect("is written");
    assert_eq!(Filter::cached(&profile(), &cache).expect("compiles again"), made);
}

#[test]
fn what_is_kept_has_a_bound() {
    let files = tempfile::tempdir().expect("a directory");
    for number in 0..KEPT {
        std::fs::write(files.path().join(format!("{number}.bpf")), "old").expect("is written");
    }
    Filter::cached(&profile(), files.path()).expect("compiles");
    assert_eq!(std::fs::read_dir(files.path()).expect("is there").count(), 1);
}

#[test]
fn what_is_not_done_is_refused() {
    let mut notify = profile();
    notify.set_default_action(LinuxSeccompAction::ScmpActNotify);
    let error = Filter::compile(&notify).expect_err("is refused");
    assert_eq!(error.to_string(), "seccomp: SCMP_ACT_NOTIFY is not supported");
    let mut listener = profile();
    listener.set_listener_path(Some("/run/listener".into()));
    assert!(Filter::compile(&listener).is_err());
}
