//! What differs from kind to kind on the server: defaulting, preparation, validation, selectable fields, Table columns.
//!
//! A [`Strategy`] is a row of plain functions over the value tree; the generic engine calls them and knows no kind.
//! Values arrive normalised by the schema. Everything here is pure: no clock, no look-ups, no I/O.
//! Knows nothing of storage, of requests or of other objects than the one at hand; metadata common to all kinds is
//! checked by the server. Start reading at [`strategy`] in `kinds.rs`; each kind has a module with the same parts:
//! defaults, what is prepared, validation, rows.
//! Kinds without a row of their own get [`Strategy::GENERIC`], whose rules all come from the schema.

use cloudeck_machinery::{Cause, Value};
use compact_str::CompactString;

mod check;
mod cluster;
mod config;
#[cfg(test)]
mod expect;
mod fill;
mod kinds;
mod listing;
mod network;
mod node;
mod node_labels;
mod pod;
mod rbac;
mod resource_name;
mod scaling;
mod service;
mod storage;
pub mod table;
mod workload;

pub use cluster::strict_event;
pub use kinds::strategy;
pub use table::{Column, TableRow};

/// The selectable fields of an object and their values.
pub type SelectableFields = Box<[(&'static str, CompactString)]>;

/// The rules of one kind.
pub struct Strategy {
    /// Sets upstream's defaults (`SetDefaults_*`) on a new or updated object, in place.
    pub default: fn(&mut Value),
    /// Clears or sets what a client may not choose at creation (`PrepareForCreate`), beyond the generic rules
    /// (status dropped, generation 1).
    pub prepare_create: fn(&mut Value),
    /// The same for an update (`PrepareForUpdate`): `(new, old)`.
    pub prepare_update: fn(&mut Value, &Value),
    /// Errors of a new object, in field order.
    pub validate_create: fn(&Value) -> Vec<Cause>,
    /// Errors of an update `(new, old)`, in field order; includes the create rules that upstream repeats.
    pub validate_update: fn(&Value, &Value) -> Vec<Cause>,
    /// Errors of a status update `(new, old)`.
    pub validate_status_update: fn(&Value, &Value) -> Vec<Cause>,
    /// Warnings that upstream sends with a create or an update: `(new, old)`; a new object has no old one. Not asked for
    /// writes of the status alone.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Selectable fields beyond metadata.name and metadata.namespace: names in the order of [`Strategy::fields`].
    pub field_names: &'static [&'static str],
    /// Values of the selectable fields.
    pub fields: fn(&Value) -> SelectableFields,
    /// Columns of `kubectl get`, upstream's; empty means Name and Age.
    pub columns: &'static [Column],
    /// The cells of one row.
    pub row: fn(&Value, TableRow<'_>) -> Vec<Value>,
}

impl Strategy {
    /// The strategy of a kind without rules of its own.
    pub const GENERIC: Strategy = Strategy {
        default: |_| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        validate_create: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status_update: |_, _| Vec::new(),
        warnings: |_, _| Vec::new(),
        field_names: &[],
        fields: |_| Box::default(),
        columns: &[],
        row: table::name_and_age,
    };
}

#[cfg(test)]
mod tests;
