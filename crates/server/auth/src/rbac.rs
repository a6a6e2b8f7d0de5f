//! Role-based access control: rules, the index of who has them, and what follows from having them.
//!
//! Start reading at [`RbacIndex`].

mod cluster_roles;
mod escalation;
mod index;
mod rule;

pub(crate) use cluster_roles::ClusterRoles;
pub use escalation::{GrantCheck, GrantError, check_grant};
pub use index::{RbacIndex, RoleRef};
pub use rule::PolicyRule;
pub(crate) use rule::uncovered;
