use std::sync::Mutex as StdMutex;

use bytes::Bytes;
use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Request, Response, Transport, Verb, WatchStream};
use cloudeck_machinery::{Status, json};

use super::*;

/// Accepts everything and remembers it.
#[derive(Default)]
struct Accepting {
    requests: StdMutex<Vec<Request>>,
    arrived: tokio::sync::Notify,
}

impl Transport for Accepting {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        self.requests.lock().unwrap().push(request);
        self.arrived.notify_one();
        let object = Object::from_json(Bytes::from_static(b"{}")).unwrap();
        Box::pin(async move {
            Ok(Response::Object {
                object: Arc::new(object),
                created: true,
            })
        })
    }

    fn watch(&self, _: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async { Err(Status::internal("no watches here")) })
    }
}

#[tokio::test]
async fn equal_events_are_counted_and_different_ones_created() {
    let server = Arc::new(Accepting::default());
    let scope = Scope::root("test");
    let recorder = EventRecorder::start(
        &scope,
        Client::new(Arc::clone(&server) as Arc<dyn Transport>),
        "kubelet",
        "node-1",
    );
    let pod = ObjectReference {
        kind: "Pod".into(),
        namespace: "n".into(),
        name: "p".into(),
        ..ObjectReference::default()
    };
    recorder.event(pod.clone(), EventType::Warning, "BackOff", "back-off");
    recorder.event(
        ObjectReference {
            resource_version: "9".into(),
            ..pod.clone()
        },
        EventType::Warning,
        "BackOff",
        "back-off",
    );
    recorder.event(pod, EventType::Normal, "Pulled", "pulled");
    while server.requests.lock().unwrap().len() < 3 {
        server.arrived.notified().await;
    }
    let requests = server.requests.lock().unwrap();
    let verbs: Vec<Verb> = requests.iter().map(|r| r.verb).collect();
    assert_eq!(verbs, [Verb::Create, Verb::Patch, Verb::Create]);
    let event = json::parse(&requests[0].body.bytes).unwrap();
    assert_eq!(event.str_at(&["involvedObject", "name"]), Some("p"));
    assert_eq!(event.str_at(&["source", "host"]), Some("node-1"));
    let patch = json::parse(&requests[1].body.bytes).unwrap();
    assert_eq!(patch.int_at(&["count"]), Some(2));
}
