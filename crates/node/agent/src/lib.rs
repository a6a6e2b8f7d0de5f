//! The node agent: what upstream calls the kubelet.
//!
//! Pods bound to this node arrive by watch; each gets a worker ([`pod::worker`]) that decides with a pure function and
//! acts through the runtime, the image store and the pod network; statuses go back as patches. Containers do not depend
//! on this process: after a restart what runs is found again ([`pod::adopt`]).
//!
//! Absences: no polling of containers (ends come as events); no access to the API but through `cloudeck_client` under
//! the node's own identity; knows nothing of Services beyond their variables.
//!
//! Start reading at [`start`], then [`pod::decide`].

mod admission;
mod config;
mod config_objects;
mod env;
mod etc_files;
mod hooks;
mod logs;
mod machine;
mod manager;
mod node;
pub mod pod;
mod probe;
mod pulling;
mod registration;
mod server;
mod service;
mod signals;
mod termination;
mod tokens;
mod volumes;

pub use config::AgentConfig;
pub use server::{NodeAttributes, ServerConfig, StartServerError};
pub use service::{Agent, AgentDeps, StartAgentError, start};
