//! Where the last lines of a file begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 * 1024;

/// The offset at which the last `lines` lines of the log begin, a line being one that the reader sees: partial lines
/// count with the line they belong to.
pub(super) fn start_of_last(file: &File, lines: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut position = end;
    // The bytes from `position` to the last line break seen: at most one line beyond the block.
    let mut carry: Vec<u8> = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(BLOCK);
        let mut block = vec![0; (position - start) as usize];
        file.read_exact_at(&mut block, start)?;
        block.extend_from_slice(&carry);
        let mut line_end = block.len();
        while let Some(at) = block[..line_end.saturating_sub(1)]
            .iter()
            .rposition(|byte| *byte == b'\n')
        {
            // The line from `at + 1` begins a visible line if the one before it is complete.
            let before = block[..at].iter().rposition(|byte| *byte == b'\n').map(|b| b + 1);
            match before {
                Some(before) if is_partial(&block[before..at]) => {}
                Some(_) => {
                    found += 1;
                    if found == lines {
                        return Ok(start + at as u64 + 1);
                    }
                }
                // The line before reaches out of the block: judged with the next one.
                None => break,
            }
            line_end = at + 1;
        }
        carry = block[..line_end].to_vec();
        // Whatever lies in front of `line_end` is read again with the block before.
        carry = if start == 0 { Vec::new() } else { carry };
        if start == 0 {
            return Ok(first_block_start(&block[..line_end], lines - found));
        }
        position = start;
    }
    Ok(0)
}

/// Within the head of the file: two lines at most are undecided there.
fn first_block_start(head: &[u8], wanted: u64) -> u64 {
    let starts: Vec<usize> = std::iter::once(0)
        .chain(
            head.iter()
                .enumerate()
                .filter(|(at, byte)| **byte == b'\n' && at + 1 < head.len())
                .map(|(at, _)| at + 1),
        )
        .collect();
    let visible: Vec<usize> = starts
        .iter()
        .enumerate()
        .filter(|(n, start)| *n == 0 || !is_partial(&head[starts[n - 1]..**start - 1]))
        .map(|(_, start)| *start)
        .collect();
    let skip = visible.len().saturating_sub(wanted as usize);
    visible.get(skip).copied().unwrap_or(0) as u64
}

fn is_partial(line: &[u8]) -> bool {
    line.splitn(4, |byte| *byte == b' ').nth(2) == Some(b"P")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tail(text: &str, lines: u64) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let start = start_of_last(&file, lines).unwrap();
        text[start as usize..].to_owned()
    }

    #[test]
    fn the_last_lines_are_found() {
        let text = "t stdout F 1\nt stdout F 2\nt stdout F 3\n";
        assert_eq!(tail(text, 0), "");
        assert_eq!(tail(text, 1), "t stdout F 3\n");
        assert_eq!(tail(text, 2), "t stdout F 2\nt stdout F 3\n");
        assert_eq!(tail(text, 9), text);
    }

    #[test]
    fn partial_lines_count_as_one() {
        let text = "t stdout F 1\nt stdout P 2\nt stdout P 2\nt stdout F 2\nt stdout F 3\n";
        assert_eq!(tail(text, 2), &text[13..]);
        assert_eq!(tail(text, 3), text);
    }

    #[test]
    fn files_larger_than_a_block_are_walked_backwards() {
        let line = format!("t stdout F {}\n", "x".repeat(1000));
        let text = line.repeat(300);
        assert_eq!(tail(&text, 150).len(), line.len() * 150);
        assert_eq!(tail(&text, 299).len(), line.len() * 299);
    }
}
