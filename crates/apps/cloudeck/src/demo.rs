//! The demo application: a web server in the same binary, so that a first deployment needs no registry.
//!
//! It answers every request with the pod's name, and ends on SIGTERM. Its image is made `FROM scratch` of the binary.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use cloudeck_linux::signal;

/// The hidden first argument.
pub const WORD: &str = "demo-app";
/// The image's name in the node's store.
pub const IMAGE: &str = "cloudeck.dev/demo:latest";
/// Where it listens.
pub const PORT: u16 = 8080;

/// The objects of the demo.
pub const MANIFEST: &str = include_str!("demo.yaml");

/// Serves until it is killed. One thread per connection: a handful of people look at a demo.
pub fn main() -> ExitCode {
    let listener = match TcpListener::bind(("0.0.0.0", PORT)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("error: listen on port {PORT}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Process 1 of a container gets no default action for signals: they are waited for.
    let ending = [libc::SIGTERM, libc::SIGINT];
    if let Err(error) = signal::block(&ending) {
        eprintln!("error: wait for SIGTERM: {error}");
        return ExitCode::FAILURE;
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned();
    println!("{name} listens on port {PORT}");
    std::thread::spawn(move || serve(&listener, &name));
    match signal::wait_for(&ending) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: wait for SIGTERM: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listener: &TcpListener, name: &str) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, &name) {
                eprintln!("request not answered: {error}");
            }
        });
    }
}

fn answer(stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    println!("{request}");
    let body = format!("Hello from {name}\n");
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
