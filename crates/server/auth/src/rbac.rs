//! Role-based access control: rules, the index of who has them, and what follows from having them.
//!
//! Start reading at [`RbacIndex`].

mod aggregate;
mod escalation;
mod index;
mod rule;

pub use aggregate::{aggregate_rules, selects_role};
pub use escalation::{GrantCheck, GrantError, check_grant};
pub use index::{RbacIndex, RoleRef};
pub use rule::PolicyRule;
pub(crate) use rule::uncovered;
