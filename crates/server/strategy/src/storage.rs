//! Volumes, claims and their classes.

mod row;
mod validate;
mod warnings;

use cloudeck_machinery::{Value, value};

use crate::pod::defaults::claim_spec;
use crate::{Strategy, fill};

pub(crate) use validate::claim_spec as check_claim_spec;
pub(crate) use warnings::claim_spec as claim_spec_warnings;

pub(crate) const PERSISTENT_VOLUME: Strategy = Strategy {
    default: volume_defaults,
    prepare_create: |volume| {
        volume.set_at(&["status"], value!({"phase": "Pending"}));
    },
    validate_create: validate::volume,
    validate_update: validate::volume_update,
    warnings: warnings::volume,
    columns: row::VOLUME,
    row: row::volume,
    ..Strategy::GENERIC
};

pub(crate) const PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    default: |claim| {
        if let Some(spec) = fill::made(claim, "spec") {
            claim_spec(spec);
        }
        if let Some(status) = fill::made(claim, "status") {
            fill::text(status, "phase", "Pending");
        }
    },
    prepare_create: |claim| {
        claim.set_at(&["status"], value!({"phase": "Pending"}));
    },
    validate_create: validate::claim,
    validate_update: validate::claim_update,
    warnings: warnings::claim,
    columns: row::CLAIM,
    row: row::claim,
    ..Strategy::GENERIC
};

pub(crate) const STORAGE_CLASS: Strategy = Strategy {
    default: |class| {
        fill::absent(class, "reclaimPolicy", || "Delete".into());
        fill::absent(class, "volumeBindingMode", || "Immediate".into());
    },
    validate_create: validate::class,
    validate_update: |new, _| validate::class(new),
    warnings: warnings::class,
    columns: row::CLASS,
    row: row::class,
    ..Strategy::GENERIC
};

pub(crate) const CSI_DRIVER: Strategy = Strategy {
    default: driver_defaults,
    warnings: warnings::driver,
    columns: row::DRIVER,
    row: row::driver,
    ..Strategy::GENERIC
};

fn volume_defaults(volume: &mut Value) {
    if let Some(status) = fill::made(volume, "status") {
        fill::text(status, "phase", "Pending");
    }
    if let Some(spec) = fill::made(volume, "spec") {
        fill::text(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill::absent(spec, "volumeMode", || "Filesystem".into());
        fill::round_resources(spec, "capacity");
        if let Some(path) = fill::member(spec, "hostPath") {
            fill::absent(path, "type", || "".into());
        }
    }
}

fn driver_defaults(driver: &mut Value) {
    let Some(spec) = fill::made(driver, "spec") else {
        return;
    };
    fill::absent(spec, "attachRequired", || true.into());
    for flag in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
        "preventPodSchedulingIfMissing",
    ] {
        fill::absent(spec, flag, || false.into());
    }
    fill::absent(spec, "fsGroupPolicy", || "ReadWriteOnceWithFSType".into());
    if spec.items_at(&["volumeLifecycleModes"]).is_empty() {
        spec.set_at(&["volumeLifecycleModes"], value!(["Persistent"]));
    }
}
