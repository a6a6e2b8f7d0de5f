//! Version 2 has no device controller: a small program, attached to the group, answers instead.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::DeviceRule;

/// One instruction of the kernel's machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination register in the low half, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// The registers: the kernel passes the context in 1; the program keeps what it asks about in 2 to 5.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_32: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn op(code: u8, destination: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination,
        offset: 0,
        immediate,
    }
}

fn load(destination: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_32,
        registers: destination | CONTEXT << 4,
        offset,
        immediate: 0,
    }
}

/// The program: for each rule, if all fits, answer 1; in the end answer 0.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        load(KIND, 0),
        op(AND_32, KIND, 0xffff),
        load(ACCESS, 0),
        op(SHIFT_RIGHT_32, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules {
        code.extend(rule_code(rule));
    }
    code.extend([op(MOVE, ANSWER, 0), op(EXIT, 0, 0)]);
    code
}

fn rule_code(rule: &DeviceRule) -> Vec<Instruction> {
    const MKNOD: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;
    let allowed = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)];
    let allowed: i32 = allowed.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
    let kind = if rule.kind == 'b' { 1 } else { 2 };
    let mut code = vec![op(JUMP_NOT_EQUAL, KIND, kind)];
    // What is asked beyond what is allowed must be nothing. Register 1, the context, is not needed any more.
    code.push(Instruction {
        code: MOVE_REGISTER,
        registers: CONTEXT | ACCESS << 4,
        offset: 0,
        immediate: 0,
    });
    code.push(op(AND_32, CONTEXT, !allowed & 0x7));
    code.push(op(JUMP_NOT_EQUAL, CONTEXT, 0));
    code.extend(rule.major.map(|major| op(JUMP_NOT_EQUAL, MAJOR, major as i32)));
    code.extend(rule.minor.map(|minor| op(JUMP_NOT_EQUAL, MINOR, minor as i32)));
    code.extend([op(MOVE, ANSWER, 1), op(EXIT, 0, 0)]);
    let end = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if instruction.code == JUMP_NOT_EQUAL {
            instruction.offset = (end - index - 1) as i16;
        }
    }
    code
}

/// The part of the kernel's `union bpf_attr` that loading needs.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets the processes of the group `dir` use only what `rules` allow.
pub(super) fn limit_devices(dir: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    const LOAD: i32 = 5;
    const ATTACH: i32 = 8;
    const PROGRAM_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    let code = program(rules);
    let licence = c"Apache-2.0";
    let attributes = LoadAttributes {
        kind: PROGRAM_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let program = bpf(LOAD, &attributes)?;
    // SAFETY: loading answers with a fresh descriptor.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let group = File::open(dir)?;
    let attributes = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    bpf(ATTACH, &attributes).map(drop)
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes have the size told, and what they point to lives across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for one question.
    fn ask(rules: &[DeviceRule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let code = program(rules);
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_i64; 6];
        let mut at = 0;
        loop {
            let i = code[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            match i.code {
                LOAD_32 => registers[to] = i64::from(context[i.offset as usize / 4]),
                MOVE => registers[to] = i64::from(i.immediate),
                MOVE_REGISTER => registers[to] = registers[from],
                AND_32 => registers[to] &= i64::from(i.immediate),
                SHIFT_RIGHT_32 => registers[to] >>= i.immediate,
                JUMP_NOT_EQUAL if registers[to] != i64::from(i.immediate) => at += i.offset as usize,
                JUMP_NOT_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            at += 1;
        }
    }

    #[test]
    fn the_usual_devices_are_allowed_and_disks_are_not() {
        let rules = &super::super::devices::USUAL;
        assert!(ask(rules, 2, 6, 1, 3), "read and write null");
        assert!(ask(rules, 2, 6, 136, 7), "any terminal");
        assert!(ask(rules, 1, 1, 254, 0), "mknod of anything");
        assert!(!ask(rules, 1, 2, 254, 0), "read a disk");
        assert!(!ask(rules, 1, 3, 254, 0), "mknod and read a disk");
        assert!(!ask(rules, 2, 2, 1, 1), "read memory");
    }

    #[test]
    fn without_rules_nothing_is_allowed() {
        assert!(!ask(&[], 2, 2, 1, 3));
    }
}
