//! Netlink sockets, address helpers and name resolution without NSS.
