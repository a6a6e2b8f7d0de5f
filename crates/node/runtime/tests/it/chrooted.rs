//! The same in a plain chroot: a root that is a directory and no mount, as in a rescue system or a build environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloudeck_linux::{mount, ns};

/// What programs and these tests need of the machine.
const PARTS: [&str; 10] = [
    "/proc", "/sys", "/dev", "/bin", "/lib", "/lib64", "/usr", "/etc", "/run", "/tmp",
];

#[test]
fn what_keeps_a_container_in_holds_in_a_plain_chroot() {
    let root = tempfile::Builder::new().prefix("ckrt-chroot-").tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let built = program.ancestors().nth(2).unwrap().to_owned();
    let place = root.path().to_owned();
    // A thread of its own enters the chroot; the mounts go with it and what it starts.
    let run = std::thread::spawn(move || {
        ns::leave(libc::CLONE_NEWNS).unwrap();
        mount::change("/", libc::MS_REC | libc::MS_PRIVATE).unwrap();
        let parts = PARTS.map(PathBuf::from).into_iter().filter(|part| part.exists());
        parts.for_each(|part| show(&part, &place));
        if !built.starts_with("/tmp") {
            show(&built, &place);
        }
        std::os::unix::fs::chroot(&place).unwrap();
        let mut tests = Command::new(program);
        let tests = tests.args(["escape::", "--test-threads", "2"]).current_dir("/");
        tests.output().unwrap()
    });
    let output = run.join().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(" 0 passed"), "{text}");
}

/// Makes a directory of the machine visible below `root`, with all that is mounted in it.
fn show(part: &Path, root: &Path) {
    let place = root.join(part.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&place).unwrap();
    let tree = mount::clone_tree(mount::open_path(part).unwrap(), true).unwrap();
    mount::attach(tree, mount::open_path(place).unwrap()).unwrap();
}
