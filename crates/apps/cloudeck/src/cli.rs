//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The whole cloud-native stack in one binary: a Kubernetes cluster on a bare Linux machine.
#[derive(Debug, Parser)]
#[command(
    name = "cloudeck",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Which Cloudeck on this machine: every name that is global on the machine derives from it
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub instance: String,
    /// Where everything that survives a reboot lies [default: /var/lib/cloudeck, or /var/lib/cloudeck-NAME]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the cluster on this machine
    Up(Up),
    /// Stop the cluster and its containers, and remove what it made on this machine
    Down(Down),
    /// Say what is running
    Status(Output),
    /// Check what this machine has, and say what to do about what it lacks
    Doctor(Doctor),
    /// Print the administrator's kubeconfig
    Kubeconfig(Kubeconfig),
    /// Images of this machine
    #[command(subcommand)]
    Image(Image),
    /// Create or change objects from YAML or JSON files (server-side apply)
    Apply(Apply),
    /// Show objects
    Get(Get),
    /// Wait until a condition of an object holds
    Wait(Wait),
    /// Run a small web application of three replicas and print its URL
    Demo,
    /// Print the version
    Version(Output),
}

#[derive(Debug, Args)]
pub struct Up {
    /// Run in the background; returns when the node is ready
    #[arg(short, long)]
    pub detach: bool,
    /// Name of this node [default: the machine's host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Port of the Kubernetes API [default: 6443]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of the node's own server (logs, exec) [default: 10250]
    #[arg(long, value_name = "PORT")]
    pub node_port: Option<u16>,
    /// Range of pod addresses; fixed at the first start [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Range of Service addresses; fixed at the first start [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// DNS domain of the cluster; fixed at the first start [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// How long exact reads and continue tokens of the past work [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub api_horizon: Option<Duration>,
    /// What is logged: error, warn, info, debug, or directives such as `info,cloudeck_agent=debug`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub log: String,
    /// Internal: descriptor on which a background start reports
    #[arg(long, hide = true)]
    pub report_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub struct Down {
    /// Remove the cluster's data as well
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub struct Output {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub output: Output,
    /// Salvage what is intact of a damaged datastore first
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, Args)]
pub struct Kubeconfig {
    /// Put the cluster into ~/.kube/config and make it current
    #[arg(long)]
    pub merge: bool,
    /// Print the path of the kubeconfig instead of its content
    #[arg(long, conflicts_with = "merge")]
    pub path: bool,
}

#[derive(Debug, Subcommand)]
pub enum Image {
    /// Import images from a docker archive, an OCI archive or an OCI layout
    Import {
        /// File or directory
        file: PathBuf,
        /// Name for the one image in it
        #[arg(long)]
        name: Option<String>,
    },
    /// Pull an image from its registry
    Pull {
        name: String,
        /// Credentials as USER:PASSWORD
        #[arg(long, value_name = "USER:PASSWORD")]
        credentials: Option<String>,
    },
    /// List the images
    #[command(alias = "ls")]
    List(Output),
    /// Remove an image
    #[command(alias = "rm")]
    Remove { name: String },
}

#[derive(Debug, Args)]
pub struct Apply {
    /// File, directory, or - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct Get {
    /// Resource (pods, deploy, …), and NAME or RESOURCE/NAME
    #[arg(required = true)]
    pub what: Vec<String>,
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, default_value = "")]
    pub selector: String,
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// RESOURCE/NAME
    pub what: String,
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// condition=NAME, condition=NAME=VALUE, or delete
    #[arg(long = "for", value_name = "CONDITION")]
    pub condition: String,
    /// How long to wait
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// `300ms`, `30s`, `5m`, `1h`, or several of them together.
fn duration(text: &str) -> Result<Duration, String> {
    cloudeck_machinery::time::duration::parse_go(text)
        .ok()
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("{text:?} is not a duration such as 30s or 5m"))
}

/// An IPv4 range as it is written.
pub fn cidr(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?);
    (prefix <= 32).then_some((address, prefix))
}
