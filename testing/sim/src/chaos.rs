//! What befalls the cluster, as the dice say: parts that end and start again, machines that go and come back, weather.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::host;
use crate::network::Weather;

/// How bad a simulation gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing fails.
    Calm,
    /// The network misbehaves.
    Windy,
    /// Parts and machines fail as well.
    Stormy,
}

impl Mood {
    pub(crate) fn of(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Calm,
            1 | 2 => Self::Windy,
            _ => Self::Stormy,
        }
    }
}

/// Lets things happen until the time is over.
pub(crate) async fn rage(cluster: &mut Cluster, mood: Mood, dice: &mut Dice, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let pause = dice.millis(1_000, 60_000);
        tokio::time::sleep(pause).await;
        match mood {
            Mood::Calm => {}
            Mood::Windy => change_weather(cluster, dice),
            Mood::Stormy => strike(cluster, dice).await?,
        }
    }
    Ok(())
}

fn change_weather(cluster: &Cluster, dice: &mut Dice) {
    let weather = match dice.below(4) {
        0 => Weather::default(),
        1 => Weather {
            refused: 300,
            lost_answers: 50,
            ..Weather::default()
        },
        2 => Weather {
            lost_answers: 100,
            cuts: 50,
            too_old: 300,
            ..Weather::default()
        },
        _ => Weather {
            refused: 20,
            lost_answers: 20,
            delayed: 30,
            cuts: 20,
            too_old: 100,
        },
    };
    cluster.trace.line(format!("weather {weather:?}"));
    cluster.network.set_weather(weather);
}

async fn strike(cluster: &mut Cluster, dice: &mut Dice) -> Result<()> {
    let pause = if dice.chance(700) {
        dice.millis(0, 2_000)
    } else {
        dice.millis(5_000, 90_000)
    };
    match dice.below(10) {
        0 | 1 if cluster.can_crash() => cluster.crash_server(dice).await,
        0 | 1 => {
            cluster.stop_server().await?;
            tokio::time::sleep(pause).await;
            cluster.start_server().await
        }
        2 => {
            cluster.stop_controllers().await?;
            tokio::time::sleep(pause).await;
            cluster.start_controllers();
            Ok(())
        }
        3 => {
            cluster.stop_scheduler().await?;
            tokio::time::sleep(pause).await;
            cluster.start_scheduler();
            Ok(())
        }
        4..7 => strike_machine(cluster, dice).await,
        7 => {
            let seconds = dice.between(0, 240) as i64 - 120;
            cluster.trace.line(format!("clock jumps by {seconds} s"));
            host::jump(seconds);
            Ok(())
        }
        _ => {
            change_weather(cluster, dice);
            Ok(())
        }
    }
}

/// Stops an agent, for a moment or long enough for its pods to be given up, or brings one back.
async fn strike_machine(cluster: &mut Cluster, dice: &mut Dice) -> Result<()> {
    let which = dice.below(cluster.machines.len() as u64) as usize;
    let reboots = dice.chance(300);
    let machine = &mut cluster.machines[which];
    let name = machine.name.clone();
    if machine.is_up() {
        cluster.trace.line(format!("{name} goes"));
        if let Some(failure) = machine.stop().await {
            anyhow::bail!("{name} failed: {failure}");
        }
        if dice.chance(500) {
            tokio::time::sleep(dice.millis(0, 5_000)).await;
            machine.start();
        }
    } else {
        cluster.trace.line(format!("{name} comes back"));
        if reboots {
            machine.lose_everything();
        }
        machine.start();
    }
    Ok(())
}

/// Mends everything.
pub(crate) fn heal(cluster: &mut Cluster) {
    cluster.network.set_weather(Weather::default());
    for machine in &mut cluster.machines {
        if !machine.is_up() {
            machine.start();
        }
    }
}
