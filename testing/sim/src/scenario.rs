//! What happens in a simulation, from its first moment to the last check.

use std::time::Duration;

use anyhow::Result;

use crate::at_rest;
use crate::chaos::{self, Mood};
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::host;
use crate::node::Machine;
use crate::reader::Reader;
use crate::trace::Trace;
use crate::user::User;

/// A cluster that has written nothing for so long has come to rest: longer than a Deployment's progress deadline.
const QUIET: Duration = Duration::from_secs(700);
/// Longer than anything in a cluster takes that will come to rest at all.
const PATIENCE: Duration = Duration::from_hours(3);

pub(crate) async fn run(seed: u64, trace: &Trace) {
    if let Err(error) = play(seed, trace).await {
        trace.violation(format!("{error:#}"));
    }
}

async fn play(seed: u64, trace: &Trace) -> Result<()> {
    let mut dice = Dice::of(seed, "scenario");
    let mood = Mood::of(&mut dice);
    let (machines, time) = (dice.between(1, 4), dice.millis(60_000, 600_000));
    trace.line(format!("{mood:?} with {machines} machines for {time:?}"));
    let mut cluster = Cluster::start(seed, trace).await?;
    for number in 0..machines {
        // One alone must be able to hold all that is left in the end.
        let others = dice.between(5, 30) as i64 * 100;
        cluster.add_machine(
            if number == 0 { 10_000 } else { others },
            seed,
            mood != Mood::Calm,
        );
    }
    cluster.machines.iter_mut().for_each(Machine::start);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut user = User::new(
        cluster.admin("user"),
        seed,
        trace,
        cluster.machines.len(),
        mood == Mood::Calm,
    );
    if mood == Mood::Calm {
        cluster.book.expect_no_disturbance();
    }
    let mut reader = Reader::new(cluster.admin("reader"), seed, &cluster.book, trace);
    user.furnish().await?;
    let rage = chaos::rage(&mut cluster, mood, &mut dice, time);
    let ((), (), raged) = tokio::join!(user.act(time), reader.read(time), rage);
    raged?;
    chaos::heal(&mut cluster);
    tokio::time::sleep(Duration::from_mins(1)).await;
    user.tidy_up().await?;
    rest(&cluster).await;
    at_rest::check(&cluster.book, trace);
    cluster.stop().await
}

/// Waits until nothing changes any more.
async fn rest(cluster: &Cluster) {
    let begun = host::elapsed();
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let now = host::elapsed();
        let (changed, what) = cluster.book.last_change();
        if now.saturating_sub(changed.max(begun)) >= QUIET {
            return;
        }
        if now.saturating_sub(begun) > PATIENCE {
            return cluster
                .trace
                .violation(format!("the cluster does not come to rest: {what} changed last"));
        }
    }
}
