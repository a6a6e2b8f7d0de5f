use std::os::unix::fs::symlink;

use super::*;

/// A directory with a `root` in it and a `secret` beside the root, removed in the end.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ck-inroot-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("root/etc")).unwrap();
        std::fs::write(path.join("secret"), "outside").unwrap();
        std::fs::write(path.join("root/etc/passwd"), "inside").unwrap();
        Self(path)
    }

    fn root(&self) -> OwnedFd {
        std::fs::File::open(self.0.join("root")).unwrap().into()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.join("root").join(below)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn dots_do_not_leave_the_root() {
    let tree = Tree::new("dots");
    assert!(read_file(tree.root(), "../secret", 100).unwrap().is_none());
    assert_eq!(
        read_file(tree.root(), "../../etc/passwd", 100).unwrap().unwrap(),
        b"inside"
    );
}

#[test]
fn an_absolute_link_is_followed_inside_the_root() {
    let tree = Tree::new("absolute");
    symlink("/etc/passwd", tree.path("link")).unwrap();
    assert_eq!(read_file(tree.root(), "link", 100).unwrap().unwrap(), b"inside");
    symlink(tree.0.join("secret"), tree.path("out")).unwrap();
    assert!(read_file(tree.root(), "out", 100).unwrap().is_none());
}

#[test]
fn directories_are_made_where_a_dangling_link_points_to_but_inside() {
    let tree = Tree::new("dangling");
    symlink(tree.0.join("made/here"), tree.path("a")).unwrap();
    open_or_make_dir(tree.root(), "a/b", 0o755).unwrap();
    assert!(!tree.0.join("made").exists(), "the link led out of the root");
    let inside = tree.path(
        tree.0
            .join("made/here/b")
            .strip_prefix("/")
            .unwrap()
            .to_str()
            .unwrap(),
    );
    assert!(inside.is_dir());
}

#[test]
fn a_ring_of_links_is_an_error_not_a_hang() {
    let tree = Tree::new("ring");
    symlink("b", tree.path("a")).unwrap();
    symlink("a", tree.path("b")).unwrap();
    assert!(open_or_make_dir(tree.root(), "a/x", 0o755).is_err());
}

#[test]
fn files_are_made_with_their_directories() {
    let tree = Tree::new("files");
    open_or_make_file(tree.root(), "/x/y/z").unwrap();
    assert!(tree.path("x/y/z").is_file());
    symlink("/etc", tree.path("conf")).unwrap();
    open_or_make_file(tree.root(), "/conf/hosts").unwrap();
    assert!(tree.path("etc/hosts").is_file());
}

#[test]
fn links_can_be_refused() {
    let tree = Tree::new("nolinks");
    symlink("/etc", tree.path("proc")).unwrap();
    let error = open_no_links(tree.root(), "/proc", libc::O_PATH).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn magic_links_are_never_followed() {
    let proc: OwnedFd = std::fs::File::open("/proc").unwrap().into();
    assert!(open(proc, "self/root", libc::O_PATH).is_err());
}
