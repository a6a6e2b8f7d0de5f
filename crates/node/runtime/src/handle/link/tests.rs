use std::os::unix::net::UnixStream as StdStream;

use cloudeck_linux::fd;

use super::*;
use crate::protocol::{ExecSpec, Failure};
use crate::status::ContainerId;

fn exec_with_terminal() -> Operation {
    Operation::Exec(ExecSpec {
        exec: 1,
        container: ContainerId::random().unwrap(),
        argv: Vec::new(),
        env: Vec::new(),
        cwd: None,
        user: None,
        terminal: Some((80, 24)),
        streams: [false; 3],
    })
}

/// Asks for a state, then for a process with a terminal, which get the ids 0 and 1; then sends all that `say` says at once.
/// Returns how many descriptors came with either answer.
async fn check(say: impl FnOnce(&StdStream)) -> (usize, usize) {
    let (ours, shim) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (link, wire) = over(UnixStream::from_std(ours).unwrap(), Inbox::default());
    let asked = async {
        let (state, exec) = tokio::join!(link.ask(Operation::State), link.ask(exec_with_terminal()));
        (state.unwrap().1.len(), exec.unwrap().1.len())
    };
    let answered = async {
        while lock(&link.shared.waiting).len() < 2 {
            tokio::task::yield_now().await;
        }
        say(&shim);
        wire.run(|_| ()).await;
    };
    tokio::select! {
        counts = asked => counts,
        () = answered => unreachable!("the other end is open"),
    }
}

fn reply(shim: &StdStream, id: u64, outcome: Outcome, fds: &[BorrowedFd<'_>]) {
    let message = frame(&FromShim::Reply { id, outcome });
    assert_eq!(scm::send(shim, &message, fds).unwrap(), message.len());
}

fn runs() -> Outcome {
    Outcome::Pid {
        pid: 7,
        degraded: Vec::new(),
        user: None,
    }
}

#[tokio::test]
async fn a_terminal_goes_to_who_asked_for_it_although_another_reply_is_read_with_it() {
    let (master, _other) = fd::pipe().unwrap();
    let counts = check(|shim| {
        reply(shim, 0, Outcome::Done, &[]);
        reply(shim, 1, runs(), &[master.as_fd()]);
    });
    assert_eq!(counts.await, (0, 1));
}

#[tokio::test]
async fn bad_news_comes_without_a_terminal_whatever_is_attached() {
    let (master, _other) = fd::pipe().unwrap();
    let failed = Outcome::Failed(Failure::State("no".to_owned()));
    let counts = check(|shim| {
        reply(shim, 1, failed, &[master.as_fd()]);
        reply(shim, 0, Outcome::Done, &[]);
    });
    assert_eq!(counts.await, (0, 0));
}
