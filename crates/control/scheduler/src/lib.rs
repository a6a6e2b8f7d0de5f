//! The scheduler: a pure core and its loop.
