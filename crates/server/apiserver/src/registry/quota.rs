//! Quotas: a write and what it costs are stored in one transaction.
//!
//! Upstream updates the quotas' status first, which leaks usage when the write fails afterwards, until a controller counts
//! anew. Here neither happens without the other. Writers of one namespace with a quota exclude each other; whoever loses
//! reads the quota again.

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_admission::{Charge, Operation};
use cloudeck_engine::Txn;
use cloudeck_machinery::{Object, ObjectKey, Status, Value};

use super::commit::{self, Expect, Refusal};
use super::{Call, admit};
use crate::kinds::Kind;

/// How often a write is tried anew when the quota's usage changed meanwhile: as many writers may come together.
const ATTEMPTS: usize = 256;

/// Refuses what a quota has not left, and charges nothing.
pub(crate) fn check(
    call: &Call<'_>,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    admit::charge(call, operation, new, old).map(|_| ())
}

/// As [`commit::put`], together with what the write costs the quotas of its namespace.
pub(crate) async fn put(
    call: &Call<'_>,
    kind: &Kind,
    key: &ObjectKey,
    new: &mut Value,
    old: Option<&Value>,
    expect: Expect,
    base: Txn,
) -> Result<Arc<Object>, Refusal> {
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    for _ in 0..ATTEMPTS {
        let charges = admit::charge(call, operation, new, old)?;
        if charges.is_empty() {
            return commit::put(call.core, kind, key, new, expect, base).await;
        }
        let txn = with_charges(call, base.clone(), &charges);
        let written = commit::put(call.core, kind, key, &mut new.clone(), expect, txn).await;
        match written {
            Err(Refusal::Changed) if is_as_expected(kind, key, expect) && is_stale(call, &charges) => {}
            other => return other,
        }
    }
    let why = "the usage of a quota changes faster than the object can be written";
    Err(Status::conflict(kind.group(), kind.plural(), &key.name, why).into())
}

fn with_charges(call: &Call<'_>, mut txn: Txn, charges: &[Charge]) -> Txn {
    let quotas = call.core.stored("", "resourcequotas");
    for Charge { quota, used } in charges {
        let mut tree = quota.tree().clone();
        tree.set_at(&["status", "used"], used.clone());
        let store_key = Bytes::from(quotas.key(&quota.key.namespace, &quota.key.name));
        let value = commit::encode(quotas, &mut tree);
        txn = commit::expecting(txn, &store_key, Expect::At(quota.revision)).put(store_key, value);
    }
    txn
}

/// Whether it was not the object itself that somebody else was faster with.
fn is_as_expected(kind: &Kind, key: &ObjectKey, expect: Expect) -> bool {
    let present = kind.cache.get(&key.namespace, &key.name);
    match expect {
        Expect::Absent => present.is_none(),
        Expect::At(revision) => present.is_some_and(|object| object.revision == revision),
    }
}

fn is_stale(call: &Call<'_>, charges: &[Charge]) -> bool {
    let quotas = call.core.stored("", "resourcequotas");
    charges.iter().any(|charge| {
        let key = &charge.quota.key;
        let present = quotas.cache.get(&key.namespace, &key.name);
        present.is_none_or(|present| present.revision != charge.quota.revision)
    })
}
