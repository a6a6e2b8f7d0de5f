//! One who reads: lists in pieces, lists of the past, watches from the past, all held against the book.

use std::time::Duration;

use cloudeck_client::{Client, Params, Request};
use cloudeck_machinery::{GroupVersionResource, Reason, Status};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::book::Book;
use crate::dice::Dice;
use crate::kinds;
use crate::network::key_of;
use crate::trace::Trace;
use crate::watching::prefix_of;

/// How many revisions back it looks.
const PAST: u64 = 300;

pub(crate) struct Reader {
    client: Client,
    dice: Dice,
    book: Book,
    trace: Trace,
}

impl Reader {
    pub(crate) fn new(client: Client, seed: u64, book: &Book, trace: &Trace) -> Self {
        Self {
            client,
            dice: Dice::of(seed, "reader"),
            book: book.clone(),
            trace: trace.clone(),
        }
    }

    /// Reads this and that until the time is over.
    pub(crate) async fn read(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let pause = self.dice.millis(500, 20_000);
            tokio::time::sleep(pause).await;
            let kinds = [kinds::pods(), kinds::deployments(), kinds::services()];
            let resource = self.dice.pick(&kinds).expect("there are some").clone();
            let outcome = match self.dice.below(3) {
                0 => self.list_in_pieces(&resource).await,
                1 => self.list_the_past(&resource).await,
                _ => self.watch_from_the_past(&resource).await,
            };
            if let Err(status) = outcome {
                self.trace.line(format!("reader fails: {status}"));
            }
        }
    }

    async fn list_in_pieces(&mut self, resource: &GroupVersionResource) -> Result<(), Status> {
        let mut params = Params {
            limit: Some(self.dice.between(1, 4) as i64),
            ..Params::default()
        };
        let (mut found, mut revision) = (Vec::new(), 0);
        loop {
            let page = self.client.list(resource, "", params.clone()).await?;
            if revision == 0 {
                revision = page.meta.revision;
            } else if page.meta.revision != revision {
                let at = page.meta.revision;
                self.wrong(resource, &format!("went on at {at} in a list of {revision}"));
            }
            found.extend(page.items.iter().map(|item| (item.key.clone(), item.revision)));
            if page.meta.continue_token.is_empty() {
                break;
            }
            params.continue_token = page.meta.continue_token;
            // Somebody who thinks about each page.
            let pause = self.dice.millis(0, 3_000);
            tokio::time::sleep(pause).await;
        }
        let prefix = prefix_of(resource).unwrap_or_default();
        let found: Vec<_> = found
            .iter()
            .map(|(key, at)| (key_of(Some(&prefix), &key.namespace, &key.name), *at))
            .collect();
        self.compare(resource, &found, revision);
        Ok(())
    }

    async fn list_the_past(&mut self, resource: &GroupVersionResource) -> Result<(), Status> {
        let revision = self.past();
        let params = Params {
            resource_version: revision.to_string(),
            resource_version_match: "Exact".to_owned(),
            ..Params::default()
        };
        let list = match self.client.list(resource, "", params).await {
            Err(status) if matches!(status.reason, Reason::Expired | Reason::Gone) => return Ok(()),
            list => list?,
        };
        if list.meta.revision != revision {
            let at = list.meta.revision;
            self.wrong(resource, &format!("was given {at} for exactly {revision}"));
        }
        let prefix = prefix_of(resource).unwrap_or_default();
        let items = list.items.iter();
        let found: Vec<_> = items
            .map(|item| {
                (
                    key_of(Some(&prefix), &item.key.namespace, &item.key.name),
                    item.revision,
                )
            })
            .collect();
        self.compare(resource, &found, revision);
        Ok(())
    }

    /// What it delivers is checked on the way here.
    async fn watch_from_the_past(&mut self, resource: &GroupVersionResource) -> Result<(), Status> {
        let mut request = Request::watch(resource, "");
        request.params.resource_version = self.past().to_string();
        request.params.allow_watch_bookmarks = true;
        match self.dice.below(4) {
            0 => request.namespace = "blue".into(),
            1 => request.params.label_selector = "app=web".into(),
            2 if resource.resource == "pods" => {
                request.params.field_selector = "spec.nodeName=node-0".into();
            }
            _ => {}
        }
        let mut events = match self.client.watch(request).await {
            Err(status) if matches!(status.reason, Reason::Expired | Reason::Gone) => return Ok(()),
            events => events?,
        };
        let time = self.dice.millis(100, 120_000);
        // Over when the time is, or when the watch is.
        let _ = tokio::time::timeout(time, async { while events.next().await.is_some() {} }).await;
        Ok(())
    }

    fn past(&mut self) -> u64 {
        let now = self.book.newest_told();
        now.saturating_sub(self.dice.below(PAST)).max(1)
    }

    fn compare(&self, resource: &GroupVersionResource, found: &[(String, u64)], revision: u64) {
        let prefix = prefix_of(resource).unwrap_or_default();
        let truth = self.book.at(&prefix, revision);
        let same = truth.len() == found.len()
            && truth
                .iter()
                .zip(found)
                .all(|((key, (at, _)), (other, revision))| **key == **other && at == revision);
        if !same {
            let (expected, found) = (truth.len(), found.len());
            let what = format!("was given {found} objects at {revision}, where there were {expected}");
            self.wrong(resource, &what);
        }
    }

    fn wrong(&self, resource: &GroupVersionResource, what: &str) {
        self.trace.violation(format!("the reader of {resource} {what}"));
    }
}
