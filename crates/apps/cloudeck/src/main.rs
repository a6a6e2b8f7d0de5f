//! The `cloudeck` program.
//!
//! `main` is a table of contents: become a shim if asked to, else parse the command line and hand over to a command.
//! Exit codes: 0 success, 1 the command failed, 2 the command line is wrong, 3 (`status`) nothing is running.

#![allow(
    unreachable_pub,
    reason = "a program exports nothing; `pub` parts what a module offers from what it hides"
)]

mod claim;
mod cli;
mod commands;
mod daemon;
mod demo;
mod kubeconfig;
mod roles;
mod settings;

#[cfg(not(panic = "unwind"))]
compile_error!("a panic ends a request or a task, not the process: build with panic = \"unwind\"");

use std::process::ExitCode;

use clap::Parser;
use cloudeck_linux::memory::Stocked;

#[global_allocator]
static ALLOCATOR: Stocked = Stocked;

fn main() -> ExitCode {
    // A shim is this same binary: it must become one before anything else has allocated, threaded or parsed.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == cloudeck_runtime::SHIM_WORD)
    {
        return ExitCode::from(u8::try_from(cloudeck_runtime::shim_main()).unwrap_or(1));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == demo::WORD) {
        return demo::main();
    }
    match commands::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
