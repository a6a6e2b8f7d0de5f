use super::*;

/// A process takes the lock, leaves a child with its files until the pipe that is returned closes, and ends.
fn leave_to_a_child(path: &Path) -> std::process::ChildStdin {
    // A shell gives background programs an empty standard input, so the pipe goes in as 3.
    let script = r#"exec 3<&0 9>"$0"; flock 9; cat <&3 >/dev/null &"#;
    let mut command = std::process::Command::new("sh");
    let command = command.args(["-c", script]).arg(path);
    let mut shell = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let pipe = shell.stdin.take().unwrap();
    assert!(shell.wait().unwrap().success());
    assert!(FileLock::try_acquire(path).unwrap().is_none());
    pipe
}

#[test]
fn what_a_dead_process_left_behind_is_waited_for_but_not_for_ever() {
    let path = std::env::temp_dir().join(format!("ck-lock-left-{}", std::process::id()));
    let pipe = leave_to_a_child(&path);
    let (sender, acquired) = mpsc::sync_channel(1);
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || sender.send(FileLock::acquire(path, Duration::from_mins(1)))
    });
    assert!(acquired.recv_timeout(Duration::from_millis(100)).is_err());
    drop(pipe);
    let lock = acquired.recv().unwrap().unwrap();
    let lock = lock.expect("nobody holds it any more");
    waiting.join().unwrap().unwrap();
    // A living one is not waited for.
    assert!(
        FileLock::acquire(&path, Duration::from_mins(1))
            .unwrap()
            .is_none()
    );
    drop(lock);
    let pipe = leave_to_a_child(&path);
    let error = FileLock::acquire(&path, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(pipe);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_lock_on_a_file_that_was_removed_meanwhile_is_none() {
    let path = std::env::temp_dir().join(format!("ck-lock-gone-{}", std::process::id()));
    let pipe = leave_to_a_child(&path);
    let (sender, acquired) = mpsc::sync_channel(1);
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || sender.send(FileLock::acquire(path, Duration::from_mins(1)))
    });
    assert!(acquired.recv_timeout(Duration::from_millis(100)).is_err());
    std::fs::remove_file(&path).unwrap();
    drop(pipe);
    let _first = acquired.recv().unwrap().unwrap().expect("nobody holds it");
    waiting.join().unwrap().unwrap();
    assert!(
        FileLock::try_acquire(&path).unwrap().is_none(),
        "two hold the lock"
    );
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_copy_of_the_file_does_not_hold_the_lock() {
    let path = std::env::temp_dir().join(format!("ck-lock-copy-{}", std::process::id()));
    let first = FileLock::try_acquire(&path)
        .unwrap()
        .expect("nobody holds it yet");
    // As a forked child has one.
    let copy = first.file().try_clone().unwrap();
    drop(first);
    assert!(FileLock::try_acquire(&path).unwrap().is_some());
    drop(copy);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_second_holder_is_refused_until_the_first_lets_go() {
    let path = std::env::temp_dir().join(format!("ck-lock-{}", std::process::id()));
    let first = FileLock::try_acquire(&path)
        .unwrap()
        .expect("nobody holds it yet");
    assert_eq!(holders(&path).unwrap(), [std::process::id() as i32]);
    assert!(FileLock::try_acquire(&path).unwrap().is_none());
    drop(first);
    assert!(FileLock::try_acquire(&path).unwrap().is_some());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_holder_is_seen_while_other_locks_come_and_go() {
    use std::sync::atomic::{AtomicBool, Ordering};
    const LOOKS: usize = 2_000;
    let path = |name: &str| std::env::temp_dir().join(format!("ck-lock-busy-{}-{name}", std::process::id()));
    let held = path("held");
    let (over, own) = (AtomicBool::new(false), std::process::id() as i32);
    let missed = std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let (path, over) = (path(name), &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    drop(FileLock::try_acquire(&path).unwrap());
                }
                std::fs::remove_file(path).unwrap();
            });
        }
        let lock = FileLock::try_acquire(&held).unwrap().expect("nobody holds it");
        let missed = (0..LOOKS).filter(|_| holders(&held).unwrap() != [own]).count();
        over.store(true, Ordering::Relaxed);
        drop(lock);
        missed
    });
    assert_eq!(missed, 0, "of {LOOKS} looks");
    std::fs::remove_file(held).unwrap();
}
