//! `cloudeck image`: the node's image store, with or without a running daemon.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cloudeck_image::{Credentials, Image as StoredImage, ImageStore, StoreConfig};
use cloudeck_machinery::{Value, value};
use cloudeck_task::Scope;

use super::output::{print_table, print_tree};
use crate::cli::{Format, Image};
use crate::settings::Places;

pub async fn run(places: &Places, command: Image) -> Result<ExitCode> {
    let scope = Scope::root("image command");
    let store =
        ImageStore::open(&places.images(), StoreConfig::default(), &scope).context("open the image store")?;
    match command {
        Image::Import { file, name } => {
            let images = store.import(file.clone(), name.as_deref()).await;
            for image in images.with_context(|| format!("import {}", file.display()))? {
                println!("{}", title(&image));
            }
        }
        Image::Pull { name, credentials } => pull(&store, &name, credentials.as_deref()).await?,
        Image::List(output) => list(&store, output.output)?,
        Image::Remove { name } => {
            store
                .remove(&name)
                .await
                .with_context(|| format!("remove {name}"))?;
            println!("{name} removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pull(store: &ImageStore, name: &str, credentials: Option<&str>) -> Result<()> {
    let credentials = match credentials.map(|text| text.split_once(':')) {
        None => Vec::new(),
        Some(Some((username, password))) => {
            vec![Credentials::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            }]
        }
        Some(None) => bail!("--credentials must be USER:PASSWORD"),
    };
    let pull = store
        .start_pull(name, credentials)
        .with_context(|| format!("pull {name}"))?;
    let mut progress = pull.progress();
    let shown = async {
        while progress.changed().await.is_ok() {
            let now = *progress.borrow_and_update();
            eprint!(
                "\r{} of {} layers, {} of {}\x1b[K",
                now.layers_done,
                now.layers,
                size(now.bytes_done),
                size(now.bytes)
            );
        }
        std::future::pending::<()>().await;
    };
    let image: Arc<StoredImage> = tokio::select! {
        image = pull.wait() => image.with_context(|| format!("pull {name}"))?,
        () = shown => unreachable!("the display never ends"),
    };
    eprintln!();
    println!("{}", title(&image));
    Ok(())
}

fn title(image: &StoredImage) -> String {
    image
        .names
        .first()
        .cloned()
        .unwrap_or_else(|| image.id.to_string())
}

fn list(store: &ImageStore, format: Format) -> Result<()> {
    let images = store.list().context("list the images")?;
    if format == Format::Table {
        let rows: Vec<Vec<String>> = images
            .iter()
            .flat_map(|image| {
                let names = if image.names.is_empty() {
                    vec!["<none>".to_owned()]
                } else {
                    image.names.clone()
                };
                names
                    .into_iter()
                    .map(|name| vec![name, short_id(image), size(image.size_bytes)])
            })
            .collect();
        print_table(&["NAME", "IMAGE ID", "SIZE"], &rows);
        return Ok(());
    }
    let texts = |list: &[String]| Value::Array(list.iter().map(|text| Value::from(text.as_str())).collect());
    let render = |image: &StoredImage| {
        let bytes = i64::try_from(image.size_bytes).unwrap_or(i64::MAX);
        value!({
            "id": (image.id.to_string()), "names": (texts(&image.names)), "digests": (texts(&image.repo_digests)),
            "sizeBytes": (bytes)
        })
    };
    print_tree(
        &Value::Array(images.iter().map(|image| render(image)).collect()),
        format,
    );
    Ok(())
}

fn short_id(image: &StoredImage) -> String {
    let id = image.id.to_string();
    id.strip_prefix("sha256:")
        .unwrap_or(&id)
        .chars()
        .take(12)
        .collect()
}

fn size(bytes: u64) -> String {
    if bytes >= 10_000_000 {
        format!("{} MB", bytes / 1_000_000)
    } else {
        format!("{} kB", bytes.div_ceil(1000))
    }
}
