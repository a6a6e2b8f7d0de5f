//! `cloudeck apply -f`: server-side apply of files.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cloudeck_client::{Body, Client, ContentType, Request, Transport};
use cloudeck_machinery::{Value, json, yaml};

use super::mapping;
use crate::cli::Apply;
use crate::settings::Places;

/// The field manager of what is applied here.
const MANAGER: &str = "cloudeck";

pub async fn run(places: &Places, apply: &Apply) -> Result<ExitCode> {
    let mut objects = Vec::new();
    for file in &apply.files {
        objects.extend(read(file)?);
    }
    if objects.is_empty() {
        bail!("no objects in the given files");
    }
    let client = Client::new(crate::kubeconfig::connect(places)? as std::sync::Arc<dyn Transport>);
    let mut failed = false;
    for object in &objects {
        match one(&client, object, &apply.namespace).await {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("error: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

pub async fn one(client: &Client, object: &Value, namespace: &str) -> Result<String> {
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
    let (kind, name) = (text(&["kind"]), text(&["metadata", "name"]));
    if name.is_empty() {
        bail!("an object of kind {kind:?} has no metadata.name");
    }
    let info = mapping::of_kind(&text(&["apiVersion"]), &kind)?;
    let own = text(&["metadata", "namespace"]);
    let namespace = if !info.namespaced {
        ""
    } else if own.is_empty() {
        namespace
    } else {
        &own
    };
    let body = Body {
        content_type: ContentType::ApplyPatch,
        bytes: json::to_vec(object).into(),
    };
    let mut request = Request::patch(&mapping::address(info), namespace, &name, "", body);
    MANAGER.clone_into(&mut request.params.field_manager);
    "Strict".clone_into(&mut request.params.field_validation);
    request.params.force = Some(true);
    let title = format!("{}/{name}", kind.to_lowercase());
    client
        .send(request)
        .await
        .with_context(|| format!("apply {title}"))?;
    Ok(format!("{title} applied"))
}

/// The objects of a file, of all files of a directory, or of standard input; lists are taken apart.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            matches!(
                file.extension().and_then(|e| e.to_str()),
                Some("yaml" | "yml" | "json")
            )
        });
        files.sort();
        return Ok(files
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>>>()?
            .concat());
    }
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut text)
            .context("read standard input")?;
    } else {
        text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    }
    let documents = yaml::parse_all(&text).with_context(|| format!("understand {}", path.display()))?;
    let objects = documents
        .into_iter()
        .filter(|document| !document.is_null())
        .flat_map(|mut document| {
            let is_list = document
                .str_at(&["kind"])
                .is_some_and(|kind| kind.ends_with("List"));
            match document.remove_at(&["items"]) {
                Some(Value::Array(items)) if is_list => items,
                Some(other) => {
                    document.set_at(&["items"], other);
                    vec![document]
                }
                None => vec![document],
            }
        });
    Ok(objects.collect())
}
