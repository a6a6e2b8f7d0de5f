//! Pod network: routed veth pairs, addresses, masquerade.
