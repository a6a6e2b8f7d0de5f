//! The datastore from outside: one suite for every implementation, faults and kills for the embedded one.

mod crash;
mod faults;
mod model;
mod subject;
mod suite;
