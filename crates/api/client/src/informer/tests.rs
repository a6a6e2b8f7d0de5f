use std::collections::VecDeque;
use std::sync::Mutex as StdMutex;

use bytes::Bytes;
use cloudeck_machinery::{Reason, Status};
use futures_util::stream;

use super::*;
use crate::transport::BoxFuture;
use crate::{Request, Response, Transport, WatchEvent, WatchStream};

/// Plays one prepared stream per watch, then streams that never speak.
struct Script {
    watches: StdMutex<VecDeque<Vec<WatchEvent>>>,
    asked: StdMutex<Vec<Request>>,
}

impl Transport for Script {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async { Err(Status::internal("only watches are scripted")) })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        lock(&self.asked).push(request);
        let events = lock(&self.watches).pop_front();
        Box::pin(async move {
            Ok(match events {
                Some(events) => Box::pin(stream::iter(events)) as WatchStream,
                None => Box::pin(stream::pending()),
            })
        })
    }
}

fn object(name: &str, revision: u64) -> Arc<Object> {
    let json =
        format!(r#"{{"metadata":{{"name":"{name}","namespace":"n","resourceVersion":"{revision}"}}}}"#);
    Arc::new(Object::from_json(Bytes::from(json)).unwrap())
}

fn end(revision: u64) -> WatchEvent {
    WatchEvent::Bookmark {
        revision,
        initial_events_end: true,
    }
}

fn start(watches: Vec<Vec<WatchEvent>>) -> (Informer, Arc<Script>, Scope) {
    let script = Arc::new(Script {
        watches: StdMutex::new(watches.into()),
        asked: StdMutex::default(),
    });
    let scope = Scope::root("test");
    let client = Client::new(Arc::clone(&script) as Arc<dyn Transport>);
    let informer = Informer::start(&scope, client, InformerConfig::all("", "v1", "pods"));
    (informer, script, scope)
}

#[tokio::test(start_paused = true)]
async fn initial_events_fill_the_cache_and_changes_follow() {
    let events = vec![
        WatchEvent::Added(object("a", 1)),
        end(5),
        WatchEvent::Added(object("b", 6)),
        WatchEvent::Deleted(object("a", 7)),
    ];
    let (informer, _, _scope) = start(vec![events]);
    let mut changes = informer.subscribe();
    informer.synced().await;
    let mut names = Vec::new();
    while !(informer.len() == 1 && names.len() >= 2) {
        let change = changes.next().await;
        names.push((change.key.name.to_string(), change.new.is_some()));
    }
    assert!(informer.get(&ObjectKey::new("n", "b")).is_some());
    assert!(names.contains(&("b".to_owned(), true)), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ended_watch_resumes_where_it_stopped() {
    let (informer, script, _scope) = start(vec![
        vec![
            WatchEvent::Added(object("a", 1)),
            end(5),
            WatchEvent::Bookmark {
                revision: 9,
                initial_events_end: false,
            },
        ],
        vec![WatchEvent::Added(object("b", 10))],
    ]);
    let mut changes = informer.subscribe();
    while informer.len() < 2 {
        changes.next().await;
    }
    let asked = lock(&script.asked);
    assert_eq!(asked[1].params.resource_version, "9");
    assert_eq!(asked[1].params.send_initial_events, None);
}

#[tokio::test(start_paused = true)]
async fn after_410_the_cache_is_made_anew_and_vanished_objects_are_told() {
    let (informer, _, _scope) = start(vec![
        vec![
            WatchEvent::Added(object("a", 1)),
            end(5),
            WatchEvent::Error(Status::new(Reason::Expired, "too old resource version")),
        ],
        vec![WatchEvent::Added(object("b", 20)), end(21)],
    ]);
    let mut changes = informer.subscribe();
    while informer.get(&ObjectKey::new("n", "b")).is_none() || informer.len() != 1 {
        changes.next().await;
    }
}

#[tokio::test]
async fn a_slow_subscriber_sees_one_coalesced_change_per_object() {
    let (informer, _, _scope) = start(vec![]);
    let mut changes = informer.subscribe();
    informer.set(object("a", 1));
    informer.set(object("a", 2));
    let change = changes.next().await;
    assert!(change.old.is_none());
    assert_eq!(change.new.unwrap().revision, 2);
    assert!(changes.try_next().is_none());
}

/// One watch whose events the test gives one by one.
struct Spoken(StdMutex<Option<tokio::sync::mpsc::Receiver<WatchEvent>>>);

impl Transport for Spoken {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async { Err(Status::internal("there are only watches")) })
    }

    fn watch(&self, _: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        let mut events = lock(&self.0).take().expect("one watch");
        let events = stream::poll_fn(move |context| events.poll_recv(context));
        Box::pin(async move { Ok(Box::pin(events) as WatchStream) })
    }
}

#[tokio::test]
async fn an_absence_amid_initial_events_is_no_loss() {
    let (say, events) = tokio::sync::mpsc::channel(8);
    let scope = Scope::root("test");
    let client = Client::new(Arc::new(Spoken(StdMutex::new(Some(events)))) as Arc<dyn Transport>);
    let informer = Informer::start(&scope, client, InformerConfig::all("", "v1", "pods"));
    let mut changes = informer.subscribe();
    // They come in the order of names: `p`, older than `a`, may be among those that follow.
    say.send(WatchEvent::Added(object("a", 20))).await.unwrap();
    changes.next().await;
    let key = ObjectKey::new("n", "p");
    assert!(!informer.has_lost(&key, 10));
    say.send(end(21)).await.unwrap();
    informer.synced().await;
    assert!(informer.has_lost(&key, 10));
    assert!(!informer.has_lost(&key, 22), "it may still come");
    assert!(!informer.has_lost(&ObjectKey::new("n", "a"), 20));
}
