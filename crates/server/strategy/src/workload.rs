//! Kinds that make pods from a template.

mod cron;
mod defaults;
mod indexes;
mod job;
mod row;
mod sets;
mod validate;
mod warnings;

use compact_str::ToCompactString;

pub(crate) use validate::{amount, plain};

use crate::Strategy;

pub(crate) const DEPLOYMENT: Strategy = Strategy {
    default: defaults::deployment,
    prepare_update: defaults::annotations_raise_generation,
    validate_create: validate::deployment,
    validate_update: validate::deployment_update,
    validate_status_update: validate::deployment_status,
    warnings: warnings::naming_template,
    columns: row::DEPLOYMENT,
    row: row::deployment,
    ..Strategy::GENERIC
};

pub(crate) const REPLICA_SET: Strategy = Strategy {
    default: defaults::replica_set,
    validate_create: validate::replica_set,
    validate_update: validate::replica_set_update,
    validate_status_update: validate::replica_set_status,
    warnings: warnings::naming_template,
    columns: row::REPLICAS,
    row: row::replica_set,
    ..Strategy::GENERIC
};

pub(crate) const STATEFUL_SET: Strategy = Strategy {
    default: defaults::stateful_set,
    validate_create: sets::stateful_set,
    validate_update: sets::stateful_set_update,
    validate_status_update: sets::stateful_set_status,
    warnings: warnings::stateful_set,
    columns: row::STATEFUL_SET,
    row: row::stateful_set,
    ..Strategy::GENERIC
};

pub(crate) const DAEMON_SET: Strategy = Strategy {
    default: defaults::daemon_set,
    prepare_create: defaults::first_template_generation,
    prepare_update: defaults::raise_template_generation,
    validate_create: sets::daemon_set,
    validate_update: sets::daemon_set_update,
    validate_status_update: sets::daemon_set_status,
    warnings: warnings::daemon_set,
    columns: row::DAEMON_SET,
    row: row::daemon_set,
    ..Strategy::GENERIC
};

pub(crate) const REPLICATION_CONTROLLER: Strategy = Strategy {
    default: defaults::replication_controller,
    field_names: &["status.replicas"],
    fields: |controller| {
        let replicas = controller.int_at(&["status", "replicas"]).unwrap_or(0);
        Box::new([("status.replicas", replicas.to_compact_string())])
    },
    validate_create: validate::replication_controller,
    validate_update: |new, _| validate::replication_controller(new),
    warnings: warnings::naming_template,
    columns: row::REPLICAS,
    row: row::replication_controller,
    ..Strategy::GENERIC
};

pub(crate) const CONTROLLER_REVISION: Strategy = Strategy {
    validate_create: sets::revision,
    validate_update: sets::revision_update,
    columns: row::REVISION,
    row: row::revision,
    ..Strategy::GENERIC
};

pub(crate) const JOB: Strategy = Strategy {
    default: defaults::job,
    prepare_create: defaults::job_selector,
    field_names: &["status.successful"],
    fields: |job| {
        let succeeded = job.int_at(&["status", "succeeded"]).unwrap_or(0);
        Box::new([("status.successful", succeeded.to_compact_string())])
    },
    validate_create: job::create,
    validate_update: job::update,
    validate_status_update: job::status,
    warnings: warnings::job,
    columns: row::JOB,
    row: row::job,
    ..Strategy::GENERIC
};

pub(crate) const CRON_JOB: Strategy = Strategy {
    default: defaults::cron_job,
    validate_create: cron::create,
    validate_update: cron::update,
    warnings: warnings::cron_job,
    columns: row::CRON_JOB,
    row: row::cron_job,
    ..Strategy::GENERIC
};
