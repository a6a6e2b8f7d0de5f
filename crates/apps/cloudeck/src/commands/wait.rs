//! `cloudeck wait`: until a condition of an object holds, told by a watch.

use std::process::ExitCode;

use anyhow::{Result, bail};
use cloudeck_client::{Client, Informer, InformerConfig, Transport};
use cloudeck_machinery::{ObjectKey, Value};
use cloudeck_task::Scope;

use super::mapping;
use crate::cli::Wait;
use crate::settings::Places;

#[derive(Debug, PartialEq, Eq)]
enum Until {
    Condition { name: String, value: String },
    Deleted,
}

pub async fn run(places: &Places, wait: &Wait) -> Result<ExitCode> {
    until(places, wait).await?;
    println!("{} condition met", wait.what);
    Ok(ExitCode::SUCCESS)
}

/// Waits without a word.
pub async fn until(places: &Places, wait: &Wait) -> Result<()> {
    let until = parse(&wait.condition)?;
    let (info, name) = mapping::target(std::slice::from_ref(&wait.what))?;
    let Some(name) = name else {
        bail!("give RESOURCE/NAME")
    };
    let client = Client::new(crate::kubeconfig::connect(places)? as std::sync::Arc<dyn Transport>);
    let namespace = if info.namespaced {
        wait.namespace.clone()
    } else {
        String::new()
    };
    let config = InformerConfig {
        resource: mapping::address(info),
        namespace: namespace.clone(),
        label_selector: String::new(),
        field_selector: format!("metadata.name={name}"),
    };
    let scope = Scope::root("wait");
    let informer = Informer::start(&scope, client, config);
    let key = ObjectKey::new(&namespace, &name);
    let holds = async {
        informer.synced().await;
        let mut changes = informer.subscribe();
        loop {
            let now = informer.get(&key).map(|object| object.tree());
            if met(&until, now.as_ref()) {
                return;
            }
            changes.next().await;
        }
    };
    let outcome = tokio::time::timeout(wait.timeout, holds).await;
    scope.request_shutdown();
    if outcome.is_err() {
        bail!("timed out waiting for {} on {}", wait.condition, wait.what);
    }
    Ok(())
}

fn parse(text: &str) -> Result<Until> {
    if text.eq_ignore_ascii_case("delete") {
        return Ok(Until::Deleted);
    }
    let Some(condition) = text.strip_prefix("condition=").filter(|rest| !rest.is_empty()) else {
        bail!("--for must be condition=NAME, condition=NAME=VALUE, or delete");
    };
    let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
    Ok(Until::Condition {
        name: name.to_owned(),
        value: value.to_owned(),
    })
}

fn met(until: &Until, object: Option<&Value>) -> bool {
    match (until, object) {
        (Until::Deleted, object) => object.is_none(),
        (Until::Condition { .. }, None) => false,
        (Until::Condition { name, value }, Some(object)) => {
            let conditions = object.items_at(&["status", "conditions"]);
            conditions.iter().any(|c| {
                let text = |member: &str| c.str_at(&[member]).unwrap_or_default();
                text("type").eq_ignore_ascii_case(name) && text("status").eq_ignore_ascii_case(value)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn conditions_are_met_by_type_and_status() {
        let pod = value!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        assert!(!met(&parse("condition=Ready").unwrap(), Some(&pod)));
        assert!(met(&parse("condition=ready=false").unwrap(), Some(&pod)));
        assert!(met(&parse("delete").unwrap(), None));
        assert!(parse("jsonpath=x").is_err());
    }
}
