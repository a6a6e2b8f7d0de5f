//! What an object is: the value tree and its JSON form, names of kinds and resources, the cached object, `Status`.
//!
//! Pure data and pure functions. Knows nothing of storage, sockets, or any particular kind.
//! Start reading at [`Value`] and [`Object`].

pub mod int_or_percent;
pub mod json;
pub mod names;
pub mod object;
pub mod path;
pub mod quantity;
pub mod quote;
pub mod selector;
pub mod status;
pub mod time;
pub mod value;
pub mod yaml;

pub use object::{GroupVersionKind, GroupVersionResource, Object, ObjectKey};
pub use path::FieldPath;
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, CauseType, Reason, Status};
pub use time::{MicroTime, Time};
pub use value::{Key, Map, Value};
