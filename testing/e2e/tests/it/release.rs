//! The binary as it is shipped. `cargo xtask test release` builds it and runs what is here with it; the other stages
//! leave these out, because their binary is another.

use cloudeck_e2e::{Cluster, shipped_binary};

use crate::manifests::web;

/// 30 MB for the core.
const LARGEST: usize = 30 << 20;

#[test]
fn the_shipped_binary_is_one_small_file_that_needs_no_other() {
    let binary = std::fs::read(shipped_binary()).unwrap();
    assert!(binary.len() <= LARGEST, "{} bytes", binary.len());
    let half = |at: usize| usize::from(u16::from_le_bytes([binary[at], binary[at + 1]]));
    let word = |at: usize| u32::from_le_bytes(binary[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(binary[at..at + 8].try_into().unwrap()) as usize;
    assert_eq!(&binary[..4], b"\x7fELF");
    // ET_EXEC: a position-independent executable would dirty a megabyte in every pod's shim.
    assert_eq!(half(16), 2, "the binary is not linked to a fixed address");
    let (first, size, count) = (long(32), half(54), half(56));
    let kinds: Vec<u32> = (0..count).map(|at| word(first + at * size)).collect();
    // PT_DYNAMIC and PT_INTERP.
    assert!(
        !kinds.contains(&2) && !kinds.contains(&3),
        "the binary wants a dynamic linker"
    );
    let (first, size, count) = (long(40), half(58), half(60));
    let sections: Vec<u32> = (0..count).map(|at| word(first + at * size + 4)).collect();
    // SHT_SYMTAB.
    assert!(!sections.contains(&2), "the binary is not stripped");
}

#[test]
fn a_shipped_cluster_explains_its_fields_and_runs_a_deployment() {
    let cluster = Cluster::start();
    let explained = cluster.kubectl("explain pods.spec.containers").ok();
    let (_, description) = explained.split_once("DESCRIPTION:").unwrap_or_default();
    assert!(
        description.contains("List of containers belonging to the pod"),
        "{explained}"
    );
    cluster.apply(&web("web", 2, "v1"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    assert_eq!(cluster.field("deployment web", "{.status.readyReplicas}"), "2");
    let logs = cluster.kubectl("exec deploy/web -- wget -qO- http://web").ok();
    assert!(logs.starts_with("v1 web-"), "{logs}");
    cluster.kubectl("delete deployment web --wait").ok();
}
