//! Go's `%q`: how upstream's messages quote strings.

use std::fmt::Write as _;

/// `text` in double quotes with Go's escapes (`strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(c, &mut out);
    }
    out.push('"');
    out
}

fn push_escaped(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if (c as u32) < 0x20 || c == '\u{7f}' => {
            write!(out, "\\x{:02x}", c as u32).expect("a string takes any text");
        }
        c if c.is_control() || (c.is_whitespace() && c != ' ') || is_format(c) => {
            if (c as u32) < 0x10000 {
                write!(out, "\\u{:04x}", c as u32).expect("a string takes any text");
            } else {
                write!(out, "\\U{:08x}", c as u32).expect("a string takes any text");
            }
        }
        c => out.push(c),
    }
}

/// Invisible format characters, which Go does not print (the common ones; Go asks the whole category Cf).
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("a\"b\\\n\u{1}\u{7f}é"), r#""a\"b\\\n\x01\x7fé""#);
        assert_eq!(quote("\u{2028}\u{200b}"), r#""\u2028\u200b""#);
    }
}
