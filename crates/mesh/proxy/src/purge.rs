//! Removing the table, with no daemon alive.

use cloudeck_net::nftables::{Batch, NftSocket};
use cloudeck_net::{NetNamespace, NetlinkError};
use rustix::io::Errno;

use crate::config;
use crate::error::ProxyApplyError;

/// Removes the instance's table. What is gone already is no error.
///
/// # Blocking
/// Some milliseconds with thousands of Services.
pub fn purge(instance: &str, namespace: Option<&NetNamespace>) -> Result<(), ProxyApplyError> {
    let table = config::table_of(instance);
    let remove = || -> Result<(), NetlinkError> {
        let mut nft = namespace.map_or_else(NftSocket::open, NftSocket::open_in)?;
        let mut batch = Batch::new();
        batch.delete_table(&table);
        match nft.commit(batch) {
            Err(error) if error.refusal() == Some(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    };
    remove().map_err(|source| ProxyApplyError::Purge {
        table: table.clone(),
        source,
    })
}
