//! Which pods go first when there are too many.
//!
//! Source: `ActivePodsWithRanks` in `pkg/controller/controller_utils.go`.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use cloudeck_machinery::Time;

use crate::clock::Now;
use crate::pod::Pod;

/// The `count` pods to delete. `related` are the pods of the sets with the same owner: those of them on a pod's node
/// count as its neighbours, and pods with more neighbours go first.
pub(crate) fn to_delete(
    mut pods: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Now,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut neighbours: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| pod.is_active()) {
            *neighbours.entry(&pod.node).or_default() += 1;
        }
        let neighbours_of = |pod: &Pod| neighbours.get(pod.node.as_str()).copied().unwrap_or(0);
        pods.sort_by(|a, b| compare(a, b, neighbours_of(a), neighbours_of(b), now));
    }
    pods.truncate(count);
    pods
}

/// Less means: to be deleted first. A total order, which upstream's is not (there a uid decides between ages of one
/// magnitude, but restarts between equal ones): sorting by that could end in a panic.
fn compare(a: &Pod, b: &Pod, neighbours_of_a: usize, neighbours_of_b: usize, now: Now) -> Ordering {
    let ready_times = || match (a.ready, b.ready) {
        (true, true) => younger_first(a.ready_since, b.ready_since, now),
        _ => Ordering::Equal,
    };
    (!a.node.is_empty())
        .cmp(&!b.node.is_empty())
        .then(a.phase.cmp(&b.phase))
        .then(a.ready.cmp(&b.ready))
        .then(a.deletion_cost.cmp(&b.deletion_cost))
        .then(neighbours_of_b.cmp(&neighbours_of_a))
        .then_with(ready_times)
        .then(Reverse(a.restarts).cmp(&Reverse(b.restarts)))
        .then_with(|| younger_first(a.created, b.created, now))
        .then_with(|| a.uid().cmp(b.uid()))
}

/// Ages are compared by their binary logarithm, so that of pods of about one age a random one goes: uids are random.
fn younger_first(a: Option<Time>, b: Option<Time>, now: Now) -> Ordering {
    // No time at all counts as youngest.
    let rank = |time: Option<Time>| time.map(|time| magnitude(time, now));
    rank(a).cmp(&rank(b))
}

fn magnitude(start: Time, now: Now) -> i64 {
    let nanoseconds = now
        .0
        .saturating_sub(start.unix() * 1000)
        .saturating_mul(1_000_000);
    if nanoseconds > 0 {
        i64::from(nanoseconds.ilog2())
    } else {
        -1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;

    const NOW: Now = Now(1_000_000_000);

    #[track_caller]
    fn check(first: &str, second: &str) {
        let (a, b) = (pod("a", first), pod("b", second));
        let gone = to_delete(vec![Arc::clone(&b), Arc::clone(&a)], &[a, b], 1, NOW);
        assert_eq!(gone[0].name(), "a");
    }

    const READY: &str = r#"{"spec":{"nodeName":"n"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"1970-01-02T00:00:00Z"}]}}"#;

    #[test]
    fn an_unassigned_pod_goes_before_an_assigned_one() {
        check(
            r#"{"status":{"phase":"Running"}}"#,
            r#"{"spec":{"nodeName":"n"},"status":{"phase":"Pending"}}"#,
        );
    }

    #[test]
    fn a_pending_pod_goes_before_a_running_one() {
        check(
            r#"{"spec":{"nodeName":"n"},"status":{"phase":"Pending"}}"#,
            r#"{"spec":{"nodeName":"n"},"status":{"phase":"Running"}}"#,
        );
    }

    #[test]
    fn an_unready_pod_goes_before_a_ready_one() {
        check(r#"{"spec":{"nodeName":"n"},"status":{"phase":"Running"}}"#, READY);
    }

    #[test]
    fn a_cheaper_pod_goes_before_a_dearer_one() {
        let cheap = READY.replace(
            r#"{"spec""#,
            r#"{"metadata":{"annotations":{"controller.kubernetes.io/pod-deletion-cost":"-5"}},"spec""#,
        );
        check(&cheap, READY);
    }

    #[test]
    fn of_ready_pods_the_one_on_the_fuller_node_goes() {
        let (a, b) = (pod("a", READY), pod("b", &READY.replace(r#""n""#, r#""m""#)));
        let neighbour = pod("c", READY);
        let gone = to_delete(vec![Arc::clone(&b), Arc::clone(&a)], &[a, b, neighbour], 1, NOW);
        assert_eq!(gone[0].name(), "a");
    }

    #[test]
    fn the_pod_that_was_ready_for_much_less_time_goes() {
        check(&READY.replace("1970-01-02", "1970-01-12"), READY);
    }

    #[test]
    fn the_pod_with_more_restarts_goes() {
        let restarted = READY.replace(
            r#""phase""#,
            r#""containerStatuses":[{"name":"c","restartCount":3}],"phase""#,
        );
        check(&restarted, READY);
    }

    #[test]
    fn the_order_does_not_run_in_a_circle() {
        let ready = |uid: &str, since: &str, created: &str| {
            let text = READY.replace("1970-01-02T00:00:00Z", since);
            let meta = format!(r#"{{"metadata":{{"uid":"{uid}","creationTimestamp":"{created}"}},"spec""#);
            pod(uid, &text.replacen(r#"{"spec""#, &meta, 1))
        };
        let old = "1970-01-02T00:00:00Z";
        let all = [
            ready("1", "1970-01-12T00:00:10Z", old),
            ready("2", "1970-01-12T00:00:11Z", old),
            ready("3", "1970-01-12T00:00:10Z", "1970-01-12T00:00:00Z"),
        ];
        let less = |a: usize, b: usize| compare(&all[a], &all[b], 1, 1, NOW) == Ordering::Less;
        for (a, b, c) in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)] {
            assert!(!(less(a, b) && less(b, c)) || less(a, c), "{a} {b} {c}");
        }
    }

    #[test]
    fn all_go_without_being_ranked_when_all_must() {
        let (a, b) = (pod("a", READY), pod("b", READY));
        assert_eq!(to_delete(vec![a, b], &[], 2, NOW).len(), 2);
    }
}
