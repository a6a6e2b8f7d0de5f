//! From rules to instructions.
//!
//! One block per system call or run of calls, found by halving. While programs run the filter costs next to nothing: the
//! kernel remembers which calls are always allowed.

use super::{Argument, Operator, Profile, ProfileError, Rule, syscalls};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// From here on, the numbers of x86-64 mean another calling convention.
const X32: u32 = 0x4000_0000;

/// The longest filter that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

/// As the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) value: u32,
}

/// A jump target that is filled in when the end of the condition or rule is known.
const PASS: u8 = 254;
const FAIL: u8 = 255;

fn op(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        yes: 0,
        no: 0,
        value,
    }
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, value }
}

/// Compiles for this machine's native calls; calls of another architecture or convention get "no such call".
///
/// Names that this architecture does not have are left out, as usual for profiles that serve several.
pub fn compile(profile: &Profile) -> Result<Vec<u8>, ProfileError> {
    let code = instructions(profile)?;
    if code.len() > MAX_INSTRUCTIONS {
        return Err(ProfileError::TooLong(code.len()));
    }
    let bytes = code.iter().flat_map(|i| {
        let (code, value) = (i.code.to_ne_bytes(), i.value.to_ne_bytes());
        [
            code[0], code[1], i.yes, i.no, value[0], value[1], value[2], value[3],
        ]
    });
    Ok(bytes.collect())
}

pub(super) fn instructions(profile: &Profile) -> Result<Vec<Instruction>, ProfileError> {
    let no_such_call = super::Action::Errno(libc::ENOSYS as u16).code();
    let mut code = vec![
        op(LOAD, OFFSET_ARCHITECTURE),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        op(RETURN, no_such_call),
        op(LOAD, OFFSET_NUMBER),
        jump(JUMP_GREATER_EQUAL, X32, 0, 1),
        op(RETURN, no_such_call),
    ];
    code.extend(tree(&runs(by_call(profile)), profile.default.code())?);
    Ok(code)
}

/// So few runs are tried one after the other.
const LEAF: usize = 2;

/// Finds the run of a call by halving. When a filter is loaded, the kernel runs it for every number that there is, to
/// remember which calls are always allowed: tried in a row, that alone takes half a millisecond.
fn tree(runs: &[Run<'_>], default: u32) -> Result<Vec<Instruction>, ProfileError> {
    if runs.len() <= LEAF {
        let mut code = Vec::new();
        for run in runs {
            code.extend(run_code(run, default)?);
        }
        code.push(op(RETURN, default));
        return Ok(code);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let (low, rest) = (tree(low, default)?, tree(high, default)?);
    // A conditional jump reaches 255 instructions, an unconditional one any.
    let mut code = vec![
        jump(JUMP_GREATER_EQUAL, high[0].first, 0, 1),
        op(JUMP, low.len() as u32),
    ];
    code.extend(low);
    code.extend(rest);
    Ok(code)
}

fn run_code(run: &Run<'_>, default: u32) -> Result<Vec<Instruction>, ProfileError> {
    if let (true, [rule]) = (run.first < run.last, run.rules.as_slice()) {
        return Ok(vec![
            jump(JUMP_GREATER_EQUAL, run.first, 0, 2),
            jump(JUMP_GREATER, run.last, 1, 0),
            op(RETURN, rule.action.code()),
        ]);
    }
    let block = call_block(&run.rules, default)?;
    let length = u8::try_from(block.len()).ok().filter(|length| *length < PASS);
    let length = length.ok_or_else(|| ProfileError::Unsupported("so many rules for one call".to_owned()))?;
    let mut code = vec![jump(JUMP_EQUAL, run.first, 0, length)];
    code.extend(block);
    Ok(code)
}

/// The rules of each call, in the profile's order.
fn by_call(profile: &Profile) -> Vec<(u32, Vec<&Rule>)> {
    let mut calls: std::collections::BTreeMap<u32, Vec<&Rule>> = std::collections::BTreeMap::new();
    for rule in &profile.rules {
        for number in rule.names.iter().filter_map(|name| syscalls::number(name)) {
            calls.entry(number).or_default().push(rule);
        }
    }
    calls.into_iter().collect()
}

/// Calls of consecutive numbers that all have the one same action.
struct Run<'profile> {
    first: u32,
    last: u32,
    rules: Vec<&'profile Rule>,
}

/// Joins what can be answered by two comparisons: what is shorter is loaded faster.
fn runs(calls: Vec<(u32, Vec<&Rule>)>) -> Vec<Run<'_>> {
    let action = |rules: &[&Rule]| match rules {
        [first, ..] if first.arguments.is_empty() => Some(first.action),
        _ => None,
    };
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (number, mut rules) in calls {
        let own = action(&rules);
        match runs.last_mut() {
            Some(run) if own.is_some() && run.last + 1 == number && action(&run.rules) == own => {
                run.last = number;
            }
            _ => {
                if own.is_some() {
                    rules.truncate(1);
                }
                runs.push(Run {
                    first: number,
                    last: number,
                    rules,
                });
            }
        }
    }
    runs
}

fn call_block(rules: &[&Rule], default: u32) -> Result<Vec<Instruction>, ProfileError> {
    let mut block = Vec::new();
    for rule in rules {
        let mut code = Vec::new();
        for argument in &rule.arguments {
            code.extend(condition(argument)?);
        }
        code.push(op(RETURN, rule.action.code()));
        resolve(&mut code, FAIL)?;
        block.extend(code);
        if rule.arguments.is_empty() {
            return Ok(block);
        }
    }
    block.push(op(RETURN, default));
    Ok(block)
}

/// Points the open jumps `mark` behind the end of `code`.
fn resolve(code: &mut [Instruction], mark: u8) -> Result<(), ProfileError> {
    let end = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        let distance = u8::try_from(end - index - 1)
            .ok()
            .filter(|distance| *distance < PASS);
        for target in [&mut instruction.yes, &mut instruction.no] {
            if *target == mark {
                let long = || ProfileError::Unsupported("so long a rule".to_owned());
                *target = distance.ok_or_else(long)?;
            }
        }
    }
    Ok(())
}

/// Falls through when the condition holds, jumps to `FAIL` when it does not.
fn condition(argument: &Argument) -> Result<Vec<Instruction>, ProfileError> {
    if argument.index > 5 {
        return Err(ProfileError::Unsupported(format!("argument {}", argument.index)));
    }
    // Little-endian machines only: the low half comes first.
    let low = op(LOAD, OFFSET_ARGUMENTS + 8 * u32::from(argument.index));
    let high = op(LOAD, OFFSET_ARGUMENTS + 8 * u32::from(argument.index) + 4);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(argument.value);
    let (other_high, other_low) = halves(argument.other);
    // For an order, the high halves decide unless they are equal.
    let order = |decided: (u8, u8), last: (u16, u8, u8)| {
        vec![
            high,
            jump(JUMP_GREATER, value_high, decided.0, 0),
            jump(JUMP_EQUAL, value_high, 0, decided.1),
            low,
            jump(last.0, value_low, last.1, last.2),
        ]
    };
    let mut code = match argument.operator {
        Operator::Equal => {
            vec![
                high,
                jump(JUMP_EQUAL, value_high, 0, FAIL),
                low,
                jump(JUMP_EQUAL, value_low, 0, FAIL),
            ]
        }
        Operator::NotEqual => {
            vec![
                high,
                jump(JUMP_EQUAL, value_high, 0, PASS),
                low,
                jump(JUMP_EQUAL, value_low, FAIL, 0),
            ]
        }
        Operator::MaskedEqual => vec![
            high,
            op(AND, value_high),
            jump(JUMP_EQUAL, other_high, 0, FAIL),
            low,
            op(AND, value_low),
            jump(JUMP_EQUAL, other_low, 0, FAIL),
        ],
        Operator::Greater => order((PASS, FAIL), (JUMP_GREATER, 0, FAIL)),
        Operator::GreaterOrEqual => order((PASS, FAIL), (JUMP_GREATER_EQUAL, 0, FAIL)),
        Operator::Less => order((FAIL, PASS), (JUMP_GREATER_EQUAL, FAIL, 0)),
        Operator::LessOrEqual => order((FAIL, PASS), (JUMP_GREATER, FAIL, 0)),
    };
    resolve(&mut code, PASS)?;
    Ok(code)
}
