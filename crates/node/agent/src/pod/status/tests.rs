use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodReadinessGate};

use super::super::memo::{Ended, Instance, InstanceState, Step, Termination, Waiting};
use super::*;
use crate::pod::report::tests::{id, sandbox};

fn pod(policy: &str, names: &[&str]) -> Pod {
    let containers = names
        .iter()
        .map(|name| Container {
            name: (*name).to_owned(),
            ..Container::default()
        })
        .collect();
    Pod {
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            containers,
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn instance(state: InstanceState) -> Instance {
    Instance {
        id: id('a'),
        sandbox: sandbox(),
        attempt: 0,
        state,
        image: "i".into(),
        image_id: "sha256:1".into(),
        user: None,
    }
}

fn running() -> ContainerMemo {
    let current = Some(instance(InstanceState::Running { started_at: 7000 }));
    ContainerMemo {
        current,
        started: true,
        ready: true,
        ..ContainerMemo::default()
    }
}

fn ended(code: i32) -> ContainerMemo {
    let reason = if code == 0 { "Completed" } else { "Error" };
    let ended = Ended {
        id: id('a'),
        code,
        signal: 0,
        reason: reason.into(),
        message: String::new(),
        started_at: 1000,
        finished_at: 2000,
    };
    ContainerMemo {
        current: Some(instance(InstanceState::Exited(ended))),
        ..ContainerMemo::default()
    }
}

fn memo(containers: &[(&str, ContainerMemo)]) -> PodMemo {
    PodMemo {
        volumes: Step::Done,
        sandbox: SandboxMemo::Ready { id: sandbox() },
        containers: containers
            .iter()
            .map(|(name, known)| ((*name).to_owned(), known.clone()))
            .collect(),
        pod_ip: Some("10.244.0.7".parse().unwrap()),
        ..PodMemo::default()
    }
}

fn status(pod: &Pod, memo: &PodMemo) -> PodStatus {
    let context = StatusContext {
        host_ip: "192.0.2.2".parse().unwrap(),
        host_network: false,
    };
    generate(pod, memo, &context, 10_000)
}

fn condition(status: &PodStatus, kind: &str) -> (String, Option<String>) {
    let found = status
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == kind)
        .unwrap();
    (found.status.clone(), found.reason.clone())
}

#[test]
fn phases_follow_containers_and_policy() {
    let both = |a: ContainerMemo, b: ContainerMemo| memo(&[("a", a), ("b", b)]);
    for (policy, state, wanted) in [
        ("Always", memo(&[]), Phase::Pending),
        (
            "Always",
            both(running(), ContainerMemo::default()),
            Phase::Pending,
        ),
        ("Always", both(running(), running()), Phase::Running),
        ("Always", both(ended(1), ended(0)), Phase::Running),
        ("Never", both(running(), ended(1)), Phase::Running),
        ("Never", both(ended(0), ended(0)), Phase::Succeeded),
        ("Never", both(ended(0), ended(1)), Phase::Failed),
        ("OnFailure", both(ended(0), ended(1)), Phase::Running),
        ("OnFailure", both(ended(0), ended(0)), Phase::Succeeded),
    ] {
        let pod = pod(policy, &["a", "b"]);
        assert_eq!(
            phase(pod.spec.as_ref().unwrap(), &state),
            wanted,
            "{policy} {state:?}"
        );
    }
}

#[test]
fn a_deleted_pod_ends_by_its_exit_codes() {
    let mut state = memo(&[("a", ended(0))]);
    state.termination = Some(Termination {
        since: 0,
        grace_seconds: 30,
    });
    let pod = pod("Always", &["a"]);
    assert_eq!(phase(pod.spec.as_ref().unwrap(), &state), Phase::Succeeded);
    state.containers.insert("a".into(), ended(143));
    assert_eq!(phase(pod.spec.as_ref().unwrap(), &state), Phase::Failed);
}

#[test]
fn a_running_pod_is_ready_with_addresses() {
    let found = status(&pod("Always", &["a"]), &memo(&[("a", running())]));
    assert_eq!(found.phase.as_deref(), Some("Running"));
    assert_eq!(found.pod_ip.as_deref(), Some("10.244.0.7"));
    assert_eq!(condition(&found, "Ready"), ("True".into(), None));
    let container = &found.container_statuses.as_ref().unwrap()[0];
    assert!(container.ready && container.started == Some(true));
    assert_eq!(
        container.container_id.as_deref(),
        Some(format!("cloudeck://{}", id('a')).as_str())
    );
}

#[test]
fn an_unready_container_makes_the_pod_unready_by_name() {
    let known = ContainerMemo {
        ready: false,
        ..running()
    };
    let found = status(&pod("Always", &["a"]), &memo(&[("a", known)]));
    assert_eq!(
        condition(&found, "ContainersReady"),
        ("False".into(), Some("ContainersNotReady".into()))
    );
    let message = found
        .conditions
        .unwrap()
        .into_iter()
        .find(|c| c.type_ == "Ready")
        .unwrap()
        .message;
    assert_eq!(message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_readiness_gate_must_be_true() {
    let mut pod = pod("Always", &["a"]);
    pod.spec.as_mut().unwrap().readiness_gates = Some(vec![PodReadinessGate {
        condition_type: "x/y".into(),
    }]);
    let found = status(&pod, &memo(&[("a", running())]));
    assert_eq!(
        condition(&found, "Ready"),
        ("False".into(), Some("ReadinessGatesNotReady".into()))
    );
    assert_eq!(condition(&found, "ContainersReady").0, "True");
}

#[test]
fn a_back_off_shows_as_waiting_with_the_end_as_last_state() {
    let mut known = ended(1);
    known.waiting = Some(Waiting {
        reason: "CrashLoopBackOff".into(),
        message: "m".into(),
    });
    let found = status(&pod("Always", &["a"]), &memo(&[("a", known)]));
    let container = &found.container_statuses.unwrap()[0];
    let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
}

#[test]
fn transition_times_hold_while_nothing_changes_and_foreign_conditions_stay() {
    let mut pod = pod("Always", &["a"]);
    let mut first = status(&pod, &memo(&[("a", running())]));
    let foreign = PodCondition {
        type_: "x/y".into(),
        status: "True".into(),
        ..PodCondition::default()
    };
    first.conditions.as_mut().unwrap().push(foreign);
    pod.status = Some(first);
    let context = StatusContext {
        host_ip: "192.0.2.2".parse().unwrap(),
        host_network: false,
    };
    let later = generate(&pod, &memo(&[("a", running())]), &context, 99_000);
    let ready = later
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.last_transition_time.as_ref().unwrap().0.as_second(), 10);
    assert_eq!(condition(&later, "x/y").0, "True");
}

#[test]
fn a_late_pod_fails_with_its_reason_once_nothing_lives() {
    let context = StatusContext {
        host_ip: "10.0.0.1".parse().unwrap(),
        host_network: false,
    };
    let status = |known: ContainerMemo| {
        let mut memo = PodMemo {
            deadline_exceeded: true,
            ..PodMemo::default()
        };
        memo.containers.insert("c".into(), known);
        let status = generate(&pod("Always", &["c"]), &memo, &context, 5000);
        (status.phase.unwrap(), status.reason)
    };
    assert_eq!(status(running()), ("Running".into(), None));
    assert_eq!(
        status(ended(143)),
        ("Failed".into(), Some("DeadlineExceeded".into()))
    );
}

#[test]
fn a_terminal_status_met_in_the_api_is_the_last_word() {
    let context = StatusContext {
        host_ip: "10.0.0.1".parse().unwrap(),
        host_network: false,
    };
    let mut pod = pod("Always", &["c"]);
    let before = PodStatus {
        phase: Some("Failed".into()),
        reason: Some("OutOfcpu".into()),
        ..PodStatus::default()
    };
    pod.status = Some(before.clone());
    let memo = PodMemo {
        status_is_final: true,
        settled_phase: Some(Phase::Failed),
        ..PodMemo::default()
    };
    assert_eq!(generate(&pod, &memo, &context, 5000), before);
}

#[test]
fn containers_that_never_ran_are_reported_as_failed_in_the_end() {
    let mut state = memo(&[("a", ended(0))]);
    state.termination = Some(Termination {
        since: 0,
        grace_seconds: 30,
    });
    state.cleaned = true;
    let found = status(&pod("Always", &["a", "b"]), &state);
    assert_eq!(found.phase.as_deref(), Some("Failed"));
    let end = |at: usize| {
        let state = found.container_statuses.as_ref().unwrap()[at].state.clone();
        let end = state.unwrap().terminated.unwrap();
        (end.exit_code, end.reason.unwrap())
    };
    assert_eq!(end(0), (0, "Completed".to_owned()));
    assert_eq!(end(1), (137, "ContainerStatusUnknown".to_owned()));
}

#[test]
fn containers_of_a_pod_that_was_never_initialised_stay_waiting_in_the_end() {
    let mut pod = pod("Always", &["a"]);
    let init = ["i", "j"].map(|name| Container {
        name: name.into(),
        ..Container::default()
    });
    pod.spec.as_mut().unwrap().init_containers = Some(init.to_vec());
    let state = PodMemo {
        cleaned: true,
        ..memo(&[])
    };
    let found = status(&pod, &state);
    let waits = |status: &ContainerStatus| status.state.as_ref().unwrap().waiting.is_some();
    assert!(waits(&found.container_statuses.unwrap()[0]));
    let init = found.init_container_statuses.unwrap();
    // The first one may have begun for all that is known.
    assert_eq!((waits(&init[0]), waits(&init[1])), (false, true));
    let waiting = init[1].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn nothing_waits_for_a_next_attempt_in_a_pod_that_ends() {
    let mut known = ended(1);
    known.waiting = Some(Waiting {
        reason: "CrashLoopBackOff".into(),
        message: "m".into(),
    });
    let mut state = memo(&[("a", known)]);
    state.termination = Some(Termination {
        since: 0,
        grace_seconds: 30,
    });
    let found = status(&pod("Always", &["a"]), &state);
    let container = &found.container_statuses.unwrap()[0];
    assert!(container.state.as_ref().unwrap().terminated.is_some());
}

#[test]
fn mounts_and_resources_are_reported_as_they_hold() {
    let mut pod = pod("Always", &["a"]);
    let json = serde_json::json!({
        "name": "a", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}},
        "volumeMounts": [
            {"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w", "readOnly": true},
            {"name": "x", "mountPath": "/x", "readOnly": true, "recursiveReadOnly": "IfPossible"}
        ]
    });
    pod.spec.as_mut().unwrap().containers = vec![serde_json::from_value(json).unwrap()];
    let found = status(&pod, &memo(&[("a", running())]));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["allocatedResources"], serde_json::json!({"cpu": "100m"}));
    assert_eq!(json["resources"]["limits"], serde_json::json!({"cpu": "200m"}));
    let container = &json["containerStatuses"][0];
    assert_eq!(
        container["allocatedResources"],
        serde_json::json!({"cpu": "100m"})
    );
    let mounts = serde_json::json!([
        {"name": "v", "mountPath": "/v"},
        {"name": "w", "mountPath": "/w", "readOnly": true, "recursiveReadOnly": "Disabled"},
        {"name": "x", "mountPath": "/x", "readOnly": true, "recursiveReadOnly": "Enabled"}
    ]);
    assert_eq!(container["volumeMounts"], mounts);
}
