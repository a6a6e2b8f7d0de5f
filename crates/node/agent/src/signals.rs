//! Names of signals, as images and pods write them.

/// The number of `SIGTERM`, `TERM` or `15`; `None` when it is empty or unknown.
pub(crate) fn number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN+") {
        return offset.parse::<i32>().ok().map(|n| 34 + n).filter(|n| *n <= 64);
    }
    NAMES
        .iter()
        .position(|known| *known == bare)
        .map(|at| at as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_and_numbers_are_understood() {
        for (name, wanted) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("RTMIN+3", Some(37)),
            ("", None),
            ("SIGX", None),
        ] {
            assert_eq!(number(name), wanted, "{name}");
        }
    }
}
