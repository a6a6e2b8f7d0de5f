//! The work queue: each key at most once waiting and at most once in work.
//!
//! Semantics of client-go's rate-limited work queue: a key added while in work is worked on once more afterwards;
//! failures back off from 5 ms, doubling to 1,000 s; success forgets them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);

/// A queue of keys. Cheap to clone; clones are the same queue.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    /// Keys to work on, oldest first. Invariant: exactly the keys of `waiting`.
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    working: HashSet<K>,
    /// Keys added while in work.
    dirty: HashSet<K>,
    failures: HashMap<K, u32>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: HashMap<u64, K>,
    next_delayed: u64,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            dirty: HashSet::new(),
            failures: HashMap::new(),
            delayed: BinaryHeap::new(),
            delayed_keys: HashMap::new(),
            next_delayed: 0,
        };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    /// Asks for the key to be worked on.
    pub fn add(&self, key: K) {
        self.state().add(key);
        self.inner.changed.notify_one();
    }

    /// Asks for the key to be worked on after a delay.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.state().add_at(key, Instant::now() + delay);
        self.inner.changed.notify_one();
    }

    /// How many keys wait, delayed ones not counted.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key; it counts as in work until one of the `done` functions is called.
    pub async fn next(&self) -> K {
        loop {
            let wake_at = {
                let mut state = self.state();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.inner.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.peek().map(|Reverse((at, _))| *at)
            };
            match wake_at {
                None => self.inner.changed.notified().await,
                Some(at) => {
                    // Whichever comes first; the loop looks again in both cases.
                    let _ = tokio::time::timeout_at(at, self.inner.changed.notified()).await;
                }
            }
        }
    }

    /// The key was worked on with success.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        state.failures.remove(key);
        state.finish(key);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// The key was worked on with success and wants another look later.
    pub fn done_again_after(&self, key: &K, delay: Duration) {
        let mut state = self.state();
        state.failures.remove(key);
        state.finish(key);
        state.add_at(key.clone(), Instant::now() + delay);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Work on the key failed: it comes again after its back-off.
    pub fn done_failed(&self, key: &K) {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = FIRST_BACKOFF
            .saturating_mul(1 << (*failures).min(20))
            .min(LONGEST_BACKOFF);
        *failures += 1;
        state.finish(key);
        state.add_at(key.clone(), Instant::now() + delay);
        drop(state);
        self.inner.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.working.contains(&key) {
            self.dirty.insert(key);
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        let id = self.next_delayed;
        self.next_delayed += 1;
        self.delayed.push(Reverse((at, id)));
        self.delayed_keys.insert(id, key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.delayed.peek().copied() {
            if at > now {
                break;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&id) {
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    fn finish(&mut self, key: &K) {
        self.working.remove(key);
        if self.dirty.remove(key) {
            self.add(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_however_often_it_is_added() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_key_added_while_in_work_comes_again_only_after_it_is_done() {
        let queue = WorkQueue::new();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_exponentially_and_success_forgets_them() {
        async fn fail_and_wait(queue: &WorkQueue<&'static str>) -> u128 {
            queue.done_failed(&"a");
            let before = Instant::now();
            assert_eq!(queue.next().await, "a");
            before.elapsed().as_millis()
        }
        let queue = WorkQueue::new();
        queue.add("a");
        queue.next().await;
        let waits = [
            fail_and_wait(&queue).await,
            fail_and_wait(&queue).await,
            fail_and_wait(&queue).await,
        ];
        // The paused clock has the timer's granularity of a millisecond.
        assert!(
            (5..=6).contains(&waits[0]) && (10..=11).contains(&waits[1]) && (20..=21).contains(&waits[2]),
            "{waits:?}"
        );
        queue.done(&"a");
        queue.add("a");
        queue.next().await;
        assert!(fail_and_wait(&queue).await <= 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_comes_when_its_time_has_come() {
        let queue = WorkQueue::new();
        let before = Instant::now();
        queue.add_after("late", Duration::from_mins(1));
        queue.add_after("soon", Duration::from_secs(5));
        assert_eq!(queue.next().await, "soon");
        assert_eq!(before.elapsed().as_secs(), 5);
        assert_eq!(queue.next().await, "late");
        assert_eq!(before.elapsed().as_secs(), 60);
    }

    #[tokio::test]
    async fn several_workers_share_the_queue() {
        let queue = WorkQueue::new();
        for key in 0..100 {
            queue.add(key);
        }
        let (a, b) = (queue.clone(), queue.clone());
        let drain = |queue: WorkQueue<i32>| async move {
            let mut taken = 0;
            while taken < 50 {
                let key = queue.next().await;
                queue.done(&key);
                taken += 1;
            }
        };
        tokio::join!(drain(a), drain(b));
        assert!(queue.is_empty());
    }
}
