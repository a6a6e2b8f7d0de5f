use std::process::{Child, Command, Stdio};

use super::*;

fn places(dir: &Path) -> Places {
    Places {
        instance: "claim".to_owned(),
        data_dir: dir.join("data"),
        run_dir: dir.join("run"),
    }
}

/// A process that has the lock and has written `word` for the process number that the shell puts for `$$`.
fn other(places: &Places, word: &str) -> Child {
    std::fs::create_dir_all(&places.data_dir).unwrap();
    // One process all along: the kernel tells of the one that took the lock.
    let script = r#"exec flock -F "$0" sh -c 'printf "%-8s %10s\n" $1 1<>"$0"; exec cat' "$0""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", &script.replace("$1", word)])
        .arg(places.lock());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It echoes only when everything before is done.
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    std::io::Write::write_all(&mut input, b".").unwrap();
    std::io::Read::read_exact(&mut output, &mut [0]).unwrap();
    child.stdin = Some(input);
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_cluster_that_runs_or_starts_keeps_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    for doing in [Doing::Starting, Doing::Running] {
        let holder = other(&places, &format!("{} $$", doing.word()));
        let seen = look(&places).unwrap().expect("it holds the lock");
        assert_eq!((seen.pid, seen.doing), (holder.id() as i32, doing));
        assert!(matches!(claim(&places).unwrap(), Asked::Taken(found) if found == doing));
        end(holder);
        assert!(look(&places).unwrap().is_none());
    }
    assert!(matches!(claim(&places).unwrap(), Asked::Claimed(_)));
}

#[test]
fn one_that_is_ending_or_being_removed_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    for doing in [Doing::Ending, Doing::Removing] {
        let holder = other(&places, &format!("{} $$", doing.word()));
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        let asking = std::thread::spawn({
            let places = places.clone();
            move || sender.send(claim(&places).unwrap())
        });
        // Silence is what is expected here: a slow machine only makes this see less.
        let early = answer.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{doing:?}: {early:?}");
        end(holder);
        assert!(matches!(answer.recv().unwrap(), Asked::Claimed(_)), "{doing:?}");
        asking.join().unwrap().unwrap();
    }
}

#[test]
fn what_another_process_has_written_is_not_the_holders_word() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    // Process 1 is none of ours. One that never writes is of a kind that does nothing but run.
    let holder = other(&places, "ending 1");
    assert!(matches!(claim(&places).unwrap(), Asked::Taken(Doing::Running)));
    end(holder);
}

#[test]
fn a_claim_tells_what_its_process_does_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let Asked::Claimed(claim) = claim(&places).unwrap() else {
        panic!("nobody else is there");
    };
    let own = std::process::id() as i32;
    assert_eq!(written_by(&places.lock(), own), Some(Doing::Starting));
    claim.tell(Doing::Ending).unwrap();
    claim.tell(Doing::Running).unwrap();
    assert_eq!(written_by(&places.lock(), own), Some(Doing::Ending));
    assert!(take(&places, Doing::Removing).unwrap().is_none());
}
