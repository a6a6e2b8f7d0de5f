//! Generates `crates/server/auth/src/bootstrap/facts.json`: the default roles and bindings of RBAC.
//!
//! Source: the test data of the bootstrap policy in the Go module `k8s.io/kubernetes`, which upstream's own tests hold
//! equal to the policy in code. Only facts are taken: names, labels, rules, references, subjects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

const MODULE: &str = "k8s.io/kubernetes@v1.37.2";
const TESTDATA: &str = "plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata";
const OUTPUT: &str = "crates/server/auth/src/bootstrap/facts.json";
/// Label and annotation that every default object has; the reader of the table adds them.
const COMMON_LABEL: &str = "kubernetes.io/bootstrapping";

/// Writes the table.
pub(crate) fn run(root: &Path) -> Result<()> {
    let testdata = module_directory()?.join(TESTDATA);
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for file in [
        "cluster-roles",
        "controller-roles",
        "cluster-role-bindings",
        "controller-role-bindings",
        "namespace-roles",
        "namespace-role-bindings",
    ] {
        let path = testdata.join(format!("{file}.yaml"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let tree = read_yaml(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        for item in tree["items"].as_array().context("no items")? {
            let list = match item["kind"].as_str() {
                Some("ClusterRole") => "clusterRoles",
                Some("ClusterRoleBinding") => "clusterRoleBindings",
                Some("Role") => "roles",
                Some("RoleBinding") => "roleBindings",
                kind => bail!("unexpected kind {kind:?} in {file}"),
            };
            lists.entry(list).or_default().push(shorten(item)?);
        }
    }
    std::fs::write(root.join(OUTPUT), render(&lists)).context("cannot write the table")
}

fn module_directory() -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .output()
        .context("cannot run go")?;
    let answer: Value = serde_json::from_slice(&output.stdout).context("go did not answer JSON")?;
    let directory = answer["Dir"]
        .as_str()
        .with_context(|| format!("no module {MODULE}: {answer}"))?;
    Ok(directory.into())
}

/// One object per line, for readable differences.
fn render(lists: &BTreeMap<&str, Vec<Value>>) -> String {
    let lists: Vec<String> = lists
        .iter()
        .map(|(name, items)| {
            let lines: Vec<String> = items.iter().map(ToString::to_string).collect();
            format!("\"{name}\":[\n{}\n]", lines.join(",\n"))
        })
        .collect();
    format!("{{{}}}\n", lists.join(",\n"))
}

fn shorten(item: &Value) -> Result<Value> {
    let mut short = Map::new();
    let meta = &item["metadata"];
    for field in ["name", "namespace"] {
        if let Some(text) = meta[field].as_str() {
            short.insert(field.to_owned(), text.into());
        }
    }
    let labels = pairs(&meta["labels"])
        .into_iter()
        .filter(|label| !label.starts_with(COMMON_LABEL));
    insert_list(&mut short, "labels", labels.map(Value::from).collect());
    if let Some(selectors) = item["aggregationRule"]["clusterRoleSelectors"].as_array() {
        let labels = selectors
            .iter()
            .flat_map(|selector| pairs(&selector["matchLabels"]));
        insert_list(&mut short, "aggregates", labels.map(Value::from).collect());
    }
    let rules = item["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    insert_list(&mut short, "rules", rules.iter().map(shorten_rule).collect());
    if item["roleRef"].is_object() {
        let text = |field: &str| {
            item["roleRef"][field]
                .as_str()
                .with_context(|| format!("no {field}"))
        };
        short.insert(
            "roleRef".to_owned(),
            format!("{}/{}", text("kind")?, text("name")?).into(),
        );
        let subjects = item["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
        insert_list(
            &mut short,
            "subjects",
            subjects.iter().map(shorten_subject).collect::<Result<_>>()?,
        );
    }
    Ok(Value::Object(short))
}

fn insert_list(short: &mut Map<String, Value>, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        short.insert(name.to_owned(), items.into());
    }
}

fn pairs(map: &Value) -> Vec<String> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect()
}

/// `[verbs, groups, resources, names, urls]` without trailing empties.
fn shorten_rule(rule: &Value) -> Value {
    let fields = [
        "verbs",
        "apiGroups",
        "resources",
        "resourceNames",
        "nonResourceURLs",
    ];
    let mut lists: Vec<Value> = fields
        .iter()
        .map(|field| rule[field].as_array().cloned().unwrap_or_default().into())
        .collect();
    while lists
        .last()
        .is_some_and(|list| list.as_array().is_some_and(Vec::is_empty))
    {
        lists.pop();
    }
    lists.into()
}

fn shorten_subject(subject: &Value) -> Result<Value> {
    let text = |field: &str| {
        subject[field]
            .as_str()
            .with_context(|| format!("subject without {field}"))
    };
    let name = text("name")?;
    Ok(match text("kind")? {
        "ServiceAccount" => format!("ServiceAccount/{}/{name}", text("namespace")?).into(),
        kind => format!("{kind}/{name}").into(),
    })
}

/// Reads the subset of YAML that Go's encoder writes for these files: block maps and lists, plain and quoted scalars.
fn read_yaml(text: &str) -> Result<Value> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|line| (line.len() - line.trim_start().len(), line.trim()))
        .collect();
    let mut at = 0;
    let value = read_block(&lines, &mut at)?;
    ensure!(at == lines.len(), "line {at} is not understood");
    Ok(value)
}

fn read_block(lines: &[(usize, &str)], at: &mut usize) -> Result<Value> {
    let (indent, first) = *lines.get(*at).context("unexpected end")?;
    if first == "-" || first.starts_with("- ") {
        read_list(lines, at, indent)
    } else {
        read_map(lines, at, indent)
    }
}

fn read_list(lines: &[(usize, &str)], at: &mut usize, indent: usize) -> Result<Value> {
    let mut items = Vec::new();
    while let Some((_, item)) = lines
        .get(*at)
        .filter(|line| line.0 == indent && line.1.starts_with("- "))
    {
        let item = item[2..].trim_start();
        if key_of(item).is_none() {
            items.push(scalar(item)?);
            *at += 1;
            continue;
        }
        // A map whose first key stands on the dash's line.
        let mut inner: Vec<(usize, &str)> = vec![(indent + 2, item)];
        *at += 1;
        while let Some(line) = lines.get(*at).filter(|line| line.0 > indent) {
            inner.push(*line);
            *at += 1;
        }
        let mut inner_at = 0;
        items.push(read_map(&inner, &mut inner_at, indent + 2)?);
        ensure!(
            inner_at == inner.len(),
            "an item near line {at} is not understood"
        );
    }
    Ok(items.into())
}

fn read_map(lines: &[(usize, &str)], at: &mut usize, indent: usize) -> Result<Value> {
    let mut map = Map::new();
    while let Some((_, line)) = lines.get(*at).filter(|line| line.0 == indent) {
        let Some((key, rest)) = key_of(line) else { break };
        *at += 1;
        let value = if rest.is_empty() {
            // Lists stand at the indentation of their key.
            let nested = lines
                .get(*at)
                .is_some_and(|next| next.0 > indent || (next.0 == indent && next.1.starts_with("- ")));
            if nested {
                read_block(lines, at)?
            } else {
                Value::Null
            }
        } else {
            scalar(rest)?
        };
        map.insert(key.to_owned(), value);
    }
    Ok(map.into())
}

/// `key: rest`; `None` for a scalar. Names with colons have no space after them.
fn key_of(line: &str) -> Option<(&str, &str)> {
    if line.starts_with(['"', '\'']) {
        return None;
    }
    line.strip_suffix(':')
        .map(|key| (key, ""))
        .or_else(|| line.split_once(": ").map(|(key, rest)| (key, rest.trim())))
}

fn scalar(text: &str) -> Result<Value> {
    Ok(match text {
        "null" | "~" => Value::Null,
        "[]" => json!([]),
        "{}" => json!({}),
        _ if text.starts_with('"') => serde_json::from_str(text)?,
        _ if text.starts_with('\'') => text.trim_matches('\'').replace("''", "'").into(),
        _ => text.into(),
    })
}
