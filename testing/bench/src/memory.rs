//! Memory, processor time and size.

use std::time::Duration;

use cloudeck_e2e::Cluster;

use crate::table::{Better, Table};

/// All processes of ours, their resident memory in KB: the daemon, shims and infra processes.
const RESIDENT: &str = "for dir in /proc/[0-9]*; do case $(readlink $dir/exe) in */cloudeck*) \
                        grep VmRSS $dir/status;; esac; done 2>/dev/null | tr -dc '0-9\\n' | paste -sd+ | sed 's/^$/0/' | xargs -I{} sh -c 'echo $(({}))'";
/// The processor time of the daemon, in hundredths of a second.
const PROCESSOR: &str = "for dir in /proc/[0-9]*; do case $(tr '\\0' ' ' <$dir/cmdline) in *'cloudeck up '*) \
                         cut -d' ' -f14,15 $dir/stat;; esac; done 2>/dev/null | tr ' ' + | head -n 1 | xargs -I{} sh -c 'echo $(({}))'";
/// Private memory in KB of the shims and what they forked that still runs our binary.
const PRIVATE: &str = "for dir in /proc/[0-9]*; do case $(tr '\\0' ' ' <$dir/cmdline) in *'cloudeck up '*) continue;; esac; \
                       case $(readlink $dir/exe) in */cloudeck*) grep Anonymous: $dir/smaps_rollup;; esac; done 2>/dev/null | \
                       tr -dc '0-9\\n' | paste -sd+ | sed 's/^$/0/' | xargs -I{} sh -c 'echo $(({}))'";

fn number(cluster: &Cluster, script: &str) -> f64 {
    cluster.machine().shell(script).trim().parse().unwrap_or(f64::NAN)
}

/// A cluster with nothing on it.
pub(crate) fn idle(table: &mut Table, cluster: &Cluster) {
    const LENGTH: Duration = Duration::from_secs(10);
    // What the start left under way ends first.
    std::thread::sleep(Duration::from_secs(3));
    let before = number(cluster, PROCESSOR);
    std::thread::sleep(LENGTH);
    let share = (number(cluster, PROCESSOR) - before) / LENGTH.as_secs_f64();
    let resident = number(cluster, RESIDENT) / 1024.0;
    table.add(
        "idle resident memory of all processes",
        776.0,
        resident,
        "MB",
        Better::Less,
        "80 MB",
    );
    // Below one tick in ten seconds nothing can be told apart.
    table.add(
        "idle CPU, one core",
        4.8,
        share.max(0.1),
        "%",
        Better::Less,
        "< 1 %",
    );
}

/// One pod runs besides the daemon.
pub(crate) fn per_pod(table: &mut Table, cluster: &Cluster) {
    let private = number(cluster, PRIVATE) / 1024.0;
    table.add(
        "private memory per pod beside the application's",
        4.7,
        private,
        "MB",
        Better::Less,
        "1 MB, goal 0.3",
    );
}

/// After everything that [`crate::load`] did.
pub(crate) fn after_load(table: &mut Table, cluster: &Cluster) {
    let resident = number(cluster, RESIDENT) / 1024.0;
    table.add(
        "resident memory after that load",
        1_855.0,
        resident,
        "MB",
        Better::Less,
        "200 MB",
    );
}

/// The file.
pub(crate) fn binary(table: &mut Table) {
    let size = std::env::var_os("CLOUDECK_BIN")
        .and_then(|path| std::fs::metadata(path).ok())
        .map_or(f64::NAN, |file| file.len() as f64);
    table.add(
        "binary (there: the API server alone)",
        150.0,
        size / 1e6,
        "MB",
        Better::Less,
        "30 MB",
    );
}
