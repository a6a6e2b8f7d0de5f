//! Prints a generated document, to look at it or compare it with upstream's: `aggregated`, `groups`,
//! `resources GROUP/VERSION`, `openapi GROUP/VERSION`.

use std::io::Write as _;

use cloudeck_schema::{discovery, openapi};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let split = |text: &str| {
        let (group, version) = text.split_once('/').unwrap_or(("", text));
        (group.to_owned(), version.to_owned())
    };
    let document = match words[..] {
        ["aggregated"] => Some(discovery::aggregated_groups()),
        ["groups"] => Some(discovery::groups()),
        ["resources", served] => {
            let (group, version) = split(served);
            discovery::resource_list(&group, &version)
        }
        ["openapi", served] => {
            let (group, version) = split(served);
            openapi::Documents::default().document(&group, &version)
        }
        _ => None,
    };
    let document =
        document.expect("usage: aggregated | groups | resources [GROUP/]VERSION | openapi [GROUP/]VERSION");
    std::io::stdout()
        .write_all(&document)
        .expect("stdout takes the document");
}
