//! Sizes of files and functions, as a ratchet: `xtask/ratchet.toml` lists today's offenders and may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Source, lexer};

const MAX_FILE: usize = 800;
const MAX_FUNCTION: usize = 70;
const RATCHET: &str = "xtask/ratchet.toml";

/// Offenders and their sizes in lines.
type Offenders = BTreeMap<String, usize>;

pub(super) fn check(root: &Path, sources: &[Source], update: bool) -> Result<Vec<String>> {
    let today = measure(sources);
    let path = root.join(RATCHET);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut allowed = parse(&text);
    if update {
        // Tighter only: a new offender stays a complaint.
        allowed = today
            .iter()
            .filter_map(|(name, size)| Some((name.clone(), *size.min(allowed.get(name)?))))
            .collect();
        fs::write(&path, print(&allowed)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(compare(&today, &allowed))
}

fn measure(sources: &[Source]) -> Offenders {
    let mut offenders = Offenders::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let text = source.without_tests();
        let lines = text.lines().count();
        if lines > MAX_FILE {
            offenders.insert(source.path.clone(), lines);
        }
        for function in lexer::functions(text)
            .into_iter()
            .filter(|function| function.lines > MAX_FUNCTION)
        {
            offenders.insert(format!("{}::{}", source.path, function.name), function.lines);
        }
    }
    offenders
}

fn compare(today: &Offenders, allowed: &Offenders) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, size) in today {
        match allowed.get(name) {
            Some(limit) if size > limit => {
                complaints.push(format!("{name} grew from {limit} to {size} lines"));
            }
            None => complaints.push(format!("{name} has {size} lines")),
            Some(_) => {}
        }
    }
    for (name, limit) in allowed {
        if today.get(name).is_none_or(|size| size < limit) {
            complaints.push(format!(
                "{name} shrank: tighten the ratchet with `cargo xtask tidy --update`"
            ));
        }
    }
    complaints
}

fn parse(text: &str) -> Offenders {
    text.lines()
        .filter_map(|line| {
            let (name, size) = line.split_once(" = ")?;
            Some((name.trim_matches('"').to_owned(), size.parse().ok()?))
        })
        .collect()
}

fn print(offenders: &Offenders) -> String {
    let mut text = format!(
        "# Files above {MAX_FILE} lines and functions above {MAX_FUNCTION}, tests left out. May only shrink:\n\
         # `cargo xtask tidy --update` tightens it.\n"
    );
    for (name, size) in offenders {
        writeln!(text, "\"{name}\" = {size}").expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratchet_only_turns_one_way() {
        let sizes = |pairs: &[(&str, usize)]| {
            pairs
                .iter()
                .map(|(n, s)| ((*n).to_owned(), *s))
                .collect::<Offenders>()
        };
        let allowed = sizes(&[("a.rs", 900), ("b.rs", 900), ("c.rs", 900), ("d.rs", 900)]);
        let today = sizes(&[("a.rs", 900), ("b.rs", 901), ("c.rs", 850), ("e.rs", 801)]);
        assert_eq!(
            compare(&today, &allowed),
            [
                "b.rs grew from 900 to 901 lines",
                "e.rs has 801 lines",
                "c.rs shrank: tighten the ratchet with `cargo xtask tidy --update`",
                "d.rs shrank: tighten the ratchet with `cargo xtask tidy --update`",
            ]
        );
        assert_eq!(parse(&print(&allowed)), allowed);
    }

    #[test]
    fn the_lines_of_the_test_module_do_not_count() {
        let text = format!(
            "//! x\n{}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "// a\n".repeat(700),
            "// b\n".repeat(700)
        );
        let source = Source {
            path: "crates/a/src/b.rs".to_owned(),
            text,
        };
        assert!(measure(&[source]).is_empty());
    }
}
