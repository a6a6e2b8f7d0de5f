//! Settings and figures of single TCP connections.
#![allow(unsafe_code, reason = "rustix does not know TCP_INFO")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::sockopt::set_tcp_congestion;

/// Sends by the kernel's ordinary rules on a connection that does not leave the machine.
///
/// Where the machine's default is BBR (`net.ipv4.tcp_congestion_control`), it paces what it sends after a model of the
/// path. There is none between two processes of one machine: lists of 7 MB take a third longer, and lose what the model
/// sends too fast. Connections to elsewhere keep the machine's choice.
///
/// # Errors
/// If the kernel has no `cubic`. The connection works as before.
pub fn prefer_local(stream: impl AsFd, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local.ip() == peer.ip() || peer.ip().is_loopback() {
        set_tcp_congestion(stream, "cubic")?;
    }
    Ok(())
}

/// How many segments of this side were sent again so far, the first one included: each time because no answer came.
///
/// # Errors
/// If it is no TCP socket.
pub fn sent_again(stream: impl AsFd) -> io::Result<u32> {
    // SAFETY: all fields are integers, for which zeros are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: there is room for `length` bytes, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(info.tcpi_total_retrans)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::tcp_congestion;

    use super::*;

    #[test]
    fn a_connection_that_nothing_was_lost_of_sent_nothing_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(sent_again(&stream).unwrap(), 0);
        assert!(sent_again(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_connection_within_the_machine_is_not_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_tcp_congestion(&stream, "reno").unwrap();
        let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        prefer_local(&stream, local, "192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(tcp_congestion(&stream).unwrap(), "reno");
        prefer_local(&stream, local, peer).unwrap();
        assert_eq!(tcp_congestion(&stream).unwrap(), "cubic");
    }
}
