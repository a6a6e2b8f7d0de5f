//! `cloudeck get`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use cloudeck_client::{Client, Params, Request, Transport};
use cloudeck_machinery::time::{Time, duration};
use cloudeck_machinery::{Value, value};

use super::mapping;
use super::output::{print_table, print_tree};
use crate::cli::{Format, Get};
use crate::settings::Places;

pub async fn run(places: &Places, get: &Get) -> Result<ExitCode> {
    let (info, name) = mapping::target(&get.what)?;
    let client = Client::new(crate::kubeconfig::connect(places)? as std::sync::Arc<dyn Transport>);
    let resource = mapping::address(info);
    let namespace = if !info.namespaced || get.all_namespaces {
        ""
    } else {
        &get.namespace
    };
    if let Some(name) = name {
        let object = client
            .send(Request::get(&resource, namespace, &name))
            .await?
            .into_object()?;
        let tree = object.tree();
        if get.output == Format::Table {
            rows(&[tree], info.namespaced && get.all_namespaces);
        } else {
            print_tree(&tree, get.output);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let params = Params {
        label_selector: get.selector.clone(),
        ..Params::default()
    };
    let list = client
        .list(&resource, namespace, params)
        .await
        .with_context(|| format!("list {}", info.plural))?;
    let trees: Vec<Value> = list.items.iter().map(|object| object.tree()).collect();
    match get.output {
        Format::Table if trees.is_empty() => eprintln!("no {} found", info.plural),
        Format::Table => rows(&trees, info.namespaced && get.all_namespaces),
        format => print_tree(
            &value!({"apiVersion": "v1", "kind": "List", "items": (trees)}),
            format,
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Name, what the object says of its state, age: kubectl has the full columns.
fn rows(trees: &[Value], with_namespace: bool) {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let rows: Vec<Vec<String>> = trees
        .iter()
        .map(|tree| {
            let text = |path: &[&str]| tree.str_at(path).unwrap_or_default().to_owned();
            let created = Time::parse(&text(&["metadata", "creationTimestamp"])).map(Time::unix);
            let age = created.map(|at| duration::human(now - at)).unwrap_or_default();
            let mut row = vec![text(&["metadata", "name"]), state(tree), age];
            if with_namespace {
                row.insert(0, text(&["metadata", "namespace"]));
            }
            row
        })
        .collect();
    let mut headers = vec!["NAME", "STATE", "AGE"];
    if with_namespace {
        headers.insert(0, "NAMESPACE");
    }
    print_table(&headers, &rows);
}

fn state(tree: &Value) -> String {
    if tree.at(&["metadata", "deletionTimestamp"]).is_some() {
        return "Terminating".to_owned();
    }
    if let Some(phase) = tree.str_at(&["status", "phase"]) {
        return phase.to_owned();
    }
    if let Some(wanted) = tree.int_at(&["spec", "replicas"]) {
        return format!(
            "{}/{wanted} ready",
            tree.int_at(&["status", "readyReplicas"]).unwrap_or(0)
        );
    }
    let conditions = tree.items_at(&["status", "conditions"]);
    let true_ones = conditions
        .iter()
        .filter(|c| c.str_at(&["status"]) == Some("True"))
        .filter_map(|c| c.str_at(&["type"]));
    true_ones.collect::<Vec<_>>().join(",")
}
