//! The pod network of one node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cloudeck_net::netlink::Requests;
use cloudeck_net::nftables::NftWatch;
use cloudeck_net::{NetNamespace, NetlinkError, RouteSocket};
use cloudeck_task::Scope;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::attach::{self, Plan};
use crate::config::{AttachRequest, HostPort, NetworkConfig, PodAddress, PodNetworkEntry};
use crate::error::{AttachError, NetworkStartError};
use crate::host::{self, GATEWAY, Place};
use crate::ipam::Pool;
use crate::name::{self, InstanceNames};
use crate::record;

/// There in a kernel that knows IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";
/// Below this, the kernel keeps a device out of IPv6 altogether and refuses settings about it.
const IPV6_MTU_MIN: u32 = 1280;

/// How long a table that could not be put back waits for the next attempt, twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Connects pods. Cheap to clone; clones are the same network.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
    names: InstanceNames,
    mtu_bytes: u32,
    state: Mutex<State>,
    host: Mutex<RouteSocket>,
    /// Removes links.
    reaper: Mutex<RouteSocket>,
    ipv6: bool,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    pods: BTreeMap<String, Connection>,
}

#[derive(Debug, Clone)]
struct Connection {
    address: Ipv4Addr,
    /// Only finished connections are told of.
    finished: bool,
}

impl PodNetwork {
    /// Prepares the host and adopts the pods that an earlier life connected. Doing it again changes nothing.
    pub async fn start(config: NetworkConfig) -> Result<Self, NetworkStartError> {
        blocking(move || Self::start_blocking(config)).await
    }

    fn start_blocking(config: NetworkConfig) -> Result<Self, NetworkStartError> {
        let names = InstanceNames::new(&config.instance)
            .ok_or_else(|| NetworkStartError::InstanceName(config.instance.clone()))?;
        check_ranges(&config)?;
        let place = Place(config.namespace.clone());
        let mtu_bytes = host::prepare(&place, &config, &names)?;
        let mut host = place
            .route_socket()
            .map_err(host::netlink("open a route socket"))?;
        let pool = Pool::new(config.pod_cidr, record::load_cursor(&config.state_dir));
        let mut state = State {
            pool,
            pods: BTreeMap::new(),
        };
        adopt(&mut state, &mut host, &names, config.node_ip)
            .map_err(host::netlink("adopt the links of running pods"))?;
        let reaper = place
            .route_socket()
            .map_err(host::netlink("open a route socket"))?;
        let inner = Inner {
            config,
            names,
            mtu_bytes,
            state: Mutex::new(state),
            host: Mutex::new(host),
            reaper: Mutex::new(reaper),
            ipv6: Path::new(IPV6).exists() && mtu_bytes >= IPV6_MTU_MIN,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Puts the table with masquerade and the loopback guard back whenever somebody removes it.
    pub fn keep_table(&self, scope: &Scope) -> Result<(), NetworkStartError> {
        let inner = Arc::clone(&self.inner);
        let watch = NftWatch::open(inner.config.namespace.as_deref())
            .map_err(host::netlink("listen for removed tables"))?;
        let (tell_removal, removals) = mpsc::channel(1);
        scope.spawn_until_shutdown(
            "pod-table-watch",
            watch.tell_of_removals(inner.names.pod_table(), tell_removal),
        );
        let install = move || Arc::clone(&inner).put_back();
        scope.spawn_until_shutdown("pod-table", keep_installed(removals, install));
        Ok(())
    }

    /// Connects a pod's namespace. For a pod that is connected already, the same answer again; if its namespace is
    /// a new one, the connection is made anew with the same address.
    ///
    /// # Cancel safety
    /// The work goes on when the future is dropped; the next call for the same pod finds its result.
    pub async fn attach(&self, request: AttachRequest<'_>) -> Result<PodAddress, AttachError> {
        let inner = Arc::clone(&self.inner);
        let netns = request.netns.to_owned();
        let pod_uid = request.pod_uid.to_owned();
        let requested = request.requested;
        refuse_host_ports(request.host_ports)?;
        blocking(move || inner.attach(&netns, &pod_uid, requested)).await
    }

    /// Disconnects a pod and frees its address. `false` when it was not connected.
    pub async fn detach(&self, pod_uid: &str) -> Result<bool, AttachError> {
        let inner = Arc::clone(&self.inner);
        let pod_uid = pod_uid.to_owned();
        blocking(move || inner.detach(&pod_uid)).await
    }

    /// The connected pods, by uid.
    pub fn list(&self) -> Vec<PodNetworkEntry> {
        let state = lock(&self.inner.state);
        let finished = state.pods.iter().filter(|(_, connection)| connection.finished);
        finished
            .map(|(pod_uid, connection)| PodNetworkEntry {
                pod_uid: pod_uid.clone(),
                ip: connection.address,
                host_link: self.inner.names.pod_link(pod_uid),
            })
            .collect()
    }

    /// How a pod is connected, if it is.
    pub fn address_of(&self, pod_uid: &str) -> Option<PodAddress> {
        let state = lock(&self.inner.state);
        let connection = state.pods.get(pod_uid).filter(|connection| connection.finished)?;
        Some(self.inner.pod_address(pod_uid, connection.address))
    }
}

impl Inner {
    async fn put_back(self: Arc<Self>) -> bool {
        let installed = blocking(move || self.install_if_missing()).await;
        if let Err(error) = &installed {
            warn!(error = %cloudeck_telemetry::chain(error), "the pods' table is not put back; trying again");
        }
        installed.is_ok()
    }

    /// When we ourselves replace the table, it is there again by now.
    fn install_if_missing(&self) -> Result<(), NetworkStartError> {
        let place = Place(self.config.namespace.clone());
        let tables = place
            .nft_socket()
            .and_then(|mut nft| nft.tables())
            .map_err(host::netlink("list tables"))?;
        if tables.contains(&self.names.pod_table()) {
            return Ok(());
        }
        warn!("somebody removed the pods' table; installing it anew");
        host::install_table(&place, &self.config, &self.names)
    }

    fn attach(
        &self,
        netns: &Path,
        pod_uid: &str,
        requested: Option<Ipv4Addr>,
    ) -> Result<PodAddress, AttachError> {
        if !name::is_valid_pod_uid(pod_uid) {
            return Err(AttachError::PodUid(pod_uid.to_owned()));
        }
        let namespace = NetNamespace::open(netns)?;
        let existing = lock(&self.state).pods.get(pod_uid).cloned();
        if let Some(connection) = &existing {
            if !connection.finished {
                return Err(AttachError::InProgress(pod_uid.to_owned()));
            }
            let connected = attach::has_address(&namespace, connection.address)
                .map_err(|source| failed("read the addresses", pod_uid, source))?;
            if connected {
                return Ok(self.pod_address(pod_uid, connection.address));
            }
        }
        let address = self.reserve(pod_uid, requested)?;
        let outcome = self.connect(&namespace, pod_uid, address);
        let mut state = lock(&self.state);
        if outcome.is_ok() {
            state.pods.insert(
                pod_uid.to_owned(),
                Connection {
                    address,
                    finished: true,
                },
            );
        } else {
            state.pods.remove(pod_uid);
            state.pool.release(address);
        }
        outcome.map(|()| self.pod_address(pod_uid, address))
    }

    fn reserve(&self, pod_uid: &str, requested: Option<Ipv4Addr>) -> Result<Ipv4Addr, AttachError> {
        let mut state = lock(&self.state);
        let address = match (state.pods.get(pod_uid), requested) {
            (Some(connection), _) if !connection.finished => {
                return Err(AttachError::InProgress(pod_uid.to_owned()));
            }
            (Some(connection), _) => connection.address,
            (None, Some(address)) => state.pool.claim(address).map(|()| address)?,
            (None, None) => state.pool.allocate()?,
        };
        state.pods.insert(
            pod_uid.to_owned(),
            Connection {
                address,
                finished: false,
            },
        );
        if let Err(error) = record::save_cursor(&self.config.state_dir, state.pool.cursor()) {
            warn!(%error, "cannot note the last pod address");
        }
        Ok(address)
    }

    fn connect(&self, namespace: &NetNamespace, pod_uid: &str, address: Ipv4Addr) -> Result<(), AttachError> {
        let plan = Plan {
            pod_uid,
            address,
            host_link: &self.names.pod_link(pod_uid),
            alias: &self.names.alias(pod_uid, address),
            node_ip: self.config.node_ip,
            mtu_bytes: self.mtu_bytes,
            ipv6: self.ipv6,
        };
        plan.carry_out(&mut lock(&self.host), namespace)
    }

    fn detach(&self, pod_uid: &str) -> Result<bool, AttachError> {
        let connection = lock(&self.state).pods.get(pod_uid).cloned();
        let Some(connection) = connection else {
            return Ok(false);
        };
        if !connection.finished {
            return Err(AttachError::InProgress(pod_uid.to_owned()));
        }
        let remove = || {
            let group = self.names.removal_group();
            let link = lock(&self.host).link_named(&self.names.pod_link(pod_uid))?;
            // Whoever has the lock removes all that are marked by then, so pods that go together wait only once or
            // twice; and on a socket of its own, so that new pods do not wait.
            attach::mark_for_removal(&mut lock(&self.host), link.map(|link| link.index), group)?;
            attach::remove_marked(&mut lock(&self.reaper), group)
        };
        remove().map_err(|source| failed("remove the link", pod_uid, source))?;
        let mut state = lock(&self.state);
        state.pods.remove(pod_uid);
        state.pool.release(connection.address);
        Ok(true)
    }

    fn pod_address(&self, pod_uid: &str, ip: Ipv4Addr) -> PodAddress {
        let host_link = self.names.pod_link(pod_uid);
        PodAddress {
            ip,
            gateway: GATEWAY,
            host_link,
            mtu_bytes: self.mtu_bytes,
        }
    }
}

/// Installs when something was removed, and after a failure once more, each time later. Ends when all is well and nothing
/// will be heard any more.
async fn keep_installed<F: Future<Output = bool>>(
    mut removals: mpsc::Receiver<()>,
    mut install: impl FnMut() -> F,
) {
    let mut retry = FIRST_RETRY;
    let mut failing = false;
    loop {
        tokio::select! {
            Some(()) = removals.recv() => {}
            () = tokio::time::sleep(retry), if failing => retry = (retry * 2).min(LONGEST_RETRY),
            else => return,
        }
        failing = !install().await;
        if !failing {
            retry = FIRST_RETRY;
        }
    }
}

/// Takes over the finished links of an earlier life and removes the unfinished ones. The ways to the pods are made
/// anew, as the kernel has removed them if the node's former address went.
fn adopt(
    state: &mut State,
    host: &mut RouteSocket,
    names: &InstanceNames,
    node_ip: Ipv4Addr,
) -> Result<(), NetlinkError> {
    let prefix = names.link_prefix();
    let mut ways = Requests::new();
    for link in host
        .links()?
        .into_iter()
        .filter(|link| link.name.starts_with(&prefix))
    {
        let told = link.alias.as_deref().and_then(|alias| names.read_alias(alias));
        let Some((pod_uid, address)) = told else {
            debug!(link = link.name, "removing an unfinished pod link");
            attach::remove_link(host, &link.name)?;
            continue;
        };
        if let Err(error) = state.pool.claim(address) {
            warn!(pod = pod_uid, %error, "adopted pod has an address that could not be reserved");
        }
        attach::lead_to_pod(&mut ways, link.index, pod_uid, address, node_ip);
        state.pods.insert(
            pod_uid.to_owned(),
            Connection {
                address,
                finished: true,
            },
        );
    }
    host.execute(ways)
}

fn check_ranges(config: &NetworkConfig) -> Result<(), NetworkStartError> {
    let (pod, cluster, service) = (config.pod_cidr, config.cluster_cidr, config.service_cidr);
    if cluster.overlaps(service) {
        return Err(NetworkStartError::OverlappingRanges(cluster, service));
    }
    if !(cluster.contains(pod.network()) && cluster.contains(pod.last())) {
        return Err(NetworkStartError::PodRangeOutside { pod, cluster });
    }
    Ok(())
}

fn refuse_host_ports(host_ports: &[HostPort]) -> Result<(), AttachError> {
    host_ports
        .first()
        .map_or(Ok(()), |port| Err(AttachError::HostPort(port.host_port)))
}

fn failed(action: &'static str, pod_uid: &str, source: NetlinkError) -> AttachError {
    AttachError::Netlink {
        action,
        pod_uid: pod_uid.to_owned(),
        source,
    }
}

pub(crate) async fn blocking<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(action).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl PodNetwork {
    /// Where the record is kept.
    pub fn state_dir(&self) -> PathBuf {
        self.inner.config.state_dir.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_that_cannot_be_put_back_is_tried_again_later_and_later() {
        let start = tokio::time::Instant::now();
        let (news, removals) = mpsc::channel(1);
        let mut attempts = Vec::new();
        let keep = keep_installed(removals, || {
            attempts.push(start.elapsed().as_millis());
            std::future::ready(attempts.len() == 4)
        });
        news.send(()).await.unwrap();
        drop(news);
        keep.await;
        assert_eq!(attempts, [0, 100, 300, 700]);
    }
}
