//! What single kinds mean to more than one layer: how much a pod asks for, which class it is in, what a quota counts,
//! which kernel settings concern the pod alone. The server refuses by these rules and controllers and nodes act by
//! them, so they stand once.
//!
//! Pure functions over [`cloudeck_machinery::Value`]. Knows nothing of storage, requests or clocks; what only the server
//! needs of a kind is in `cloudeck-strategy`. Start reading at [`quota`] and [`amounts`].

pub mod amounts;
pub mod qos;
pub mod quota;
pub mod sysctl;
