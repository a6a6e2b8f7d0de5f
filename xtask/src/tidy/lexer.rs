//! Finds functions and their sizes: just enough of Rust's lexical grammar to know which braces are braces.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// From the line of `fn` to that of the closing brace.
    pub(super) lines: usize,
}

/// Every function of a file, inner ones included.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let mut open: Vec<Open> = Vec::new();
    let mut pending: Option<(String, usize)> = None;
    let mut found = Vec::new();
    let mut tokens = Tokens { text, at: 0, line: 1 }.peekable();
    while let Some((token, line)) = tokens.next() {
        match token {
            Token::Word("fn") => {
                // A function pointer type has no name.
                if let Some((Token::Word(name), _)) = tokens.peek() {
                    pending = Some(((*name).to_owned(), line));
                }
            }
            Token::Symbol('{') => open.push(Open {
                function: pending.take(),
            }),
            Token::Symbol('}') => {
                if let Some(Open {
                    function: Some((name, start)),
                }) = open.pop()
                {
                    found.push(Function {
                        name,
                        lines: line - start + 1,
                    });
                }
            }
            // A declaration without a body.
            Token::Symbol(';') => pending = None,
            _ => {}
        }
    }
    found
}

/// An open brace, and the function whose body it begins.
struct Open {
    function: Option<(String, usize)>,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(char),
    /// The semicolon of an array's type or value, which ends no declaration.
    ArraySemicolon,
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, size: usize) {
        let skipped = &self.rest()[..size];
        self.line += skipped.matches('\n').count();
        self.at += size;
    }

    /// Skips what ends with `end`, which begins at an offset.
    fn skip_past(&mut self, offset: usize, end: &str) {
        let rest = self.rest();
        let size = rest[offset..]
            .find(end)
            .map_or(rest.len(), |at| offset + at + end.len());
        self.skip(size);
    }

    fn skip_block_comment(&mut self) {
        let bytes = self.rest().as_bytes();
        let (mut depth, mut at) = (0, 0);
        while at + 1 < bytes.len() {
            match &bytes[at..at + 2] {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                return self.skip(at);
            }
        }
        self.skip(bytes.len());
    }

    fn skip_string(&mut self) {
        let mut escaped = false;
        let rest = self.rest();
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        self.skip(end.map_or(rest.len(), |(at, _)| at + 1));
    }

    /// A raw string, if one begins here: `r"…"`, `br#"…"#`.
    fn skip_raw_string(&mut self) -> bool {
        let rest = self.rest();
        let Some(after) = ["r", "br", "cr"]
            .iter()
            .find_map(|prefix| rest.strip_prefix(prefix))
        else {
            return false;
        };
        let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
        if after.as_bytes().get(hashes) != Some(&b'"') {
            return false;
        }
        let end = format!("\"{}", "#".repeat(hashes));
        self.skip_past(rest.len() - after.len() + hashes + 1, &end);
        true
    }

    /// A character or a lifetime.
    fn skip_quote(&mut self) {
        let rest = self.rest();
        let mut characters = rest.char_indices().skip(1);
        let first = characters.next().map_or(' ', |(_, c)| c);
        let second = characters.next();
        match (first, second) {
            // An escape: its character is not the end.
            ('\\', Some((at, _))) => self.skip_past(at + 1, "'"),
            (_, Some((at, '\''))) => self.skip(at + 1),
            _ => self.skip(1),
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Token<'a>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            if rest.starts_with("//") {
                self.skip_past(0, "\n");
            } else if rest.starts_with("/*") {
                self.skip_block_comment();
            } else if first == '"' {
                self.skip_string();
            } else if first == '\'' {
                self.skip_quote();
            } else if first.is_alphabetic() || first == '_' {
                if self.skip_raw_string() {
                    continue;
                }
                let size = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                let line = self.line;
                self.skip(size);
                return Some((Token::Word(&rest[..size]), line));
            } else if first == ';' && is_in_array(rest) {
                let line = self.line;
                self.skip(1);
                return Some((Token::ArraySemicolon, line));
            } else {
                let line = self.line;
                self.skip(first.len_utf8());
                if !first.is_whitespace() {
                    return Some((Token::Symbol(first), line));
                }
            }
        }
    }
}

/// A semicolon after which a closing square bracket comes before any other bracket or line end.
fn is_in_array(rest: &str) -> bool {
    rest.find([']', '{', '}', '\n'])
        .is_some_and(|at| rest.as_bytes()[at] == b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &[(&str, usize)]) {
        let found: Vec<_> = functions(text)
            .into_iter()
            .map(|function| (function.name, function.lines))
            .collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, lines)| ((*name).to_owned(), *lines))
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        check(
            "fn a() {\n    x();\n}\n\nfn b()\nwhere\n    T: U,\n{\n}\n",
            &[("a", 3), ("b", 5)],
        );
    }

    #[test]
    fn braces_in_strings_characters_and_comments_do_not_count() {
        check(
            "fn a<'x>() {\n  let _ = (\"}\", '}', '\\'', r#\"}\"#, b\"}\"); // }\n  /* } /* } */ } */\n}\n",
            &[("a", 4)],
        );
    }

    #[test]
    fn declarations_and_function_pointers_have_no_size() {
        check(
            "trait T {\n  fn a(&self, x: [u8; 4]);\n  fn b() {\n  }\n}\nstruct S { f: fn(u8) -> u8 }\n",
            &[("b", 2)],
        );
    }

    #[test]
    fn an_array_in_a_signature_is_no_end() {
        check("fn a(x: [u8; 4]) {\n}\n", &[("a", 2)]);
    }
}
