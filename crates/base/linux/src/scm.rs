//! Bytes and descriptors over a Unix stream socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Most descriptors that one message may carry here.
pub const MAX_FDS: usize = 8;

// Room for one header and MAX_FDS numbers, aligned for the header.
type Control = [u64; 8];
const _: () = assert!(size_of::<Control>() >= 16 + MAX_FDS * 4);

/// Sends the beginning of `bytes`, with `fds` attached to its first byte. Returns how many bytes went.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control: Control = [0; 8];
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let length = size_of_val(fds) as u32;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic; CMSG_FIRSTHDR points into `control`, which has the room
        // (asserted above) for the header and the numbers.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            let numbers = libc::CMSG_DATA(header);
            for (index, fd) in fds.iter().enumerate() {
                let number = fd.as_raw_fd().to_ne_bytes();
                numbers
                    .add(index * 4)
                    .copy_from_nonoverlapping(number.as_ptr(), 4);
            }
        }
    }
    // SAFETY: everything the message points to lives across the call.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    check(sent as i64).map(|sent| sent as usize)
}

/// Receives into `buffer`; descriptors that came along are appended to `fds`. `Ok(0)`: the other side has closed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control: Control = [0; 8];
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: everything the message points to lives across the call.
    let got = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_CMSG_CLOEXEC,
        )
    };
    let got = check(got as i64)?;
    // SAFETY: the kernel has filled `control` with well-formed headers; the descriptors in it are fresh and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(header);
                for index in 0..bytes / 4 {
                    let mut number = [0; 4];
                    numbers
                        .add(index * 4)
                        .copy_to_nonoverlapping(number.as_mut_ptr(), 4);
                    fds.push(OwnedFd::from_raw_fd(i32::from_ne_bytes(number)));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(got as usize)
}

/// A pair of connected sockets that keep messages apart, close-on-exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for the two descriptors.
    check(i64::from(unsafe {
        libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr())
    }))?;
    // SAFETY: both are fresh and owned by nobody.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The pid of the process that connected (or listened) at the other end.
pub fn peer_pid(socket: impl AsFd) -> io::Result<i32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most one ucred.
    check(i64::from(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    }))?;
    Ok(peer.pid)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_with_the_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        send(&a, b"hello", &[reader.as_fd()]).unwrap();
        drop(reader);
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(receive(&b, &mut buffer, &mut fds).unwrap(), 5);
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(fds.pop().unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_full_number_of_descriptors_fits() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = std::fs::File::open("/dev/null").unwrap();
        file.rewind().unwrap();
        let fds: Vec<_> = (0..MAX_FDS).map(|_| file.as_fd()).collect();
        send(&a, b"x", &fds).unwrap();
        let mut got = Vec::new();
        receive(&b, &mut [0; 1], &mut got).unwrap();
        assert_eq!(got.len(), MAX_FDS);
    }
}
