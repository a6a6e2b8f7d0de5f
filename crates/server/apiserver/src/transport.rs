//! The in-process transport: the server's own objects, under a component's identity.

use std::sync::Arc;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Request, Response, Transport, WatchEvent, WatchStream};
use cloudeck_machinery::Status;
use futures_util::stream;

use crate::cache::event::EventType;
use crate::cache::watcher::{Delivery, Watcher};
use crate::kinds::View;
use crate::server::Server;

/// Calls the server without a socket. Only this process can make one, and it says who it is by a type that no network
/// request can construct; from there on the way is that of every request.
pub(crate) struct InProcess {
    server: Server,
    identity: LocalIdentity,
    agent: String,
}

impl InProcess {
    pub(crate) fn new(server: Server, identity: LocalIdentity, agent: &str) -> Self {
        Self {
            server,
            identity,
            agent: agent.to_owned(),
        }
    }
}

impl Transport for InProcess {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let answer = self
                .server
                .handle(self.identity.user(), &self.agent, &request)
                .await?;
            Ok(answer.response)
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let (view, watcher) = self
                .server
                .watch(self.identity.user(), &self.agent, &request)
                .await?;
            let events = stream::unfold((view, watcher), next);
            Ok(Box::pin(events) as WatchStream)
        })
    }
}

async fn next((view, mut watcher): (Arc<View>, Watcher)) -> Option<(WatchEvent, (Arc<View>, Watcher))> {
    let event = match watcher.next().await? {
        Delivery::Object { kind, object, .. } => {
            let object = view.present(&object);
            match kind {
                EventType::Added => WatchEvent::Added(object),
                EventType::Modified => WatchEvent::Modified(object),
                EventType::Deleted => WatchEvent::Deleted(object),
            }
        }
        Delivery::Bookmark {
            revision,
            initial_events_end,
        } => WatchEvent::Bookmark {
            revision,
            initial_events_end,
        },
        Delivery::Error(status) => WatchEvent::Error(status),
    };
    Some((event, (view, watcher)))
}
