//! JSON for people to read, in the form of Go's `json.MarshalIndent`.

/// The same JSON with a line for each member, indented by two spaces. Works on the text: what it holds is not looked at.
pub fn indent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = at + string_length(&text[at..]);
                out.push(b'"');
                out.extend_from_slice(&text[at..end]);
                at = end;
            }
            b'{' | b'[' => {
                out.push(byte);
                let rest = text[at..].trim_ascii_start();
                if rest.first() == Some(&(byte + 2)) {
                    out.push(byte + 2);
                    at = text.len() - rest.len() + 1;
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            other => out.push(other),
        }
    }
    out
}

/// How much of the text belongs to a string whose opening quote is before it, with its closing one.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let closing = text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(text.len(), |at| at + 1)
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        assert_eq!(String::from_utf8(indent(text.as_bytes())).unwrap(), wanted);
    }

    #[test]
    fn every_member_has_a_line_and_the_empty_have_none() {
        check(
            r#"{"a":[1,{"b":null}],"c":{},"d":[ ],"e":""}"#,
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    }\n  ],\n  \"c\": {},\n  \"d\": [],\n  \"e\": \"\"\n}",
        );
        check("true", "true");
    }

    #[test]
    fn texts_stay_as_they_are() {
        check(
            r#"["{,: \"}","\\",":"]"#,
            "[\n  \"{,: \\\"}\",\n  \"\\\\\",\n  \":\"\n]",
        );
        check("\"open", "\"open");
    }

    #[test]
    fn what_is_indented_stays() {
        let once = indent(br#"{"a": [1, 2],"b":{"c":"d"}}"#);
        assert_eq!(indent(&once), once);
    }
}
