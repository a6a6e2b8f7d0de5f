//! Who a request comes from, and what it may do.
//!
//! The order of trust: [`Authenticator`] (client certificate, bearer token, front proxy, anonymous) → [`impersonate`] →
//! [`ClusterAuthorizer`] (`system:masters`, Node, RBAC; a request that none of them allows is refused). [`TokenIssuer`]
//! makes and checks the tokens of service accounts; [`review`] answers the access and token reviews; [`bootstrap`] holds
//! the default roles.
//!
//! Absences: no socket, no store, no clock (callers pass `now`). Other objects are read through [`ObjectReader`], which
//! the API server implements on its watch caches; role and pod changes are fed in by [`ClusterAuthorizer::observe`].
//!
//! Start reading at [`ClusterAuthorizer`].

mod attributes;
mod authenticate;
pub mod bootstrap;
mod chain;
mod go_format;
mod impersonate;
mod node;
pub mod rbac;
mod reader;
pub mod review;
mod token;
mod user;

pub use attributes::{Attributes, Authorizer, Decision, Verdict, forbidden};
pub use authenticate::{AuthenticationError, Authenticator, Peer};
pub use chain::{ClusterAuthorizer, Watched};
pub use impersonate::impersonate;
pub use node::{NodeGraph, named_by_pod};
pub use reader::ObjectReader;
pub use token::{TokenIssuer, TokenIssuerConfig, TokenRefusal, VerifiedToken};
pub use user::{LocalIdentity, UserInfo, groups};
