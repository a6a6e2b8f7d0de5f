//! Profiles as files: the form that Docker, containerd and the OCI runtime specification share.

use serde::Deserialize;

use super::{Action, Argument, Operator, Profile, ProfileError, Rule};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRule {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<FileArgument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileArgument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Where a rule counts, or does not.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

pub(super) fn read(text: &[u8], capabilities: u64) -> Result<Profile, ProfileError> {
    let file: File = serde_json::from_slice(text)?;
    let default = action(&file.default_action, file.default_errno_ret)?;
    let mut rules = Vec::with_capacity(file.syscalls.len());
    for rule in file
        .syscalls
        .into_iter()
        .filter(|rule| counts(rule, capabilities))
    {
        let arguments = rule
            .args
            .unwrap_or_default()
            .iter()
            .map(argument)
            .collect::<Result<_, _>>()?;
        let names = rule.names.into_iter().chain(rule.name).collect();
        rules.push(Rule {
            names,
            action: action(&rule.action, rule.errno_ret)?,
            arguments,
        });
    }
    Ok(Profile { default, rules })
}

fn counts(rule: &FileRule, capabilities: u64) -> bool {
    let has = |name: &String| crate::capability::has(capabilities, name);
    let included = rule.includes.as_ref().is_none_or(|filter| {
        filter.caps.iter().all(has)
            && (filter.arches.is_empty() || filter.arches.iter().any(|arch| is_here(arch)))
            && filter.min_kernel.as_deref().is_none_or(kernel_is_at_least)
    });
    let excluded = rule
        .excludes
        .as_ref()
        .is_some_and(|filter| filter.caps.iter().any(has) || filter.arches.iter().any(|arch| is_here(arch)));
    included && !excluded
}

fn is_here(arch: &str) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => matches!(arch, "amd64" | "x86_64"),
        "aarch64" => matches!(arch, "arm64" | "aarch64"),
        other => arch == other,
    }
}

fn kernel_is_at_least(wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-'])
            .map_while(|part| part.trim().parse().ok())
            .take(2)
            .collect()
    };
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    numbers(&running) >= numbers(wanted)
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, ProfileError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_LOG" => Action::Log,
        other => return Err(ProfileError::Unsupported(format!("action {other}"))),
    })
}

fn argument(argument: &FileArgument) -> Result<Argument, ProfileError> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Operator::Equal,
        "SCMP_CMP_NE" => Operator::NotEqual,
        "SCMP_CMP_LT" => Operator::Less,
        "SCMP_CMP_LE" => Operator::LessOrEqual,
        "SCMP_CMP_GT" => Operator::Greater,
        "SCMP_CMP_GE" => Operator::GreaterOrEqual,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
        other => return Err(ProfileError::Unsupported(format!("operator {other}"))),
    };
    Ok(Argument {
        index: argument.index,
        operator,
        value: argument.value,
        other: argument.value_two,
    })
}
