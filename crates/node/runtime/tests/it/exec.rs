//! Further processes in a running container.

use std::io::{Read, Write};
use std::time::Duration;

use cloudeck_runtime::{ContainerId, ExecRequest, RequestError, StartError, Stdio, User};

use crate::lab::{Lab, within};

const LIMIT: Duration = Duration::from_secs(15);

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(ToString::to_string).collect()
}

async fn sleeper(lab: &Lab) -> ContainerId {
    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("echo up; sleep 1000");
    config.env = words(&["GREETING=hello"]);
    config.cwd = Some("/root".into());
    let id = lab.start(&sandbox, config).await;
    lab.wrote(&id, "up").await;
    id
}

fn request(argv: &[&str], stdio: Stdio) -> ExecRequest {
    ExecRequest {
        argv: words(argv),
        env: Vec::new(),
        cwd: None,
        user: None,
        stdio,
    }
}

#[tokio::test]
async fn an_exec_sees_the_container_and_returns_output_and_code() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let script = "echo $GREETING $HOSTNAME; pwd; hostname; echo err >&2; readlink /proc/1/exe; exit 5";
    let output = lab
        .runtime()
        .exec_sync(&id, words(&["sh", "-c", script]), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello pod\n/root\npod\n/bin/busybox\n"
    );
    assert_eq!((output.stderr.as_slice(), output.code), (&b"err\n"[..], 5));
}

#[tokio::test]
async fn an_exec_is_as_confined_as_its_container() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let fields = "^(Seccomp|CapEff|CapBnd|NoNewPrivs):";
    let one = lab
        .runtime()
        .exec_sync(&id, words(&["grep", "-E", fields, "/proc/self/status"]), LIMIT)
        .await
        .unwrap();
    let other = lab
        .runtime()
        .exec_sync(&id, words(&["grep", "-E", fields, "/proc/1/status"]), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&one.stdout),
        String::from_utf8_lossy(&other.stdout)
    );
    let script = "echo /proc/self/fd/*; cat /proc/self/cgroup > /tmp/a; cat /proc/1/cgroup > /tmp/b; test \"$(cat /tmp/a)\" = \"$(cat /tmp/b)\" && echo same";
    let third = lab
        .runtime()
        .exec_sync(&id, words(&["sh", "-c", script]), LIMIT)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&third.stdout).into_owned();
    assert_eq!(
        text,
        "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\nsame\n"
    );
}

#[tokio::test]
async fn an_exec_that_takes_too_long_is_killed() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let limit = Duration::from_millis(100);
    let error = lab
        .runtime()
        .exec_sync(&id, words(&["sleep", "777"]), limit)
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::Timeout(_)), "{error}");
    within("its end", async {
        loop {
            let output = lab.runtime().exec_sync(&id, words(&["ps"]), LIMIT).await.unwrap();
            if !String::from_utf8_lossy(&output.stdout).contains("sleep 777") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_exec_of_nothing_is_told_in_known_words() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let error = lab
        .runtime()
        .exec_sync(&id, words(&["nope"]), LIMIT)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RequestError::Start(StartError::NotInPath(name)) if name == "nope"),
        "{error}"
    );
    let mut gone = request(
        &["pwd"],
        Stdio::Pipes {
            stdin: None,
            stdout: None,
            stderr: None,
        },
    );
    gone.cwd = Some("/nowhere".into());
    let error = lab.runtime().exec(&id, gone).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[tokio::test]
async fn an_exec_in_what_has_ended_is_refused() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    lab.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    let error = lab
        .runtime()
        .exec_sync(&id, words(&["true"]), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::State(_)), "{error}");
}

#[tokio::test]
async fn standard_input_reaches_an_exec_as_another_user() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let (input, mut to_it) = std::io::pipe().unwrap();
    let (mut from_it, output) = std::io::pipe().unwrap();
    let stdio = Stdio::Pipes {
        stdin: Some(input.into()),
        stdout: Some(output.into()),
        stderr: None,
    };
    let mut request = request(&["sh", "-c", "id -u; cat"], stdio);
    request.user = Some(User {
        user: "web".into(),
        ..User::default()
    });
    let mut handle = lab.runtime().exec(&id, request).await.unwrap();
    to_it.write_all(b"through").unwrap();
    drop(to_it);
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        from_it.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(within("its output", text).await.unwrap().unwrap(), "33\nthrough");
    assert_eq!(within("its end", handle.wait()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes_and_a_hang_up() {
    let lab = Lab::new().await;
    let id = sleeper(&lab).await;
    let script = "test -t 0 && echo tty; stty size; trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.02; done";
    let request = request(
        &["sh", "-c", script],
        Stdio::Terminal {
            columns: 80,
            rows: 24,
        },
    );
    let mut handle = lab.runtime().exec(&id, request).await.unwrap();
    let mut terminal = std::fs::File::from(handle.terminal.as_ref().unwrap().try_clone().unwrap());
    let (sender, mut chunks) = tokio::sync::mpsc::channel::<String>(64);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        // EIO: the other side has gone.
        while let Ok(got @ 1..) = terminal.read(&mut buffer) {
            let _ = sender.blocking_send(String::from_utf8_lossy(&buffer[..got]).into_owned());
        }
    });
    let mut text = String::new();
    within("its readiness", async {
        while !text.contains("ready") {
            text += &chunks.recv().await.unwrap();
        }
    })
    .await;
    assert!(text.contains("tty\r\n24 80\r\n"), "{text:?}");
    handle.resize(132, 50).unwrap();
    assert_eq!(within("its end", handle.wait()).await.unwrap(), 9);
    within("its output", async {
        while let Some(chunk) = chunks.recv().await {
            text += &chunk;
        }
    })
    .await;
    reader.join().unwrap();
    assert!(text.contains("50 132\r\n"), "{text:?}");
}
