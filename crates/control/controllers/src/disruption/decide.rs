//! The status of a budget, as a pure function of its pods.

use std::time::Duration;

use cloudeck_machinery::{Map, Time, Value, int_or_percent, value};

use crate::clock::Now;

/// How long an evicted pod counts as gone before it is.
const DELETION_TIMEOUT_SECONDS: i64 = 120;
const CONDITION: &str = "DisruptionAllowed";

/// A pod that the budget selects.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) ready: bool,
    pub(super) deleting: bool,
}

pub(super) struct Standing {
    /// The new status; `None` when it is as it should be.
    pub(super) status: Option<Value>,
    /// When an eviction that was granted counts no longer.
    pub(super) again: Option<Duration>,
}

/// Whether the number of pods that there should be matters.
pub(super) fn needs_scale(budget: &Value) -> bool {
    budget.at(&["spec", "maxUnavailable"]).is_some()
        || budget
            .at(&["spec", "minAvailable"])
            .is_some_and(|min| min.as_str().is_some())
}

/// How many pods there should be and how many have to be healthy.
fn demands(budget: &Value, pods: usize, scale: i64) -> (i64, i64) {
    let share = |field| {
        let value = budget.at(&["spec", field])?;
        int_or_percent::scaled(value, scale, true)
    };
    if let Some(unavailable) = share("maxUnavailable") {
        return (scale, (scale - unavailable).max(0));
    }
    match budget.int_at(&["spec", "minAvailable"]) {
        Some(min) => (i64::try_from(pods).unwrap_or(i64::MAX), min),
        None => share("minAvailable").map_or((0, 0), |min| (scale, min)),
    }
}

/// How the budget stands.
pub(super) fn standing(budget: &Value, pods: &[Member<'_>], scale: i64, now: Now) -> Standing {
    let (expected, desired) = demands(budget, pods.len(), scale);
    let (disrupted, again) = still_disrupted(budget, pods, now);
    let is_healthy = |pod: &&Member<'_>| pod.ready && !pod.deleting && disrupted.get(pod.name).is_none();
    let healthy = i64::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i64::MAX);
    // Without pods nothing is allowed, so that the first ones are safe before they are counted.
    let allowed = if expected > 0 {
        (healthy - desired).max(0)
    } else {
        0
    };
    let generation = budget.int_at(&["metadata", "generation"]).unwrap_or(0);
    let mut status = value!({
        "currentHealthy": (healthy), "desiredHealthy": (desired), "expectedPods": (expected),
        "disruptionsAllowed": (allowed), "observedGeneration": (generation)
    });
    if !disrupted.is_empty() {
        status.set_at(&["disruptedPods"], disrupted);
    }
    let (word, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let conditions = with_condition(budget, (word, reason, ""), generation, now);
    status.set_at(&["conditions"], conditions);
    let is_new = !is_same(budget, &status);
    Standing {
        status: is_new.then_some(status),
        again,
    }
}

/// The status when nothing is known: nothing is allowed.
pub(super) fn fail_safe(budget: &Value, why: &str, now: Now) -> Option<Value> {
    let generation = budget.int_at(&["status", "observedGeneration"]).unwrap_or(0);
    let mut status = budget
        .at(&["status"])
        .cloned()
        .unwrap_or_else(|| value!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}));
    status.set_at(&["disruptionsAllowed"], 0);
    let conditions = with_condition(budget, ("False", "SyncFailed", why), generation, now);
    status.set_at(&["conditions"], conditions);
    (!is_same(budget, &status)).then_some(status)
}

/// Pods whose eviction was granted and that have not begun to end; and when the first of them is overdue.
fn still_disrupted(budget: &Value, pods: &[Member<'_>], now: Now) -> (Map, Option<Duration>) {
    let granted = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    let (mut left, mut again) = (Map::new(), None::<Duration>);
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let Some(at) = granted.and_then(|granted| granted.get(pod.name)) else {
            continue;
        };
        let granted_at = at.as_str().and_then(|at| Time::parse(at).ok());
        if let Some(wait) = granted_at.and_then(|at| now.until(at, DELETION_TIMEOUT_SECONDS)) {
            left.insert(pod.name, at.clone());
            again = Some(again.map_or(wait, |other| other.min(wait)));
        }
    }
    (left, again)
}

/// The conditions with the one that says whether disruptions are allowed; its time holds while its status does.
fn with_condition(
    budget: &Value,
    (word, reason, message): (&str, &str, &str),
    generation: i64,
    now: Now,
) -> Vec<Value> {
    let mut conditions = budget.items_at(&["status", "conditions"]).to_vec();
    let is_it = |condition: &Value| condition.str_at(&["type"]) == Some(CONDITION);
    let before = conditions.iter().find(|condition| is_it(condition)).cloned();
    let since = before
        .filter(|before| before.str_at(&["status"]) == Some(word))
        .and_then(|before| before.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| now.timestamp().into());
    let condition = value!({
        "type": (CONDITION), "status": (word), "reason": (reason), "message": (message),
        "lastTransitionTime": (since), "observedGeneration": (generation)
    });
    match conditions.iter_mut().find(|condition| is_it(condition)) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
    conditions
}

/// Whether the status says what it says already; an absent number is zero.
fn is_same(budget: &Value, status: &Value) -> bool {
    let numbers = [
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
        "disruptionsAllowed",
        "observedGeneration",
    ];
    let number = |value: &Value, path: &[&str]| value.int_at(path).unwrap_or(0);
    budget.at(&["status"]).is_some()
        && numbers
            .iter()
            .all(|name| number(budget, &["status", name]) == number(status, &[name]))
        && budget.at(&["status", "disruptedPods"]) == status.at(&["disruptedPods"])
        && budget.items_at(&["status", "conditions"]) == status.items_at(&["conditions"])
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    fn budget(spec: &str, status: &str) -> Value {
        let text = format!(r#"{{"metadata":{{"generation":2}},"spec":{{{spec}}},"status":{{{status}}}}}"#);
        json::parse(text.as_bytes()).unwrap()
    }

    fn members(words: &str) -> Vec<Member<'_>> {
        let word = |word| Member {
            name: word,
            ready: !word.starts_with("new"),
            deleting: word.starts_with("going"),
        };
        words.split_ascii_whitespace().map(word).collect()
    }

    /// Healthy, desired, expected, allowed.
    #[track_caller]
    fn check(spec: &str, pods: &str, scale: i64, wanted: [i64; 4]) {
        let status = standing(&budget(spec, ""), &members(pods), scale, Now(0))
            .status
            .unwrap();
        let number = |name| status.int_at(&[name]).unwrap();
        let found = [
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
            "disruptionsAllowed",
        ]
        .map(number);
        assert_eq!(found, wanted);
        assert_eq!(number("observedGeneration"), 2);
        let reason = status.items_at(&["conditions"])[0].str_at(&["reason"]);
        let enough = if wanted[3] > 0 {
            "SufficientPods"
        } else {
            "InsufficientPods"
        };
        assert_eq!(reason, Some(enough));
    }

    #[test]
    fn what_is_healthy_beyond_the_demand_may_go() {
        check(r#""minAvailable":2"#, "a b c", 0, [3, 2, 3, 1]);
        check(r#""minAvailable":2"#, "a b new1 going1", 0, [2, 2, 4, 0]);
        check(r#""minAvailable":"50%""#, "a b c", 5, [3, 3, 5, 0]);
        check(r#""maxUnavailable":1"#, "a b c", 3, [3, 2, 3, 1]);
        check(r#""maxUnavailable":"34%""#, "a b c", 3, [3, 1, 3, 2]);
        check(r#""maxUnavailable":5"#, "a", 1, [1, 0, 1, 1]);
        check(r#""maxUnavailable":1"#, "", 0, [0, 0, 0, 0]);
        check("", "a", 0, [1, 0, 0, 0]);
    }

    #[test]
    fn granted_evictions_count_until_they_are_overdue() {
        let granted = budget(
            r#""minAvailable":1"#,
            r#""disruptedPods":{"a":"1970-01-01T00:00:00Z","gone":"1970-01-01T00:00:00Z"}"#,
        );
        let at = |seconds: i64| standing(&granted, &members("a b"), 0, Now(seconds * 1000));
        let soon = at(30);
        let status = soon.status.unwrap();
        assert_eq!(status.int_at(&["disruptionsAllowed"]), Some(0));
        assert!(
            status.at(&["disruptedPods", "a"]).is_some() && status.at(&["disruptedPods", "gone"]).is_none()
        );
        assert_eq!(soon.again, Some(Duration::from_secs(90)));
        let late = at(121);
        let status = late.status.unwrap();
        assert_eq!(status.int_at(&["disruptionsAllowed"]), Some(1));
        assert!(status.at(&["disruptedPods"]).is_none() && late.again.is_none());
    }

    #[test]
    fn what_is_so_already_is_not_written_and_the_transition_keeps_its_time() {
        let mut told = budget(r#""minAvailable":1"#, "");
        let first = standing(&told, &members("a b"), 0, Now(0)).status.unwrap();
        told.set_at(&["status"], first);
        assert!(standing(&told, &members("a b"), 0, Now(9_000)).status.is_none());
        let more = standing(&told, &members("a b c"), 0, Now(9_000)).status.unwrap();
        let since = more.items_at(&["conditions"])[0]
            .str_at(&["lastTransitionTime"])
            .unwrap();
        assert_eq!(since, "1970-01-01T00:00:00Z");
        let none = standing(&told, &members("a"), 0, Now(9_000)).status.unwrap();
        let since = none.items_at(&["conditions"])[0]
            .str_at(&["lastTransitionTime"])
            .unwrap();
        assert_eq!(since, "1970-01-01T00:00:09Z");
    }

    #[test]
    fn where_nothing_is_known_nothing_is_allowed() {
        let mut told = budget(r#""maxUnavailable":1"#, r#""disruptionsAllowed":3"#);
        let failed = fail_safe(&told, "why", Now(0)).unwrap();
        assert_eq!(failed.int_at(&["disruptionsAllowed"]), Some(0));
        assert_eq!(
            failed.items_at(&["conditions"])[0].str_at(&["message"]),
            Some("why")
        );
        told.set_at(&["status"], failed);
        assert!(fail_safe(&told, "why", Now(1)).is_none());
    }
}
