//! The datastore: etcd semantics over memory or an embedded log.
