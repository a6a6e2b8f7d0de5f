//! An API server that says what the test tells it to, one watch per resource.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Request, Response, Transport, WatchEvent, WatchStream};
use cloudeck_machinery::{Object, Status};
use tokio::sync::mpsc;

pub(crate) struct Script {
    services: Channel,
    slices: Channel,
}

struct Channel {
    tell: mpsc::Sender<WatchEvent>,
    events: Mutex<Option<mpsc::Receiver<WatchEvent>>>,
}

impl Default for Channel {
    fn default() -> Self {
        let (tell, events) = mpsc::channel(64);
        Self {
            tell,
            events: Some(events).into(),
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        let script = Self {
            services: Channel::default(),
            slices: Channel::default(),
        };
        let end = WatchEvent::Bookmark {
            revision: 1,
            initial_events_end: true,
        };
        script.services.tell.try_send(end.clone()).unwrap();
        script.slices.tell.try_send(end).unwrap();
        script
    }
}

impl Script {
    pub(crate) async fn services(&self, event: WatchEvent) {
        self.services.tell.send(event).await.unwrap();
    }

    pub(crate) async fn slices(&self, event: WatchEvent) {
        self.slices.tell.send(event).await.unwrap();
    }
}

impl Transport for Script {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async { Err(Status::internal("only watches are scripted")) })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        let which = if request.resource.resource == "services" {
            &self.services
        } else {
            &self.slices
        };
        let events = which.events.lock().unwrap().take();
        Box::pin(async move { Ok(Box::pin(Events(events.unwrap())) as WatchStream) })
    }
}

struct Events(mpsc::Receiver<WatchEvent>);

impl futures_util::Stream for Events {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.0.poll_recv(cx)
    }
}

/// An object in the namespace `shop`.
pub(crate) fn object(name: &str, labels: &str, rest: &str) -> Arc<Object> {
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","resourceVersion":"9","labels":{labels}}},{rest}}}"#
    );
    Arc::new(Object::from_json(json.into()).unwrap())
}
