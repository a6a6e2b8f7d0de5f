//! Links in pages that came through a proxy: what points to the top of the pod's own server is pointed back through
//! the API server.
//!
//! Source: `apimachinery/pkg/util/proxy/transport.go`. Bytes that are no such link stay as they are (upstream writes
//! touched tags anew). Links in style sheets and in compressed pages are not followed.

/// Where a page came from, and the path through which it is reached.
pub(super) struct Origin<'a> {
    /// `address:port` of the server behind.
    pub(super) host: &'a str,
    /// The client's `Host`.
    pub(super) asked_host: &'a str,
    /// `/api/v1/namespaces/…/proxy`.
    pub(super) prefix: &'a str,
}

impl Origin<'_> {
    /// The link as the client must follow it, if it is to be another.
    pub(super) fn link(&self, link: &str) -> Option<String> {
        let (host, path) = match link.split_once("://") {
            Some(("http" | "https", rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => return None,
            _ => match link.strip_prefix("//") {
                Some(rest) => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    (Some(&rest[..end]), &rest[end..])
                }
                None => (None, link),
            },
        };
        if host.is_some_and(|host| host != self.host && host != self.asked_host) || !path.starts_with('/') {
            return None;
        }
        let found = if path.starts_with(self.prefix) {
            path.to_owned()
        } else {
            format!("{}{path}", self.prefix)
        };
        Some(found).filter(|found| found != link)
    }
}

/// Rewrites the links of a page.
pub(super) fn rewrite(page: &str, origin: &Origin<'_>) -> String {
    let mut out = String::with_capacity(page.len() + page.len() / 8);
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = tag_end(rest);
        let (tag, after) = rest.split_at(end);
        let name = tag_name(tag);
        rewrite_tag(tag, &name, origin, &mut out);
        rest = after;
        // What is in there is no markup.
        if matches!(name.as_str(), "script" | "style" | "textarea" | "title") {
            let (text, after) = rest.split_at(closing(rest, &name));
            out.push_str(text);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Where the closing tag of an element begins.
fn closing(text: &str, name: &str) -> usize {
    let begins = |at: &usize| {
        let found = text.as_bytes().get(at + 2..at + 2 + name.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut ends = text.match_indices("</").map(|(at, _)| at);
    ends.find(begins).unwrap_or(text.len())
}

/// The length of the tag or comment that begins here.
fn tag_end(text: &str) -> usize {
    if text.starts_with("<!--") {
        return text.find("-->").map_or(text.len(), |at| at + 3);
    }
    if tag_name(text).is_empty() {
        return 1;
    }
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at + 1,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// The name of an opening tag in lower case.
fn tag_name(tag: &str) -> String {
    let name = tag[1..].split(|c: char| !c.is_ascii_alphanumeric());
    name.take(1).collect::<String>().to_ascii_lowercase()
}

fn rewrite_tag(tag: &str, name: &str, origin: &Origin<'_>, out: &mut String) {
    let links = link_attributes(name);
    if links.is_empty() {
        out.push_str(tag);
        return;
    }
    let mut rest = tag;
    while let Some(equals) = rest.find('=') {
        let attribute = rest[..equals].trim_end();
        let attribute = attribute.rsplit(|c: char| c.is_whitespace() || c == '/' || c == '"' || c == '\'');
        let attribute = attribute.take(1).collect::<String>().to_ascii_lowercase();
        let value_at = equals + 1 + (rest[equals + 1..].len() - rest[equals + 1..].trim_start().len());
        let (start, end) = value_span(rest, value_at);
        out.push_str(&rest[..start]);
        let value = &rest[start..end];
        match origin.link(value).filter(|_| links.contains(&attribute.as_str())) {
            Some(other) => out.push_str(&other),
            None => out.push_str(value),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
}

/// Where an attribute's value, which begins with its quote if it has one, lies.
fn value_span(tag: &str, at: usize) -> (usize, usize) {
    let value = &tag[at..];
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        let length = value[1..].find(quote).unwrap_or(value.len() - 1);
        return (at + 1, at + 1 + length);
    }
    let length = value.find(|c: char| c.is_whitespace() || c == '>');
    (at, at + length.unwrap_or(value.len()))
}

fn link_attributes(tag: &str) -> &'static [&'static str] {
    match tag {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        host: "10.1.0.2:80",
        asked_host: "api:6443",
        prefix: "/api/v1/namespaces/d/pods/p/proxy",
    };

    #[test]
    fn links_to_the_top_of_the_same_server_go_through_the_proxy() {
        let through = |rest: &str| Some(format!("{}{rest}", ORIGIN.prefix));
        assert_eq!(ORIGIN.link("/a?b#c"), through("/a?b#c"));
        assert_eq!(ORIGIN.link("http://10.1.0.2:80/a/"), through("/a/"));
        assert_eq!(ORIGIN.link("https://api:6443/a"), through("/a"));
        assert_eq!(ORIGIN.link("//10.1.0.2:80/a"), through("/a"));
        for other in [
            "a",
            "../a",
            "#a",
            "http://example.com/a",
            "//example.com/a",
            "mailto:a@example.com",
            "/api/v1/namespaces/d/pods/p/proxy/a",
        ] {
            assert_eq!(ORIGIN.link(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_is_a_link_of_a_tag_is_touched() {
        let p = ORIGIN.prefix;
        let check = |page: &str, expected: &str| assert_eq!(rewrite(page, &ORIGIN), expected);
        check(
            r#"<a href="/rewriteme">test</a>"#,
            &format!(r#"<a href="{p}/rewriteme">test</a>"#),
        );
        check(
            "<IMG alt='a > b' SRC=/i.png><p title=\"/x\">",
            &format!("<IMG alt='a > b' SRC={p}/i.png><p title=\"/x\">"),
        );
        for same in [
            "<script>if (a<b) { c = '<a href=\"/x\">' }</script>",
            "<!-- <a href=\"/x\"> -->",
            "1 < 2 <a href=\"x\"",
            "<a href=",
            "<",
            "ü<é>",
        ] {
            check(same, same);
        }
    }
}
