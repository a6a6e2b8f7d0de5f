//! The seam: how a request reaches the server and what comes back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use cloudeck_machinery::{Object, Status};
use futures_util::Stream;

/// A boxed future, for object-safe asynchronous traits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries requests under one identity.
///
/// Implementations: in-process (the API server's), TLS (this crate's), fault-injecting (simulation).
pub trait Transport: Send + Sync + 'static {
    /// Any verb but watch.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>>;

    /// Opens a watch. The stream ends when the server closes it; an `Error` event is the last.
    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>>;
}

use crate::request::Request;

/// What the server answers.
#[derive(Debug, Clone)]
pub enum Response {
    /// One object; `created` tells 201 from 200.
    Object {
        object: Arc<Object>,
        created: bool,
    },
    List(ObjectList),
    /// Anything else that is JSON without being a stored object: a review, a `Status` of success, a scale.
    Json {
        bytes: Bytes,
        code: u16,
    },
}

impl Response {
    pub fn into_object(self) -> Result<Arc<Object>, Status> {
        match self {
            Self::Object { object, .. } => Ok(object),
            Self::Json { bytes, .. } => Object::from_json(bytes).map(Arc::new).map_err(Status::internal),
            Self::List(_) => Err(Status::internal(
                "the server answered a list where one object was expected",
            )),
        }
    }

    pub fn into_list(self) -> Result<ObjectList, Status> {
        match self {
            Self::List(list) => Ok(list),
            _ => Err(Status::internal(
                "the server answered one object where a list was expected",
            )),
        }
    }

    /// The JSON bytes of a single answer.
    pub fn into_json(self) -> Result<Bytes, Status> {
        match self {
            Self::Object { object, .. } => Ok(object.json.clone()),
            Self::Json { bytes, .. } => Ok(bytes),
            Self::List(_) => Err(Status::internal(
                "the server answered a list where one object was expected",
            )),
        }
    }
}

/// A list's own metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMeta {
    pub revision: u64,
    /// Empty when the list is complete.
    pub continue_token: String,
    pub remaining_item_count: Option<i64>,
}

/// A list, or one chunk of it.
#[derive(Debug, Clone, Default)]
pub struct ObjectList {
    pub items: Vec<Arc<Object>>,
    pub meta: ListMeta,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    Added(Arc<Object>),
    Modified(Arc<Object>),
    /// The previous object with the event's revision.
    Deleted(Arc<Object>),
    /// The revision reached; `initial_events_end` marks the end of a WatchList's initial events.
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    /// The last event of a failing watch, often 410.
    Error(Status),
}

/// A stream of events in revision order.
pub type WatchStream = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;
