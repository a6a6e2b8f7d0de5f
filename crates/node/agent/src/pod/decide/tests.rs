use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::super::memo::{Ended, Instance, Phase, Rejection, Termination};
use super::*;
use crate::pod::report::tests::id;

const NOW: Millis = 1_000_000;

fn pod(policy: &str, init: &[&str], containers: &[&str]) -> Pod {
    let make = |names: &[&str]| -> Vec<Container> {
        names
            .iter()
            .map(|name| Container {
                name: (*name).to_owned(),
                ..Container::default()
            })
            .collect()
    };
    Pod {
        spec: Some(PodSpec {
            restart_policy: Some(policy.to_owned()),
            init_containers: (!init.is_empty()).then(|| make(init)),
            containers: make(containers),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn ready() -> PodMemo {
    PodMemo {
        volumes: Step::Done,
        sandbox: SandboxMemo::Ready {
            id: crate::pod::report::tests::sandbox(),
        },
        ..PodMemo::default()
    }
}

fn with(mut memo: PodMemo, name: &str, known: ContainerMemo) -> PodMemo {
    memo.containers.insert(name.to_owned(), known);
    memo
}

fn running() -> ContainerMemo {
    let state = InstanceState::Running { started_at: 0 };
    let current = Some(Instance {
        id: id('a'),
        sandbox: crate::pod::report::tests::sandbox(),
        attempt: 0,
        state,
        image: String::new(),
        image_id: String::new(),
        user: None,
    });
    ContainerMemo {
        current,
        started: true,
        ready: true,
        ..ContainerMemo::default()
    }
}

fn exited(code: i32, attempt: u32) -> ContainerMemo {
    let reason = if code == 0 { "Completed" } else { "Error" };
    let ended = Ended {
        id: id('a'),
        code,
        signal: 0,
        reason: reason.into(),
        message: String::new(),
        started_at: NOW - 2000,
        finished_at: NOW - 1000,
    };
    let state = InstanceState::Exited(ended);
    let current = Some(Instance {
        id: id('a'),
        sandbox: crate::pod::report::tests::sandbox(),
        attempt,
        state,
        image: String::new(),
        image_id: String::new(),
        user: None,
    });
    ContainerMemo {
        current,
        ..ContainerMemo::default()
    }
}

fn actions(pod: &Pod, memo: &PodMemo) -> Vec<Action> {
    decide(pod, memo, NOW).actions
}

fn start(name: &str, attempt: u32) -> Action {
    Action::StartContainer {
        name: name.to_owned(),
        attempt,
    }
}

#[test]
fn a_new_pod_prepares_volumes_and_sandbox_side_by_side() {
    let pod = pod("Always", &[], &["c"]);
    assert_eq!(
        actions(&pod, &PodMemo::default()),
        [Action::PrepareVolumes, Action::CreateSandbox]
    );
}

#[test]
fn containers_wait_for_volumes_and_sandbox() {
    let pod = pod("Always", &[], &["c"]);
    assert_eq!(
        actions(
            &pod,
            &PodMemo {
                volumes: Step::Running,
                ..ready()
            }
        ),
        []
    );
    assert_eq!(
        actions(
            &pod,
            &PodMemo {
                sandbox: SandboxMemo::Creating,
                ..ready()
            }
        ),
        []
    );
    assert_eq!(actions(&pod, &ready()), [start("c", 0)]);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    let pod = pod("Always", &["i", "j"], &["c"]);
    assert_eq!(actions(&pod, &ready()), [start("i", 0)]);
    let memo = with(ready(), "i", running());
    assert_eq!(actions(&pod, &memo), []);
    let memo = with(ready(), "i", exited(0, 0));
    assert_eq!(actions(&pod, &memo), [start("j", 0)]);
    let memo = with(memo, "j", exited(0, 0));
    assert_eq!(actions(&pod, &memo), [start("c", 0)]);
}

#[test]
fn a_failed_init_container_is_tried_again_unless_never() {
    let memo = with(ready(), "i", exited(1, 0));
    assert_eq!(actions(&pod("Always", &["i"], &["c"]), &memo), [start("i", 1)]);
    assert_eq!(
        actions(&pod("Never", &["i"], &["c"]), &memo),
        [Action::StopSandbox]
    );
}

#[test]
fn a_restartable_init_container_lets_the_next_go_on_once_started_and_stays() {
    let mut pod = pod("Always", &["side"], &["c"]);
    pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
    assert_eq!(actions(&pod, &ready()), [start("side", 0)]);
    let memo = with(ready(), "side", running());
    assert_eq!(actions(&pod, &memo), [start("c", 0)]);
    let memo = with(with(ready(), "c", running()), "side", exited(0, 0));
    assert_eq!(actions(&pod, &memo), [start("side", 1)]);
}

#[test]
fn restart_policies_decide_about_ended_containers() {
    for (policy, code, again) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let memo = with(ready(), "c", exited(code, 2));
        let wanted = if again {
            vec![start("c", 3)]
        } else {
            vec![Action::StopSandbox]
        };
        assert_eq!(
            actions(&pod(policy, &[], &["c"]), &memo),
            wanted,
            "{policy} {code}"
        );
    }
}

#[test]
fn a_crash_back_off_is_told_once_and_waited_for() {
    let pod = pod("Always", &[], &["c"]);
    let mut known = exited(1, 2);
    known.crash_delay_ms = 20_000;
    let until = NOW - 1000 + 20_000;
    let plan = decide(&pod, &with(ready(), "c", known.clone()), NOW);
    assert_eq!(
        plan.actions,
        [Action::AwaitBackoff {
            name: "c".into(),
            kind: Backoff::Crash,
            delay_ms: 20_000
        }]
    );
    assert_eq!(plan.look_again_at, Some(until));
    known.waiting = Some(super::super::memo::Waiting {
        reason: "CrashLoopBackOff".into(),
        message: String::new(),
    });
    let plan = decide(&pod, &with(ready(), "c", known.clone()), NOW);
    assert_eq!((plan.actions, plan.look_again_at), (vec![], Some(until)));
    assert_eq!(
        decide(&pod, &with(ready(), "c", known), until).actions,
        [start("c", 3)]
    );
}

#[test]
fn a_failed_pull_is_tried_again_when_due() {
    let pod = pod("Always", &[], &["c"]);
    let known = ContainerMemo {
        retry_at: Some(NOW + 5),
        ..ContainerMemo::default()
    };
    let plan = decide(&pod, &with(ready(), "c", known.clone()), NOW);
    assert_eq!((plan.actions, plan.look_again_at), (vec![], Some(NOW + 5)));
    assert_eq!(
        decide(&pod, &with(ready(), "c", known), NOW + 5).actions,
        [start("c", 0)]
    );
}

#[test]
fn an_unhealthy_container_is_stopped() {
    let known = ContainerMemo {
        unhealthy: true,
        ..running()
    };
    let wanted = Action::StopContainer {
        name: "c".into(),
        grace_ms: -1,
        after: Vec::new(),
        why: StopReason::Unhealthy,
    };
    assert_eq!(
        actions(&pod("Always", &[], &["c"]), &with(ready(), "c", known)),
        [wanted]
    );
}

#[test]
fn a_dead_sandbox_is_emptied_and_replaced() {
    let pod = pod("Always", &[], &["c"]);
    let dead = PodMemo {
        sandbox: SandboxMemo::Dead {
            id: crate::pod::report::tests::sandbox(),
        },
        ..ready()
    };
    let stop = Action::StopContainer {
        name: "c".into(),
        grace_ms: 0,
        after: Vec::new(),
        why: StopReason::SandboxDied,
    };
    assert_eq!(actions(&pod, &with(dead.clone(), "c", running())), [stop]);
    assert_eq!(
        actions(&pod, &with(dead, "c", exited(137, 0))),
        [Action::StopSandbox]
    );
    assert_eq!(
        actions(
            &pod,
            &PodMemo {
                sandbox: SandboxMemo::None,
                ..ready()
            }
        ),
        [Action::CreateSandbox]
    );
}

#[test]
fn termination_stops_containers_and_then_cleans_up() {
    let pod = pod("Always", &[], &["c"]);
    let ending = PodMemo {
        termination: Some(Termination {
            since: NOW - 1000,
            grace_seconds: 30,
        }),
        ..ready()
    };
    let stop = Action::StopContainer {
        name: "c".into(),
        grace_ms: 29_000,
        after: Vec::new(),
        why: StopReason::PodEnds,
    };
    assert_eq!(actions(&pod, &with(ending.clone(), "c", running())), [stop]);
    let memo = with(ending, "c", exited(0, 0));
    assert_eq!(actions(&pod, &memo), [Action::CleanUp]);
    let memo = PodMemo {
        sandbox: SandboxMemo::None,
        ..memo
    };
    assert_eq!(actions(&pod, &memo), [Action::CleanUp]);
    assert_eq!(
        actions(
            &pod,
            &PodMemo {
                cleaned: true,
                ..memo
            }
        ),
        []
    );
}

#[test]
fn a_finished_pod_loses_its_sandbox_but_keeps_its_logs() {
    let pod = pod("Never", &[], &["c"]);
    let memo = PodMemo {
        settled_phase: Some(Phase::Succeeded),
        ..with(ready(), "c", exited(0, 0))
    };
    assert_eq!(actions(&pod, &memo), [Action::StopSandbox]);
    assert_eq!(
        actions(
            &pod,
            &PodMemo {
                sandbox: SandboxMemo::None,
                ..memo
            }
        ),
        []
    );
}

#[test]
fn a_rejected_pod_never_starts_anything() {
    let rejected = Some(Rejection {
        reason: "OutOfcpu",
        message: String::new(),
    });
    let memo = PodMemo {
        rejected,
        sandbox: SandboxMemo::None,
        ..PodMemo::default()
    };
    assert_eq!(actions(&pod("Always", &[], &["c"]), &memo), []);
}

#[test]
fn back_offs_double_up_to_five_minutes() {
    let mut delay = 0;
    let mut all = Vec::new();
    for _ in 0..7 {
        delay = next_crash_delay(delay);
        all.push(delay / 1000);
    }
    assert_eq!(all, [10, 20, 40, 80, 160, 300, 300]);
}

fn waiting(reason: &str) -> super::super::memo::Waiting {
    super::super::memo::Waiting {
        reason: reason.into(),
        message: "m".into(),
    }
}

#[test]
fn an_error_is_shown_for_a_while_and_then_the_back_off() {
    let pod = pod("Always", &[], &["c"]);
    for reason in ["RunContainerError", "PostStartHookError"] {
        let mut known = exited(128, 2);
        known.crash_delay_ms = 20_000;
        known.waiting = Some(waiting(reason));
        let memo = with(ready(), "c", known);
        let ended_at = NOW - 1000;
        let early = decide(&pod, &memo, ended_at + 10);
        assert_eq!(
            (early.actions, early.look_again_at),
            (vec![], Some(ended_at + 1000))
        );
        let say = Action::AwaitBackoff {
            name: "c".into(),
            kind: Backoff::Crash,
            delay_ms: 20_000,
        };
        assert_eq!(decide(&pod, &memo, ended_at + 1000).actions, [say]);
    }
}

#[test]
fn a_pull_error_turns_into_its_own_back_off_and_stays_that() {
    let pod = pod("Always", &[], &["c"]);
    let mut known = ContainerMemo {
        retry_at: Some(NOW + 9_000),
        start_delay_ms: 10_000,
        waiting: Some(waiting("ErrImagePull")),
        ..ContainerMemo::default()
    };
    let say = Action::AwaitBackoff {
        name: "c".into(),
        kind: Backoff::ImagePull,
        delay_ms: 10_000,
    };
    let plan = decide(&pod, &with(ready(), "c", known.clone()), NOW);
    assert_eq!((plan.actions, plan.look_again_at), (vec![say], Some(NOW + 9_000)));
    known.waiting = Some(waiting("ImagePullBackOff"));
    assert_eq!(actions(&pod, &with(ready(), "c", known)), []);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let pod = pod("Always", &["i"], &["c"]);
    let elsewhere = |mut known: ContainerMemo| {
        let other = SandboxId::parse(&"e".repeat(64)).unwrap();
        known.current.as_mut().unwrap().sandbox = other;
        known
    };
    let memo = with(ready(), "i", elsewhere(exited(0, 0)));
    let memo = with(memo, "c", elsewhere(exited(137, 0)));
    assert_eq!(actions(&pod, &memo), [start("i", 1)]);
    let memo = with(memo, "i", exited(0, 1));
    assert_eq!(actions(&pod, &memo), [start("c", 1)]);
}

#[test]
fn a_pod_past_its_deadline_ends() {
    let pod = pod("Always", &[], &["c"]);
    let memo = PodMemo {
        deadline_exceeded: true,
        ..with(ready(), "c", running())
    };
    assert!(matches!(
        &actions(&pod, &memo)[..],
        [Action::StopContainer { .. }]
    ));
}

#[test]
fn a_sidecar_ends_when_the_others_have() {
    let mut pod = pod("Never", &["s"], &["c"]);
    let spec = pod.spec.as_mut().unwrap();
    spec.init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
    let memo = with(with(ready(), "s", running()), "c", exited(0, 0));
    let stop = Action::StopContainer {
        name: "s".into(),
        grace_ms: 30_000,
        after: Vec::new(),
        why: StopReason::PodEnds,
    };
    assert_eq!(actions(&pod, &memo), [stop]);
}

#[test]
fn a_failed_start_up_probe_is_told_from_a_failed_liveness_probe() {
    let pod = pod("Always", &[], &["c"]);
    for (started, wanted) in [(true, StopReason::Unhealthy), (false, StopReason::NotStarted)] {
        let mut known = running();
        (known.unhealthy, known.started) = (true, started);
        let found = actions(&pod, &with(ready(), "c", known));
        assert!(matches!(&found[..], [Action::StopContainer { why, .. }] if *why == wanted));
    }
}

#[test]
fn sidecars_outlive_the_others_and_end_in_reverse() {
    let mut pod = pod("Always", &["s", "i", "t"], &["c"]);
    let init = pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap();
    (init[0].restart_policy, init[2].restart_policy) = (Some("Always".into()), Some("Always".into()));
    let mut memo = with(
        with(with(ready(), "s", running()), "t", running()),
        "c",
        running(),
    );
    memo.termination = Some(Termination {
        since: NOW,
        grace_seconds: 30,
    });
    let found = actions(&pod, &memo);
    let after = |name: &str| {
        found.iter().find_map(|action| match action {
            Action::StopContainer { name: own, after, .. } if own == name => Some(after.join(" ")),
            _ => None,
        })
    };
    assert_eq!(after("c").as_deref(), Some(""));
    assert_eq!(after("t").as_deref(), Some("c"));
    assert_eq!(after("s").as_deref(), Some("c t"));
}

#[test]
fn rules_and_policies_of_a_container_stand_above_the_pods() {
    let spec = |policy: &str| -> PodSpec {
        let json = serde_json::json!({"restartPolicy": policy, "containers": []});
        serde_json::from_value(json).unwrap()
    };
    let container = |policy: &str, operator: &str| -> Container {
        let rules =
            serde_json::json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]);
        let json = serde_json::json!({"name": "c", "restartPolicy": policy, "restartPolicyRules": rules});
        serde_json::from_value(json).unwrap()
    };
    for (pod, own, operator, code, again) in [
        ("Always", "Never", "In", 1, false),
        ("Always", "Never", "In", 42, true),
        ("Never", "OnFailure", "In", 1, true),
        ("Never", "Never", "NotIn", 1, true),
        ("Never", "Never", "NotIn", 42, false),
    ] {
        assert_eq!(
            runs_again(&spec(pod), &container(own, operator), code),
            again,
            "{pod} {own} {operator} {code}"
        );
    }
    assert!(runs_again(&spec("OnFailure"), &Container::default(), 1));
    assert!(!runs_again(&spec("OnFailure"), &Container::default(), 0));
}

#[test]
fn a_grace_beyond_all_clocks_does_not_end() {
    assert!(remaining_grace(NOW, i64::MAX, NOW) > i64::MAX / 2);
    assert_eq!(remaining_grace(NOW, 30, NOW + 10_000), 20_000);
    assert_eq!(remaining_grace(NOW, 1, NOW + 10_000), 0);
}
