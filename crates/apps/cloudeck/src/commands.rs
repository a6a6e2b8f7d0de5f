//! The commands, one file each.

mod apply;
mod demo;
mod doctor;
mod down;
mod get;
mod image;
mod mapping;
mod output;
mod status;
mod up;
mod wait;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Cli, Command, Format, Kubeconfig, Output};
use crate::settings::Places;

/// Runs the command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let places = Places::of(&cli.global)?;
    match cli.command {
        Command::Up(up) => up::run(&places, &up),
        Command::Down(down) => block_on(down::run(&places, &down)),
        Command::Status(output) => block_on(status::run(&places, output.output)),
        Command::Doctor(doctor) => block_on(doctor::run(&places, &doctor)),
        Command::Kubeconfig(kubeconfig) => print_kubeconfig(&places, &kubeconfig),
        Command::Image(image) => block_on(image::run(&places, image)),
        Command::Apply(apply) => block_on(apply::run(&places, &apply)),
        Command::Get(get) => block_on(get::run(&places, &get)),
        Command::Wait(wait) => block_on(wait::run(&places, &wait)),
        Command::Version(output) => {
            version(&output);
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo => block_on(demo::run(&places)),
    }
}

/// Commands that talk need no more than one thread.
fn block_on(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start the executor")?.block_on(command)
}

fn print_kubeconfig(places: &Places, options: &Kubeconfig) -> Result<ExitCode> {
    let path = places.kubeconfig();
    if options.path {
        println!("{}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "read {} (is there a cluster? `cloudeck up` makes one)",
            path.display()
        )
    })?;
    if options.merge {
        let target = crate::kubeconfig::of_user()?;
        crate::kubeconfig::merge(places, &target)?;
        eprintln!("merged into {} and made current", target.display());
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

fn version(output: &Output) {
    let tree = cloudeck_machinery::value!({
        "version": (env!("CARGO_PKG_VERSION")), "kubernetes": (crate::roles::KUBERNETES_VERSION)
    });
    match output.output {
        Format::Table => println!(
            "cloudeck {} (Kubernetes API {})",
            env!("CARGO_PKG_VERSION"),
            crate::roles::KUBERNETES_VERSION
        ),
        format => output::print_tree(&tree, format),
    }
}
