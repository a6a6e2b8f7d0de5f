//! Plain requests from a machine's network.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use cloudeck_net::NetNamespace;

/// No answer came.
pub type HttpError = std::io::Error;

/// The body of what `GET /` answers.
///
/// # Errors
/// When nobody answers within ten seconds, which are for slow machines, or not with 200.
pub fn get(network: &NetNamespace, address: Ipv4Addr, port: u16) -> Result<String, HttpError> {
    const LIMIT: Duration = Duration::from_secs(10);
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(HttpError::other(format!("odd answer {text:?}"))),
        }
    };
    network.run(ask).map_err(HttpError::other)?
}
