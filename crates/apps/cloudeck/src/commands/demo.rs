//! `cloudeck demo`: a first application, made of this very binary.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloudeck_client::{Client, Transport};
use cloudeck_image::{ImageConfig, ImageStore, StoreConfig};
use cloudeck_machinery::{GroupVersionResource, Value, yaml};
use cloudeck_task::Scope;

use crate::cli::Wait;
use crate::demo::{IMAGE, MANIFEST, WORD};
use crate::settings::Places;

const LIMIT: Duration = Duration::from_mins(1);

pub async fn run(places: &Places) -> Result<ExitCode> {
    let scope = Scope::root("demo");
    let store =
        ImageStore::open(&places.images(), StoreConfig::default(), &scope).context("open the image store")?;
    let config = ImageConfig {
        entrypoint: vec!["/cloudeck".to_owned(), WORD.to_owned()],
        ..ImageConfig::default()
    };
    let image = store
        .import_single_binary(IMAGE, "/proc/self/exe", config)
        .await
        .context("make the demo's image")?;
    eprintln!("• image {IMAGE}, {} MB", image.size_bytes / 1_000_000);
    let client = Client::new(crate::kubeconfig::connect(places)? as std::sync::Arc<dyn Transport>);
    for object in yaml::parse_all(MANIFEST.as_bytes()).context("understand the demo's objects")? {
        eprintln!("• {}", super::apply::one(&client, &object, "default").await?);
    }
    let what = "deployment/demo".to_owned();
    let wait = Wait {
        what,
        namespace: "default".to_owned(),
        condition: "condition=Available".to_owned(),
        timeout: LIMIT,
    };
    super::wait::until(places, &wait).await?;
    println!(
        "http://{}:{}",
        node_address(&client).await?,
        node_port(&client).await?
    );
    Ok(ExitCode::SUCCESS)
}

async fn node_address(client: &Client) -> Result<String> {
    let nodes = GroupVersionResource::new("", "v1", "nodes");
    let nodes = client
        .list(&nodes, "", cloudeck_client::Params::default())
        .await
        .context("list the nodes")?;
    let tree = nodes.items.first().context("the cluster has no node")?.tree();
    let is_internal = |address: &&Value| address.str_at(&["type"]) == Some("InternalIP");
    let address = tree.items_at(&["status", "addresses"]).iter().find(is_internal);
    let address = address
        .and_then(|a| a.str_at(&["address"]))
        .context("the node has no address")?;
    Ok(address.to_owned())
}

async fn node_port(client: &Client) -> Result<i64> {
    let services = GroupVersionResource::new("", "v1", "services");
    let service = client
        .get(&services, "default", "demo")
        .await
        .context("read the demo's Service")?
        .tree();
    let port = service
        .items_at(&["spec", "ports"])
        .first()
        .and_then(|port| port.int_at(&["nodePort"]));
    match port {
        Some(port) => Ok(port),
        None => bail!("the demo's Service has no node port"),
    }
}
