//! `cloudeck status`.

use std::process::ExitCode;

use anyhow::Result;
use cloudeck_client::{Client, Params, Transport};
use cloudeck_machinery::{GroupVersionResource, Value, value};

use super::output::print_tree;
use crate::claim;
use crate::cli::Format;
use crate::settings::{Places, Settings};

/// Nothing is running.
const NOT_RUNNING: u8 = 3;

pub async fn run(places: &Places, format: Format) -> Result<ExitCode> {
    let Some(settings) = Settings::load(places)? else {
        report(
            &value!({"instance": (places.instance.as_str()), "running": false, "cluster": null}),
            format,
        );
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    let holder = claim::look(places)?;
    let running = holder.as_ref().is_some_and(|holder| holder.doing.serves());
    let mut tree = value!({
        "instance": (places.instance.as_str()), "running": (running),
        "dataDir": (places.data_dir.display().to_string()), "node": (settings.node_name.as_str())
    });
    if let Some(holder) = holder {
        tree.set_at(&["state"], Value::from(holder.doing.word()));
    }
    if running {
        let members = live(places)
            .await
            .unwrap_or_else(|error| vec![("problem", Value::from(format!("{error:#}")))]);
        for (name, value) in members {
            tree.set_at(&[name], value);
        }
    }
    report(&tree, format);
    Ok(if running {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_RUNNING)
    })
}

async fn live(places: &Places) -> Result<Vec<(&'static str, Value)>> {
    let transport = crate::kubeconfig::connect(places)?;
    let (code, _) = transport.get_raw("/readyz").await?;
    let client = Client::new(transport as std::sync::Arc<dyn Transport>);
    let list = |resource: &str| GroupVersionResource::new("", "v1", resource);
    let nodes = client.list(&list("nodes"), "", Params::default()).await?;
    let pods = client.list(&list("pods"), "", Params::default()).await?;
    let is_ready = |node: &Value| {
        let conditions = node.items_at(&["status", "conditions"]);
        conditions
            .iter()
            .any(|c| c.str_at(&["type"]) == Some("Ready") && c.str_at(&["status"]) == Some("True"))
    };
    let ready = nodes.items.iter().filter(|node| is_ready(&node.tree())).count();
    let in_phase = |phase: &str| {
        pods.items
            .iter()
            .filter(|pod| pod.tree().str_at(&["status", "phase"]) == Some(phase))
            .count()
    };
    let count = |number: usize| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    Ok(vec![
        (
            "api",
            Value::from(if code == 200 { "ready" } else { "not ready" }),
        ),
        (
            "nodes",
            value!({"total": (count(nodes.items.len())), "ready": (count(ready))}),
        ),
        (
            "pods",
            value!({"total": (count(pods.items.len())), "running": (count(in_phase("Running")))}),
        ),
    ])
}

fn report(tree: &Value, format: Format) {
    if format != Format::Table {
        return print_tree(tree, format);
    }
    let text = |path: &[&str]| tree.str_at(path).unwrap_or_default().to_owned();
    let number = |path: &[&str]| tree.int_at(path).unwrap_or(0);
    if tree.get("cluster").is_some_and(Value::is_null) {
        println!("there is no cluster yet: run `cloudeck up`");
    } else if tree.bool_at(&["running"]) != Some(true) {
        println!(
            "not running; the data is in {}: run `cloudeck up`",
            text(&["dataDir"])
        );
    } else if tree.get("problem").is_some() {
        println!("running, but the API does not answer: {}", text(&["problem"]));
    } else {
        println!("running in {}", text(&["dataDir"]));
        println!("api     {}", text(&["api"]));
        println!(
            "nodes   {} of {} ready",
            number(&["nodes", "ready"]),
            number(&["nodes", "total"])
        );
        println!(
            "pods    {} of {} running",
            number(&["pods", "running"]),
            number(&["pods", "total"])
        );
    }
}
