//! How long clusters, pods and Services take to live and to die.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cloudeck_e2e::{Cluster, eventually, image};
use serde_json::{Value, json};

use crate::client::{Connection, Endpoint, Watch};
use crate::table::{Better, Table, ms, quantile};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";
/// A process that ends on SIGTERM.
const IDLE: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
const SERVE: &str = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait";

/// Start and restart of everything.
pub(crate) fn start_and_restart(table: &mut Table) {
    let mut cluster = Cluster::stopped();
    let begun = Instant::now();
    cluster.up();
    let ready = begun.elapsed();
    // The import is no part of what Kubernetes' figure holds: its image lay there already.
    let paused = Instant::now();
    cluster.import_image();
    let paused = paused.elapsed();
    cluster.apply(&pod("first", IDLE).to_string());
    cluster.wait_for_field("pod first", "{.status.phase}", "Running");
    let first = begun.elapsed().checked_sub(paused).unwrap_or_default();
    cluster.lose_power();
    let begun = Instant::now();
    cluster.up();
    let since =
        "{.status.containerStatuses[0].restartCount}{.status.containerStatuses[0].state.running.startedAt}";
    eventually("the pod to run again", || {
        let running = cluster
            .machine()
            .shell("ps axo args | grep -c '^sleep 100000' || true");
        if running.trim() == "1" {
            Ok(())
        } else {
            Err(cluster.field("pod first", since))
        }
    });
    let again = begun.elapsed();
    table.add(
        "fresh start → node Ready",
        3_400.0,
        ms(ready),
        "ms",
        Better::Less,
        "1 s",
    );
    table.add(
        "fresh start → first pod running",
        9_100.0,
        ms(first),
        "ms",
        Better::Less,
        "1.2 s",
    );
    table.add(
        "restart after all processes are gone → pod running",
        4_400.0,
        ms(again),
        "ms",
        Better::Less,
        "0.6 s",
    );
}

/// Everything that a watch tells about pods.
pub(crate) async fn pods(table: &mut Table, cluster: &Cluster, endpoint: &Endpoint) -> Result<()> {
    let mut api = endpoint.connect().await?;
    let mut watch = endpoint
        .connect()
        .await?
        .watch(&format!("{PODS}?watch=1"))
        .await?;
    one_at_a_time(table, &mut api, &mut watch).await?;
    crate::memory::per_pod(table, cluster);
    many_at_once(table, &mut api, &mut watch).await?;
    deployment(table, endpoint, &mut api).await?;
    services(table, cluster, &mut api).await
}

async fn one_at_a_time(table: &mut Table, api: &mut Connection, watch: &mut Watch) -> Result<()> {
    const ROUNDS: usize = 30;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("one-{round}");
        let begun = Instant::now();
        api.create(PODS, &pod(&name, IDLE)).await?;
        watch.until(|_, pod| is(pod, &name) && is_running(pod)).await?;
        starts.push(begun.elapsed());
        if round + 1 == ROUNDS {
            break;
        }
        let begun = Instant::now();
        api.send("DELETE", &format!("{PODS}/{name}"), "", "").await?;
        watch
            .until(|event, pod| event == "DELETED" && is(pod, &name))
            .await?;
        ends.push(begun.elapsed());
    }
    let (p50, p99) = (quantile(&mut starts, 0.5), quantile(&mut starts, 0.99));
    table.add(
        "pod create → Running seen by a watch, p50",
        520.0,
        ms(p50),
        "ms",
        Better::Less,
        "100 ms, goal 50",
    );
    table.add(
        "pod create → Running seen by a watch, p99",
        586.0,
        ms(p99),
        "ms",
        Better::Less,
        "200 ms",
    );
    table.add(
        "pod deletion, default grace, p50",
        593.0,
        ms(quantile(&mut ends, 0.5)),
        "ms",
        Better::Less,
        "100 ms",
    );
    Ok(())
}

async fn many_at_once(table: &mut Table, api: &mut Connection, watch: &mut Watch) -> Result<()> {
    const MANY: usize = 30;
    let begun = Instant::now();
    for number in 0..MANY {
        api.create(PODS, &pod(&format!("many-{number}"), IDLE)).await?;
    }
    let mut running = std::collections::BTreeSet::new();
    watch
        .until(|_, pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if name.starts_with("many-") && is_running(pod) {
                running.insert(name.to_owned());
            }
            running.len() == MANY
        })
        .await?;
    table.add(
        "thirty at once: until all run",
        4_100.0,
        ms(begun.elapsed()),
        "ms",
        Better::Less,
        "1 s, goal 0.5",
    );
    for number in 0..MANY {
        api.send("DELETE", &format!("{PODS}/many-{number}"), "", "")
            .await?;
    }
    watch
        .until(|event, pod| {
            if event == "DELETED" {
                running.remove(pod["metadata"]["name"].as_str().unwrap_or_default());
            }
            running.is_empty()
        })
        .await
}

async fn deployment(table: &mut Table, endpoint: &Endpoint, api: &mut Connection) -> Result<()> {
    let mut watch = endpoint
        .connect()
        .await?
        .watch(&format!("{DEPLOYMENTS}?watch=1"))
        .await?;
    let template = json!({"metadata": {"labels": {"app": "three"}}, "spec": pod("x", IDLE)["spec"]});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "three"}}, "template": template});
    let begun = Instant::now();
    api.create(DEPLOYMENTS, &json!({"metadata": {"name": "three"}, "spec": spec}))
        .await?;
    watch
        .until(|_, deployment| deployment["status"]["readyReplicas"] == 3)
        .await?;
    let name = "Deployment of three: create → all Ready";
    table.add(name, 791.0, ms(begun.elapsed()), "ms", Better::Less, "200 ms");
    api.send("DELETE", &format!("{DEPLOYMENTS}/three"), "", "")
        .await
        .map(drop)
}

async fn services(table: &mut Table, cluster: &Cluster, api: &mut Connection) -> Result<()> {
    let mut server = pod("server", SERVE);
    server["metadata"]["labels"] = json!({"app": "server"});
    api.create(PODS, &server).await?;
    cluster
        .kubectl("wait pod/server --for=condition=Ready --timeout=60s")
        .ok();
    let mut created = Vec::new();
    for round in 0..10 {
        let name = format!("service-{round}");
        let address: Ipv4Addr = format!("10.96.0.{}", 100 + round).parse()?;
        let spec = json!({"selector": {"app": "server"}, "clusterIP": address.to_string(), "ports": [{"port": 80, "targetPort": 8080}]});
        let begun = Instant::now();
        api.create(SERVICES, &json!({"metadata": {"name": name}, "spec": spec}))
            .await?;
        connects(cluster, address).with_context(|| format!("connect to {name}"))?;
        created.push(begun.elapsed());
    }
    let name = "Service created → first connection, p50";
    table.add(
        name,
        1_035.0,
        ms(quantile(&mut created, 0.5)),
        "ms",
        Better::Less,
        "50 ms",
    );
    Ok(())
}

/// Connects again and again until it works.
fn connects(cluster: &Cluster, address: Ipv4Addr) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    let attempt = || loop {
        match TcpStream::connect_timeout(&SocketAddr::from((address, 80)), Duration::from_millis(200)) {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > LIMIT => return Err(error),
            // Without endpoints a connection is refused at once.
            Err(_) => std::thread::sleep(Duration::from_micros(500)),
        }
    };
    Ok(cluster.machine().network().run(attempt)??)
}

fn is(object: &Value, name: &str) -> bool {
    object["metadata"]["name"] == name
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image::BUSYBOX, "command": ["/bin/sh", "-c", script]}]},
    })
}
