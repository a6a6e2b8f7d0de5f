//! Pulling from registries that behave, and from others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloudeck_image::{Credentials, Image, ImageStore, PullError, StoreConfig};
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::archive::{LayerBuilder, TestStore, digest, gzip};
use crate::registry::{Guard, TestRegistry, certificate};

fn store() -> TestStore {
    TestStore::with(StoreConfig {
        retry_delay: Duration::from_millis(1),
        ..StoreConfig::default()
    })
}

/// Content that gzip cannot shrink below a few pieces.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn layers() -> Vec<Vec<u8>> {
    vec![
        LayerBuilder::new().file("base", &noise(300_000)).build(),
        LayerBuilder::new().file("app", b"1").build(),
        LayerBuilder::new().file("app", b"2").build(),
    ]
}

fn password(username: &str, password: &str) -> Credentials {
    Credentials::Password {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

async fn published(guard: Guard) -> (TestRegistry, String) {
    let registry = TestRegistry::start(guard).await;
    registry.publish("team/app", "1", &layers(), &json!({ "Cmd": ["run"] }));
    let name = registry.name("team/app:1");
    (registry, name)
}

async fn failure(test: &TestStore, name: &str, credentials: Vec<Credentials>) -> String {
    test.store.pull(name, credentials).await.unwrap_err().message()
}

/// Waits until the threads of a pull that failed have removed what they were writing.
async fn nothing_under_way(test: &TestStore) {
    let cleared = async {
        while test.count("tmp") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cleared)
        .await
        .expect("temporary files go away");
}

#[tokio::test]
async fn an_image_is_pulled_named_and_unpacked() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    let pull = test.store.start_pull(&name, vec![]).unwrap();
    let progress = pull.progress();
    let image = pull.wait().await.unwrap();
    assert_eq!(image.names, std::slice::from_ref(&name));
    assert_eq!(
        image.repo_digests,
        [registry.name(&format!("team/app@{}", image.manifest))]
    );
    assert_eq!(image.status_id(), image.repo_digests[0]);
    assert_eq!(image.run_config().cmd, ["run"]);
    let rootfs = test.store.prepare_rootfs("c", &image).await.unwrap();
    assert_eq!(std::fs::read(rootfs.lowers[0].join("app")).unwrap(), b"2");
    assert_eq!(
        std::fs::read(rootfs.lowers[2].join("base")).unwrap(),
        noise(300_000)
    );
    let seen = *progress.borrow();
    assert_eq!(
        (seen.layers, seen.layers_done, seen.bytes_done),
        (3, 3, seen.bytes)
    );
    assert_eq!(test.count("tmp"), 0);
}

#[tokio::test]
async fn a_second_pull_fetches_documents_only() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    let first = test.store.pull(&name, vec![]).await.unwrap();
    let blobs = registry.requests("/blobs/");
    assert_eq!(test.store.pull(&name, vec![]).await.unwrap(), first);
    assert_eq!(registry.requests("/blobs/"), blobs);
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_this_platform() {
    let registry = TestRegistry::start(Guard::Open).await;
    let here = cloudeck_oci::Platform::host();
    let manifest = registry.publish("x", "direct", &layers(), &json!({}));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index =
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            { "mediaType": kind, "size": 1, "digest": digest(b"other"),
              "platform": { "os": "linux", "architecture": "s390x" } },
            { "mediaType": kind, "size": manifest.len(), "digest": digest(&manifest),
              "platform": { "os": "linux", "architecture": here.architecture } },
        ]})
        .to_string();
    registry.put(
        "x/manifests/multi",
        "application/vnd.oci.image.index.v1+json",
        index.as_bytes(),
    );
    registry.put(
        &format!("x/manifests/{}", digest(index.as_bytes())),
        "application/vnd.oci.image.index.v1+json",
        index.as_bytes(),
    );
    let test = store();
    let image = test.store.pull(&registry.name("x:multi"), vec![]).await.unwrap();
    assert_eq!(image.manifest.to_string(), digest(&manifest));
    let by_digest = registry.name(&format!("x@{}", digest(index.as_bytes())));
    assert_eq!(image.repo_digests, std::slice::from_ref(&by_digest));
    assert_eq!(test.store.pull(&by_digest, vec![]).await.unwrap().id, image.id);
    assert_eq!(
        test.store.get(&by_digest).unwrap().map(|image| image.id),
        Some(image.id)
    );
}

#[tokio::test]
async fn basic_credentials_are_shown_when_asked_for() {
    let (_registry, name) = published(Guard::Basic("u", "p")).await;
    let test = store();
    let refused = failure(&test, &name, vec![]).await;
    assert!(refused.contains("pull access denied"), "{refused}");
    let refused = failure(&test, &name, vec![password("u", "wrong")]).await;
    assert!(
        refused.contains("unauthorized: authentication required"),
        "{refused}"
    );
    test.store
        .pull(&name, vec![password("u", "wrong"), password("u", "p")])
        .await
        .unwrap();
}

#[tokio::test]
async fn tokens_are_obtained_anonymously_and_with_credentials() {
    let test = store();
    let (registry, name) = published(Guard::Token(None)).await;
    test.store.pull(&name, vec![]).await.unwrap();
    assert_eq!(registry.requests("/token"), 1);
    let (_registry, name) = published(Guard::Token(Some(("u", "p")))).await;
    test.store.pull(&name, vec![password("u", "p")]).await.unwrap();
    let refused = failure(&test, &name, vec![password("u", "no")]).await;
    assert!(refused.ends_with("incorrect username or password"), "{refused}");
    let (_registry, name) = published(Guard::Identity("refresh")).await;
    test.store
        .pull(&name, vec![Credentials::IdentityToken("refresh".to_owned())])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_once() {
    let (registry, name) = published(Guard::Token(None)).await;
    let test = TestStore::with(StoreConfig {
        parallel_downloads: 1,
        ..StoreConfig::default()
    });
    registry.gate.forget_permits(Semaphore::MAX_PERMITS);
    let pull = test.store.start_pull(&name, vec![]).unwrap();
    registry.gate.add_permits(1);
    let mut progress = pull.progress();
    progress.wait_for(|seen| seen.layers > 0).await.unwrap();
    // What the client holds is no longer the last token given.
    registry.state.lock().unwrap().tokens += 1;
    registry.gate.add_permits(100);
    pull.wait().await.unwrap();
    assert_eq!(registry.requests("/token"), 2);
}

#[tokio::test]
async fn passing_failures_are_retried_and_lasting_ones_reported() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    let passing = [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
    ];
    registry.state.lock().unwrap().failures = passing.to_vec();
    test.store.pull(&name, vec![]).await.unwrap();
    registry.state.lock().unwrap().failures = vec![StatusCode::SERVICE_UNAVAILABLE; 50];
    let lasting = failure(&test, &name, vec![]).await;
    assert!(
        lasting.contains("503 Service Unavailable: unavailable: try again"),
        "{lasting}"
    );
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_broke() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    registry.state.lock().unwrap().break_after = Some(100_000);
    test.store.pull(&name, vec![]).await.unwrap();
    let resumed = registry
        .state
        .lock()
        .unwrap()
        .log
        .iter()
        .filter(|(_, range, _)| range.is_some())
        .count();
    assert!(resumed >= 2, "{resumed} range requests");
}

#[tokio::test]
async fn a_server_without_ranges_starts_over() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    {
        let mut state = registry.state.lock().unwrap();
        state.ranges = false;
        state.break_after = Some(200_000);
    }
    let pull = test.store.start_pull(&name, vec![]).unwrap();
    let mut progress = pull.progress();
    progress
        .wait_for(|seen| seen.bytes_done >= 200_000)
        .await
        .unwrap();
    registry.state.lock().unwrap().break_after = None;
    let image = pull.wait().await.unwrap();
    let seen = *progress.borrow();
    assert_eq!(seen.bytes_done, seen.bytes);
    assert_eq!(image.names, [name]);
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_refused() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    let base = gzip(&layers()[0]);
    let mut other = base.clone();
    *other.last_mut().unwrap() ^= 1;
    registry.put(&format!("team/app/blobs/{}", digest(&base)), "x", &other);
    let refused = failure(&test, &name, vec![]).await;
    assert!(refused.contains("content has digest"), "{refused}");
    registry.put(
        &format!("team/app/blobs/{}", digest(&base)),
        "x",
        &[other, vec![0; 10]].concat(),
    );
    let refused = failure(&test, &name, vec![]).await;
    assert!(refused.contains("bytes, expected"), "{refused}");
    let wrong = registry.name(&format!("team/app@{}", digest(b"other")));
    registry.put(&format!("team/app/manifests/{}", digest(b"other")), "x", b"{}");
    assert!(
        failure(&test, &wrong, vec![])
            .await
            .contains("content has digest")
    );
    assert!(test.store.list().unwrap().is_empty());
    nothing_under_way(&test).await;
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_than_the_configuration_says_is_refused() {
    let (registry, name) = published(Guard::Open).await;
    // The blob is what the manifest says; the configuration describes other content.
    let config = crate::archive::config_file(&[b"other".to_vec()], &json!({}));
    let layer = gzip(&layers()[1]);
    let manifest = crate::archive::manifest(&config, std::slice::from_ref(&layer));
    registry.put(&format!("team/app/blobs/{}", digest(&config)), "x", &config);
    registry.put(
        "team/app/manifests/1",
        "application/vnd.oci.image.manifest.v1+json",
        &manifest,
    );
    let test = store();
    let refused = failure(&test, &name, vec![]).await;
    assert!(refused.contains("its configuration says"), "{refused}");
    assert_eq!(test.count("snapshots"), 0);
}

#[tokio::test]
async fn errors_say_what_a_user_can_act_on() {
    let (registry, _) = published(Guard::Open).await;
    let test = store();
    let name = registry.name("team/app:none");
    let missing = failure(&test, &name, vec![]).await;
    assert_eq!(
        missing,
        format!("failed to resolve reference {name:?}: {name}: not found")
    );
    let gone = registry.name("team/app:1");
    drop(registry);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("{}/x:1", listener.local_addr().unwrap());
    drop(listener);
    let refused = failure(&test, &closed, vec![]).await;
    assert!(
        refused.contains("failed to connect to") && refused.contains("refused"),
        "{refused}"
    );
    let unnamed = failure(&test, "Bad Name", vec![]).await;
    assert_eq!(
        unnamed,
        "couldn't parse image name \"Bad Name\": invalid reference format"
    );
    drop(gone);
}

#[tokio::test]
async fn redirected_blobs_are_fetched_without_the_registrys_credentials() {
    let (registry, name) = published(Guard::Basic("u", "p")).await;
    let (mirror, _) = published(Guard::Open).await;
    registry.state.lock().unwrap().redirect_blobs_to = Some(format!("http://{}", mirror.address));
    let test = TestStore::with(StoreConfig {
        insecure_registries: vec![registry.address.to_string()],
        ..StoreConfig::default()
    });
    test.store.pull(&name, vec![password("u", "p")]).await.unwrap();
    let log = mirror.state.lock().unwrap();
    assert!(!log.log.is_empty());
    assert!(
        log.log
            .iter()
            .all(|(_, _, authorization)| authorization.is_none())
    );
}

#[tokio::test]
async fn concurrent_pulls_of_one_image_download_it_once() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    registry.gate.forget_permits(Semaphore::MAX_PERMITS);
    let pulls: Vec<_> = (0..5)
        .map(|_| test.store.start_pull(&name, vec![]).unwrap())
        .collect();
    registry.gate.add_permits(100);
    let mut images: Vec<Arc<Image>> = Vec::new();
    for pull in pulls {
        images.push(pull.wait().await.unwrap());
    }
    assert!(images.iter().all(|image| *image == images[0]));
    assert_eq!(registry.requests("/manifests/"), 1);
    assert_eq!(registry.requests("/blobs/"), 4);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_ends_and_leaves_nothing() {
    let (registry, name) = published(Guard::Open).await;
    let test = store();
    registry.gate.forget_permits(Semaphore::MAX_PERMITS);
    let pull = test.store.start_pull(&name, vec![]).unwrap();
    let kept = test.store.start_pull(&name, vec![]).unwrap();
    drop(pull);
    registry.gate.add_permits(2);
    let mut progress = kept.progress();
    progress.wait_for(|seen| seen.layers > 0).await.unwrap();
    drop(kept);
    // The sender is gone when the task is.
    while progress.changed().await.is_ok() {}
    nothing_under_way(&test).await;
    // A collection is possible once the pull gave its lock back.
    while test.store.collect_garbage().await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(test.store.list().unwrap().is_empty());
    assert_eq!(
        (
            test.count("tmp"),
            test.count("blobs/sha256"),
            test.count("snapshots")
        ),
        (0, 0, 0)
    );
    registry.gate.add_permits(100);
    test.store.pull(&name, vec![]).await.unwrap();
}

#[tokio::test]
async fn tls_is_verified_against_the_given_authorities() {
    let (pem, acceptor) = certificate();
    let registry = TestRegistry::start_with(Guard::Open, Some(acceptor)).await;
    registry.publish("team/app", "1", &layers(), &json!({}));
    let name = format!("localhost:{}/team/app:1", registry.address.port());
    let stranger = store();
    let refused = failure(&stranger, &name, vec![]).await;
    assert!(
        refused.contains("TLS with localhost failed: invalid peer certificate"),
        "{refused}"
    );
    let bundle = stranger.directory.path().join("ca.pem");
    std::fs::write(&bundle, pem).unwrap();
    let trusting = TestStore::with(StoreConfig {
        certificate_bundles: vec![bundle],
        ..StoreConfig::default()
    });
    trusting.store.pull(&name, vec![]).await.unwrap();
}

#[tokio::test]
async fn a_pull_onto_a_full_disk_says_so() {
    let registry = TestRegistry::start(Guard::Open).await;
    let layer = LayerBuilder::new().file("big", &noise(4_000_000)).build();
    registry.publish("team/app", "1", &[layer], &json!({}));
    let directory = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::mount(directory.path());
    let scope = cloudeck_task::Scope::root("test");
    let store = ImageStore::open(directory.path(), StoreConfig::default(), &scope).unwrap();
    let failure = store
        .pull(&registry.name("team/app:1"), vec![])
        .await
        .unwrap_err();
    let failure = failure.message();
    assert!(failure.contains("No space left on device"), "{failure}");
    scope.request_shutdown();
}

/// A file system with room for a megabyte, as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("test", at, "tmpfs", flags, c"size=1m").unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn an_image_above_the_size_limit_is_not_downloaded() {
    let (registry, name) = published(Guard::Open).await;
    let test = TestStore::with(StoreConfig {
        image_bytes_max: 1000,
        ..StoreConfig::default()
    });
    let error = test.store.pull(&name, vec![]).await.unwrap_err();
    assert!(matches!(*error, PullError::TooLarge { limit: 1000, .. }));
    assert_eq!(registry.requests("/blobs/"), 0);
}
