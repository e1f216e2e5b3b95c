use super::super::devices::{ALL, MKNOD, READ, WRITE};
use super::*;

/// Runs a program as the kernel would.
fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
    let mut registers = [0u64; 11];
    let mut next = 0;
    loop {
        let Instruction { code, registers: names, offset, immediate } = program[next];
        let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
        next += 1;
        let jumps = match code {
            LOAD_WORD => {
                registers[to] = context[usize::try_from(offset).expect("is inside") / 4].into();
                false
            }
            MOVE => {
                registers[to] = immediate as u64;
                false
            }
            MOVE_REGISTER => {
                registers[to] = registers[from];
                false
            }
            AND => {
                registers[to] &= immediate as u64;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= immediate;
                false
            }
            JUMP_NOT_EQUAL => registers[to] != immediate as u64,
            JUMP_EQUAL => registers[to] == immediate as u64,
            EXIT => return registers[0],
            other => panic!("no instruction {other:#x}"),
        };
        if jumps {
            next = next.checked_add_signed(offset.into()).expect("is inside");
        }
    }
}

fn rule(allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow, kind, major, minor, access }
}

fn allowed(rules: &[Rule], kind: i32, access: u8, major: u32, minor: u32) -> bool {
    run(&program(rules), [u32::from(access) << 16 | kind.cast_unsigned(), major, minor]) == 1
}

#[test]
fn the_last_rule_that_matches_decides() {
    let rules = [
        rule(false, Kind::Any, None, None, ALL),
        rule(true, Kind::Character, None, None, MKNOD),
        rule(true, Kind::Character, Some(1), Some(3), ALL),
        rule(true, Kind::Block, Some(8), None, READ),
        rule(false, Kind::Block, Some(8), Some(1), ALL),
        rule(true, Kind::Block, Some(9), None, ALL),
        rule(false, Kind::Block, Some(9), None, WRITE),
    ];
    let cases = [
        (DEVICE_CHARACTER, READ | WRITE, 1, 3, true),
        (DEVICE_CHARACTER, READ, 1, 1, false),
        (DEVICE_CHARACTER, MKNOD, 1, 1, true),
        (DEVICE_CHARACTER, MKNOD | READ, 1, 1, false),
        (DEVICE_BLOCK, MKNOD, 1, 1, false),
        (DEVICE_BLOCK, READ, 8, 0, true),
        (DEVICE_BLOCK, WRITE, 8, 0, false),
        (DEVICE_BLOCK, READ, 8, 1, false),
        (DEVICE_BLOCK, READ, 9, 0, true),
        (DEVICE_BLOCK, READ | WRITE, 9, 0, false),
    ];
    for (kind, access, major, minor, expected) in cases {
        assert_eq!(allowed(&rules, kind, access, major, minor), expected, "{kind} {access} {major}:{minor}");
    }
    assert!(!allowed(&[], DEVICE_CHARACTER, READ, 1, 3));
    assert!(allowed(&[rule(true, Kind::Any, None, None, ALL)], DEVICE_BLOCK, ALL, 8, 0));
}

/// Needs root, and a kernel with filters for cgroups.
#[test]
fn the_kernel_takes_the_program() {
    let rules = super::super::devices::rules(&[]);
    load(&program(&rules)).expect("passes the verifier");
    load(&program(&[rule(true, Kind::Any, None, None, ALL)])).expect("passes the verifier");
}
