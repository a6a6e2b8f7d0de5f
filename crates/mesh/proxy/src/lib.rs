//! Service proxy on nftables.
