use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{
    Client, InformerConfig, Request, Response, Subscription, Transport, WatchEvent, WatchStream,
};
use cloudeck_machinery::Status;
use futures_util::stream;
use tokio::sync::mpsc;

use super::*;
use crate::pending::Pending;

/// A server that says what the test makes it say.
struct Told(Mutex<Option<mpsc::Receiver<WatchEvent>>>);

impl Transport for Told {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async { Err(Status::internal("there are only watches")) })
    }

    fn watch(&self, _: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        let mut events = self.0.lock().unwrap().take().expect("one watch");
        let events = stream::poll_fn(move |context| events.poll_recv(context));
        Box::pin(async move { Ok(Box::pin(events) as WatchStream) })
    }
}

/// A view whose changes the test takes in one by one.
struct Followed {
    say: mpsc::Sender<WatchEvent>,
    informer: Informer,
    view: View<Whole>,
    changes: Subscription,
    _scope: Scope,
}

impl Followed {
    async fn start() -> Self {
        let (say, events) = mpsc::channel(8);
        let scope = Scope::root("test");
        let transport = Arc::new(Told(Mutex::new(Some(events))));
        let informer = Informer::start(
            &scope,
            Client::new(transport as Arc<dyn Transport>),
            InformerConfig::all("", "v1", "pods"),
        );
        say.send(object("a", 1)).await.unwrap();
        let end = WatchEvent::Bookmark {
            revision: 2,
            initial_events_end: true,
        };
        say.send(end).await.unwrap();
        informer.synced().await;
        let view = View::new(informer.clone());
        let mut followed = Self {
            say,
            changes: informer.subscribe(),
            informer,
            view,
            _scope: scope,
        };
        followed.take();
        followed
    }

    /// Has the informer hear of all that. It has, when it holds the last.
    async fn hear(&self, events: impl IntoIterator<Item = WatchEvent>) {
        let mut changes = self.informer.subscribe();
        let mut last = 0;
        for event in events {
            if let WatchEvent::Added(object) = &event {
                last = object.revision;
            }
            self.say.send(event).await.unwrap();
        }
        while self.informer.list().iter().all(|object| object.revision != last) {
            changes.next().await;
        }
    }

    fn take(&mut self) {
        let change = self.changes.try_next().expect("there is a change");
        self.view.take(change);
    }
}

fn object(name: &str, revision: u64) -> WatchEvent {
    WatchEvent::Added(pod(name, revision))
}

fn pod(name: &str, revision: u64) -> Arc<Object> {
    let json = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","resourceVersion":"{revision}"}}}}"#
    );
    Arc::new(Object::from_json(json.into()).unwrap())
}

#[tokio::test]
async fn a_creation_still_in_the_queue_is_not_seen_however_new_what_came_before_it() {
    let mut followed = Followed::start().await;
    let pending = Pending::default();
    pending.created("owner", &pod("p", 10));
    // The queue is [a, p], and what it gives of `a` is newer than `p`.
    followed
        .hear([object("a", 5), object("p", 10), object("a", 20)])
        .await;
    followed.take();
    let key = ObjectKey::new("n", "a");
    assert_eq!(followed.view.get(&key).unwrap().object().revision, 20);
    assert!(
        !pending.is_settled("owner", &followed.view),
        "another would be made"
    );
    followed.take();
    assert!(pending.is_settled("owner", &followed.view));
}

#[tokio::test]
async fn a_creation_that_the_informer_has_not_heard_of_is_not_seen() {
    let mut followed = Followed::start().await;
    let pending = Pending::default();
    pending.created("owner", &pod("p", 10));
    followed.hear([object("a", 9)]).await;
    followed.take();
    assert!(!pending.is_settled("owner", &followed.view));
}

#[tokio::test]
async fn a_creation_that_came_and_went_unseen_is_not_waited_for() {
    let followed = Followed::start().await;
    let pending = Pending::default();
    pending.created("owner", &pod("p", 10));
    let gone = WatchEvent::Deleted(pod("p", 12));
    followed.hear([object("p", 10), gone, object("b", 13)]).await;
    assert!(pending.is_settled("owner", &followed.view));
}

/// What the index needs of an object.
struct Owned(Arc<Object>, bool);

impl Facts for Owned {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let owned = object.label("owned").is_some();
        Ok(Self(object, owned))
    }

    fn object(&self) -> &Arc<Object> {
        &self.0
    }

    fn controller_uid(&self) -> Option<&str> {
        self.1.then_some("owner")
    }
}

#[tokio::test]
async fn an_object_that_is_adopted_and_released_is_there_all_the_time() {
    const LOOKS: usize = 20_000;
    let followed = Followed::start().await;
    let view: View<Owned> = View::new(followed.informer.clone());
    let turn = |labels: &str| {
        let json = format!(r#"{{"metadata":{{"name":"p","namespace":"n",{labels}"uid":"p"}}}}"#);
        Change {
            key: ObjectKey::new("n", "p"),
            old: None,
            new: Some(Arc::new(Object::from_json(json.into()).unwrap())),
        }
    };
    let turns = [turn(""), turn(r#""labels":{"owned":""},"#)];
    view.take(turns[0].clone());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for change in turns.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                view.take(change.clone());
            }
        });
        let missed = (0..LOOKS)
            .filter(|_| view.owned_by_or_orphans("owner", "n").len() != 1)
            .count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0, "of {LOOKS} looks");
    });
}
