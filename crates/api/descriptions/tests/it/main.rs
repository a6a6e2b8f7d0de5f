//! Memory of documents with texts; a process of its own, so that nothing else is measured.

use cloudeck_descriptions::load;
use cloudeck_schema::openapi::Documents;

/// A line of the process's status, in kB.
fn status_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process sees itself");
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok());
    number.expect("the kernel tells it in kB")
}

#[test]
fn texts_do_not_stay_in_memory_when_documents_are_written() {
    let documents = Documents::new(Some(load));
    documents.index();
    let settled = status_kb("RssAnon");
    for _ in 0..20 {
        let document = documents.document("", "v1").unwrap();
        assert!(document.len() > 400 << 10, "{}", document.len());
    }
    let grown = status_kb("RssAnon").saturating_sub(settled);
    assert!(
        grown < 2 << 10,
        "grew by {grown} kB: a megabyte of texts stays for each document"
    );
    let peak = status_kb("VmHWM");
    assert!(peak < 64 << 10, "{peak} kB at the most");
}
