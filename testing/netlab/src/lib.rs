//! A node, its pods and the world outside, each a network namespace: for root tests of whatever moves packets.
//!
//! Everything ends with the values that hold it: namespaces vanish with their last descriptor, servers with theirs.
//! The host's own namespace is never touched.
//! Knows nothing of Services and of the API. Start reading at [`Lab`].
#![allow(
    clippy::unwrap_used,
    reason = "only tests use it, and a failure in it is a failed test"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use cloudeck_net::route::{LOOPBACK_INDEX, LinkChange, MacAddress, RouteSpec, RouteTarget, VethSpec};
use cloudeck_net::{Ipv4Cidr, NetNamespace, RouteSocket};
use cloudeck_network::{AttachRequest, NetworkConfig, PodAddress};

pub use cloudeck_network::PodNetwork;
use rustix::net::{AddressFamily, SocketType, sockopt};
use tempfile::TempDir;

/// The node's address towards the outside.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The outside's address, the node's default router.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Who waits so long for an answer has failed, on however slow a machine.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// So long nobody may answer where silence is what is expected: a slow machine only makes a test see less.
pub const SILENCE: Duration = Duration::from_millis(900);

/// A node with an uplink to an outside that has routes to nothing but the uplink's network.
pub struct Lab {
    /// The node's namespace.
    pub node: Arc<NetNamespace>,
    /// The outside's namespace.
    pub outside: NetNamespace,
    /// The network's settings; the state directory is the lab's own.
    pub config: NetworkConfig,
    _state: TempDir,
}

/// A pod's namespace and how it is connected.
pub struct Pod {
    /// Its namespace.
    pub namespace: NetNamespace,
    /// Its address.
    pub address: PodAddress,
}

impl Lab {
    /// Builds it; the pod network is not started yet.
    ///
    /// # Panics
    /// Whenever something cannot be had, as everything here.
    pub fn new(instance: &str) -> Self {
        let (node, outside) = (NetNamespace::create().unwrap(), NetNamespace::create().unwrap());
        // A new namespace has the host's settings, and on the host a cluster may be running.
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0"))
            .unwrap()
            .unwrap();
        connect_uplink(&node, &outside);
        let state = tempfile::tempdir().unwrap();
        let node = Arc::new(node);
        let config = NetworkConfig {
            instance: instance.to_owned(),
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            node_ip: NODE,
            state_dir: state.path().to_owned(),
            namespace: Some(Arc::clone(&node)),
        };
        Self {
            node,
            outside,
            config,
            _state: state,
        }
    }

    /// Starts the pod network on the node.
    pub async fn start_network(&self) -> PodNetwork {
        PodNetwork::start(self.config.clone()).await.unwrap()
    }

    /// Connects a new pod.
    pub async fn pod(&self, network: &PodNetwork, pod_uid: &str) -> Pod {
        let namespace = NetNamespace::create().unwrap();
        let netns = path_of(&namespace);
        let request = AttachRequest {
            netns: &netns,
            pod_uid,
            requested: None,
            host_ports: &[],
        };
        let address = network.attach(request).await.unwrap();
        Pod { namespace, address }
    }
}

/// A path that stands for the namespace as long as it is held.
pub fn path_of(namespace: &NetNamespace) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd()))
}

fn connect_uplink(node: &NetNamespace, outside: &NetNamespace) {
    let mut here = RouteSocket::open_in(node).unwrap();
    let mut there = RouteSocket::open_in(outside).unwrap();
    let (mac, peer_mac) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
    let spec = VethSpec {
        name: "uplink",
        mac,
        peer_name: "node",
        peer_mac,
        mtu_bytes: 1400,
    };
    here.add_veth(&spec, outside.as_fd()).unwrap();
    let up = LinkChange {
        up: true,
        ..LinkChange::default()
    };
    for (socket, name, address) in [(&mut here, "uplink", NODE), (&mut there, "node", OUTSIDE)] {
        let index = socket.link_named(name).unwrap().unwrap().index;
        socket.change_link(LOOPBACK_INDEX, &up).unwrap();
        socket
            .add_address(index, address, 24, libc::RT_SCOPE_UNIVERSE)
            .unwrap();
        socket.change_link(index, &up).unwrap();
    }
    let index = here.link_named("uplink").unwrap().unwrap().index;
    let default = RouteSpec {
        destination: Ipv4Cidr::new(Ipv4Addr::UNSPECIFIED, 0).unwrap(),
        target: RouteTarget::Gateway(index, OUTSIDE),
        source: None,
        protocol: libc::RTPROT_STATIC,
    };
    here.add_route(&default).unwrap();
    for (socket, name) in [(&mut here, "uplink"), (&mut there, "node")] {
        let index = socket.link_named(name).unwrap().unwrap().index;
        socket.wait_until_running(index).unwrap();
    }
}

/// Answers every TCP connection and every UDP datagram on a port with its own name and the client's address.
pub struct Server {
    name: String,
    port: u16,
    listener: TcpListener,
    socket: UdpSocket,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves on all addresses of the namespace; port 0 chooses one that is free for TCP.
    pub fn start(namespace: &NetNamespace, name: &str, port: u16) -> Self {
        let open = || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            let port = listener.local_addr().unwrap().port();
            (
                listener,
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap(),
                port,
            )
        };
        let (listener, socket, port) = namespace.run(open).unwrap();
        let (accepting, receiving) = (listener.try_clone().unwrap(), socket.try_clone().unwrap());
        let (tcp_name, udp_name) = (name.to_owned(), name.to_owned());
        let threads = vec![
            std::thread::spawn(move || {
                while let Ok((mut stream, peer)) = accepting.accept() {
                    let _ = write!(stream, "{tcp_name} {}", peer.ip());
                }
            }),
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, peer)) = receiving.recv_from(&mut buffer) {
                    if length == 0 {
                        break;
                    }
                    let _ = receiving.send_to(format!("{udp_name} {}", peer.ip()).as_bytes(), peer);
                }
            }),
        ];
        Self {
            name: name.to_owned(),
            port,
            listener,
            socket,
            threads,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes both threads: accept fails, and receive returns a length of zero.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which server it was.
    pub server: String,
    /// From which address it saw the question come.
    pub seen_from: IpAddr,
}

impl Answer {
    fn parse(text: &str) -> std::io::Result<Self> {
        let parse = || {
            let (server, address) = text.split_once(' ')?;
            Some(Self {
                server: server.to_owned(),
                seen_from: address.parse().ok()?,
            })
        };
        parse().ok_or_else(|| std::io::Error::other(format!("odd answer {text:?}")))
    }
}

/// Connects from the namespace and reads the answer.
pub fn ask_tcp(from: &NetNamespace, address: Ipv4Addr, port: u16) -> std::io::Result<Answer> {
    ask_tcp_within(from, address, port, PATIENCE)
}

/// The same with another patience: [`SILENCE`] where no answer is expected.
pub fn ask_tcp_within(
    from: &NetNamespace,
    address: Ipv4Addr,
    port: u16,
    patience: Duration,
) -> std::io::Result<Answer> {
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((address, port)), patience);
    read_answer(from.run(connect).unwrap()?, patience)
}

/// Connects from a certain address of the namespace and reads the answer.
pub fn ask_tcp_as(
    from: &NetNamespace,
    source: Ipv4Addr,
    address: Ipv4Addr,
    port: u16,
    patience: Duration,
) -> std::io::Result<Answer> {
    let stream = from
        .run(|| {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
            rustix::net::connect(&socket, &SocketAddrV4::new(address, port))?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        })
        .unwrap()?;
    read_answer(stream, patience)
}

/// A packet that had to be sent again is a failure: the first one was lost.
fn read_answer(mut stream: TcpStream, patience: Duration) -> std::io::Result<Answer> {
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match cloudeck_net::tcp::sent_again(&stream)? {
        0 => Answer::parse(&text),
        count => Err(std::io::Error::other(format!(
            "{count} packets were lost before the answer {text:?}"
        ))),
    }
}

/// Sends a datagram from the namespace and reads the answer.
pub fn ask_udp(from: &NetNamespace, address: Ipv4Addr, port: u16) -> std::io::Result<Answer> {
    ask_udp_over(&udp_client(from), address, port)
}

/// A socket to ask with again and again from the same port.
pub fn udp_client(from: &NetNamespace) -> UdpSocket {
    let socket = from
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram and reads the answer.
pub fn ask_udp_over(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> std::io::Result<Answer> {
    // Connected, so that a rejection is told.
    socket.connect((address, port))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Answer::parse(&String::from_utf8_lossy(&buffer[..length]))
}
