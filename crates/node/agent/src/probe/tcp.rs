//! TCP checks: the port accepts a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::Verdict;

pub(super) async fn check(host: Option<String>, port: Option<u16>, limit: Duration) -> Verdict {
    let (Some(host), Some(port)) = (host, port) else {
        return Verdict::Failed(
            "the probe names no port of the container, or the pod has no address".to_owned(),
        );
    };
    let address = if host == "localhost" {
        Ok(IpAddr::from([127, 0, 0, 1]))
    } else {
        host.parse()
    };
    let Ok(address) = address else {
        return Verdict::Failed(format!("the probe's host {host:?} is not an address"));
    };
    let target = SocketAddr::new(address, port);
    match tokio::time::timeout(limit, TcpStream::connect(target)).await {
        Ok(Ok(_)) => Verdict::Passed,
        Ok(Err(error)) => Verdict::Failed(format!("dial tcp {target}: {error}")),
        Err(_) => Verdict::Failed(format!("dial tcp {target}: i/o timeout")),
    }
}
