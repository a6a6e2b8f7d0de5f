//! The datastore from outside: one suite for every implementation, faults and kills for the embedded one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod crash;
mod faults;
mod model;
mod subject;
mod suite;
mod turns;
