use super::compile::{Instruction, instructions};
use super::*;

/// Runs the filter as the kernel would, for one call.
fn ask(profile: &Profile, call: &str, arguments: [u64; 6]) -> u32 {
    run(&instructions(profile).unwrap(), call, arguments)
}

fn run(code: &[Instruction], call: &str, arguments: [u64; 6]) -> u32 {
    let number = syscalls::number(call).unwrap();
    let mut data = vec![
        number,
        if cfg!(target_arch = "x86_64") {
            0xc000_003e
        } else {
            0xc000_00b7
        },
        0,
        0,
    ];
    data.extend(arguments.iter().flat_map(|a| [*a as u32, (*a >> 32) as u32]));
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let i = code[at];
        let taken = match i.code {
            0x20 => {
                a = data[i.value as usize / 4];
                0
            }
            0x54 => {
                a &= i.value;
                0
            }
            0x05 => {
                at += i.value as usize;
                0
            }
            0x15 => {
                if a == i.value {
                    i.yes
                } else {
                    i.no
                }
            }
            0x25 => {
                if a > i.value {
                    i.yes
                } else {
                    i.no
                }
            }
            0x35 => {
                if a >= i.value {
                    i.yes
                } else {
                    i.no
                }
            }
            0x06 => return i.value,
            other => panic!("unknown instruction {other:#x}"),
        };
        at += 1 + usize::from(taken);
    }
}

fn verdict(operator: Operator, value: u64, other: u64, actual: u64) -> bool {
    let rule = Rule::with(
        "dup",
        Action::Allow,
        Argument {
            index: 1,
            operator,
            value,
            other,
        },
    );
    let profile = Profile {
        default: Action::Errno(1),
        rules: vec![rule],
    };
    ask(&profile, "dup", [7, actual, 0, 0, 0, 0]) == Action::Allow.code()
}

#[test]
fn comparisons_are_those_of_64_bit_numbers() {
    let values = [
        0,
        1,
        2,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x2_0000_0000,
        u64::MAX,
    ];
    for value in values {
        for actual in values {
            assert_eq!(verdict(Operator::Equal, value, 0, actual), actual == value);
            assert_eq!(verdict(Operator::NotEqual, value, 0, actual), actual != value);
            assert_eq!(
                verdict(Operator::Less, value, 0, actual),
                actual < value,
                "{actual:#x} < {value:#x}"
            );
            assert_eq!(verdict(Operator::LessOrEqual, value, 0, actual), actual <= value);
            assert_eq!(verdict(Operator::Greater, value, 0, actual), actual > value);
            assert_eq!(
                verdict(Operator::GreaterOrEqual, value, 0, actual),
                actual >= value
            );
            assert_eq!(
                verdict(Operator::MaskedEqual, value, 1, actual),
                actual & value == 1
            );
        }
    }
}

#[test]
fn the_usual_profile_keeps_namespaces_and_mounts_from_the_unprivileged() {
    let profile = Profile::usual(0);
    let no = Action::Errno(libc::EPERM as u16).code();
    let yes = Action::Allow.code();
    assert_eq!(ask(&profile, "read", [0; 6]), yes);
    assert_eq!(ask(&profile, "mount", [0; 6]), no);
    assert_eq!(ask(&profile, "unshare", [0; 6]), no);
    assert_eq!(ask(&profile, "clone", [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), yes);
    assert_eq!(
        ask(&profile, "clone", [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]),
        no
    );
    assert_eq!(
        ask(&profile, "clone3", [0; 6]),
        Action::Errno(libc::ENOSYS as u16).code()
    );
    assert_eq!(ask(&profile, "personality", [8, 0, 0, 0, 0, 0]), yes);
    assert_eq!(ask(&profile, "personality", [0x40_0000, 0, 0, 0, 0, 0]), no);
}

#[test]
fn high_bits_of_a_socket_family_do_not_slip_past_the_filter() {
    let profile = Profile::usual(0);
    assert_eq!(
        ask(&profile, "socket", [libc::AF_INET as u64, 0, 0, 0, 0, 0]),
        Action::Allow.code()
    );
    let hidden = 1 << 32 | libc::AF_VSOCK as u64;
    assert_ne!(
        ask(&profile, "socket", [hidden, 0, 0, 0, 0, 0]),
        Action::Allow.code()
    );
}

#[test]
fn capabilities_widen_the_usual_profile() {
    let admin = 1 << crate::capability::number("SYS_ADMIN").unwrap();
    assert_eq!(ask(&Profile::usual(admin), "mount", [0; 6]), Action::Allow.code());
    assert_eq!(
        ask(&Profile::usual(admin), "clone3", [0; 6]),
        Action::Allow.code()
    );
}

#[test]
fn every_name_in_the_usual_profile_is_known_on_x86_64() {
    if cfg!(target_arch = "x86_64") {
        for name in Profile::usual(u64::MAX).rules.iter().flat_map(|rule| &rule.names) {
            assert!(syscalls::number(name).is_some(), "{name}");
        }
    }
}

#[test]
fn a_docker_profile_is_read_with_its_conditions() {
    let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":99},
        {"name":"socket","action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["chroot"],"action":"SCMP_ACT_LOG","includes":{"caps":["CAP_SYS_CHROOT"]}}]}"#;
    let profile = Profile::from_json(text, 0).unwrap();
    assert_eq!(ask(&profile, "mkdir", [0; 6]), Action::Errno(99).code());
    assert_eq!(
        ask(&profile, "socket", [2, 0, 0, 0, 0, 0]),
        Action::KillProcess.code()
    );
    assert_eq!(ask(&profile, "socket", [1, 0, 0, 0, 0, 0]), Action::Allow.code());
    assert_eq!(ask(&profile, "chroot", [0; 6]), Action::Allow.code());
}

#[test]
fn an_action_that_we_do_not_have_is_refused_by_name() {
    let error = Profile::from_json(br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "seccomp profile: action SCMP_ACT_NOTIFY is not supported"
    );
}

#[test]
fn every_call_gets_what_its_rules_say_wherever_it_lies_in_the_tree() {
    let profile = Profile::usual(0);
    let allowed = |name: &str| {
        let rule = profile
            .rules
            .iter()
            .find(|rule| rule.names.iter().any(|known| known == name));
        rule.map_or(profile.default, |rule| rule.action).code()
    };
    let names = syscalls::names().filter(|name| !["personality", "socket", "clone"].contains(name));
    let code = instructions(&profile).unwrap();
    for name in names {
        assert_eq!(run(&code, name, [0; 6]), allowed(name), "{name}");
    }
}
