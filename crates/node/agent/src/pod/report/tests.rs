use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};

use super::*;

pub(crate) fn id(digit: char) -> ContainerId {
    ContainerId::parse(&digit.to_string().repeat(64)).unwrap()
}

pub(crate) fn sandbox() -> SandboxId {
    SandboxId::parse(&"f".repeat(64)).unwrap()
}

fn pod() -> Pod {
    let container = Container {
        name: "c".into(),
        readiness_probe: Some(Probe::default()),
        ..Container::default()
    };
    Pod {
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn instance(attempt: u32) -> Instance {
    let state = InstanceState::Running { started_at: 1000 };
    Instance {
        id: id('a'),
        sandbox: sandbox(),
        attempt,
        state,
        image: String::new(),
        image_id: String::new(),
        user: None,
    }
}

fn after(reports: Vec<Report>) -> ContainerMemo {
    let mut memo = PodMemo::default();
    for report in reports {
        take(&mut memo, &pod(), report, 5000);
    }
    memo.containers.remove("c").unwrap_or_default()
}

fn exit(code: i32, at_ms: i64) -> Exit {
    Exit {
        code,
        signal: 0,
        oom: false,
        at_ns: at_ms * 1_000_000,
    }
}

#[test]
fn a_started_container_waits_for_its_readiness_probe() {
    let known = after(vec![Report::Started {
        name: "c".into(),
        instance: instance(0),
    }]);
    assert!(known.started && !known.ready && known.running().is_some());
    let probed = Report::Probed {
        name: "c".into(),
        id: id('a'),
        probe: ProbeKind::Readiness,
        passed: true,
    };
    assert!(
        after(vec![
            Report::Started {
                name: "c".into(),
                instance: instance(0)
            },
            probed
        ])
        .ready
    );
}

#[test]
fn news_of_another_instance_changes_nothing() {
    let probed = Report::Probed {
        name: "c".into(),
        id: id('b'),
        probe: ProbeKind::Liveness,
        passed: false,
    };
    assert!(
        !after(vec![
            Report::Started {
                name: "c".into(),
                instance: instance(0)
            },
            probed
        ])
        .unhealthy
    );
}

#[test]
fn the_first_restart_is_at_once_and_the_second_backs_off() {
    let start = |attempt| Report::Started {
        name: "c".into(),
        instance: instance(attempt),
    };
    let end = || Report::Exited {
        id: id('a'),
        exit: Some(exit(1, 2000)),
        message: String::new(),
    };
    assert_eq!(after(vec![start(0), end()]).crash_delay_ms, 0);
    assert_eq!(
        after(vec![start(0), end(), start(1), end()]).crash_delay_ms,
        10_000
    );
    assert_eq!(
        after(vec![start(0), end(), start(1), end(), start(2), end()]).crash_delay_ms,
        20_000
    );
}

#[test]
fn a_long_life_forgets_the_back_off() {
    let start = |attempt| Report::Started {
        name: "c".into(),
        instance: instance(attempt),
    };
    let end = |at| Report::Exited {
        id: id('a'),
        exit: Some(exit(1, at)),
        message: String::new(),
    };
    assert_eq!(
        after(vec![start(0), end(2000), start(1), end(700_000)]).crash_delay_ms,
        0
    );
}

#[test]
fn the_end_before_becomes_the_last_state() {
    let start = |attempt| Report::Started {
        name: "c".into(),
        instance: instance(attempt),
    };
    let end = Report::Exited {
        id: id('a'),
        exit: Some(exit(3, 2000)),
        message: "said".into(),
    };
    let known = after(vec![start(0), end, start(1)]);
    let previous = known.previous.unwrap();
    assert_eq!(
        (previous.code, previous.reason.as_str(), previous.message.as_str()),
        (3, "Error", "said")
    );
}

#[test]
fn an_unknown_end_is_reported_as_unknown() {
    let end = Report::Exited {
        id: id('a'),
        exit: None,
        message: String::new(),
    };
    let known = after(vec![
        Report::Started {
            name: "c".into(),
            instance: instance(0),
        },
        end,
    ]);
    let ended = known.ended().unwrap();
    assert_eq!(
        (ended.code, ended.reason.as_str()),
        (137, "ContainerStatusUnknown")
    );
}

#[test]
fn failed_starts_back_off_and_missing_configuration_is_looked_at_soon() {
    let fail = |reason: &str| Report::StartFailed {
        name: "c".into(),
        failure: StartFailure {
            reason: reason.into(),
            message: "m".into(),
            ended: None,
        },
    };
    assert_eq!(after(vec![fail("ErrImagePull")]).retry_at, Some(15_000));
    assert_eq!(
        after(vec![fail("ErrImagePull"), fail("ErrImagePull")]).retry_at,
        Some(25_000)
    );
    assert_eq!(
        after(vec![fail("CreateContainerConfigError")]).retry_at,
        Some(7_000)
    );
}

#[test]
fn a_program_that_cannot_run_counts_as_an_attempt() {
    let ended = Ended::from_exit(id('a'), 0, Some(exit(127, 1000)), String::new(), 0);
    let failed = Instance {
        state: InstanceState::Exited(ended),
        ..instance(0)
    };
    let failure = StartFailure {
        reason: "RunContainerError".into(),
        message: "m".into(),
        ended: Some(Box::new(failed)),
    };
    let known = after(vec![Report::StartFailed {
        name: "c".into(),
        failure,
    }]);
    assert_eq!(known.ended().unwrap().code, 127);
    assert_eq!(known.waiting.unwrap().reason, "RunContainerError");
}

#[test]
fn an_end_that_overtakes_its_start_is_not_lost() {
    let end = Report::Exited {
        id: id('a'),
        exit: Some(exit(3, 2000)),
        message: "said".into(),
    };
    let start = Report::Started {
        name: "c".into(),
        instance: instance(1),
    };
    let known = after(vec![end, start]);
    let ended = known.ended().unwrap();
    assert_eq!((ended.code, ended.message.as_str()), (3, "said"));
    assert_eq!(known.crash_delay_ms, 10_000);
}

#[test]
fn ends_that_nobody_asks_for_are_bounded() {
    let mut memo = PodMemo::default();
    for n in 0..100u32 {
        let id = ContainerId::parse(&format!("{n:064x}")).unwrap();
        let report = Report::Exited {
            id,
            exit: None,
            message: String::new(),
        };
        take(&mut memo, &pod(), report, 0);
    }
    assert_eq!(memo.early_exits.len(), 32);
    let last = ContainerId::parse(&format!("{:064x}", 99)).unwrap();
    assert!(memo.take_early_exit(&last).is_some());
}

#[test]
fn a_dead_sandbox_takes_its_containers_along_and_no_other_sandbox() {
    let mut memo = PodMemo {
        sandbox: SandboxMemo::Ready { id: sandbox() },
        ..PodMemo::default()
    };
    let started = Report::Started {
        name: "c".into(),
        instance: instance(0),
    };
    take(&mut memo, &pod(), started, 0);
    let died = |sandbox: SandboxId| Report::SandboxDied {
        id: sandbox,
        ends: vec![EarlyExit {
            id: id('a'),
            exit: None,
            message: String::new(),
        }],
    };
    let other = SandboxId::parse(&"e".repeat(64)).unwrap();
    take(&mut memo, &pod(), died(other), 5);
    assert_eq!(memo.sandbox, SandboxMemo::Ready { id: sandbox() });
    take(&mut memo, &pod(), died(sandbox()), 5);
    assert_eq!(memo.sandbox, SandboxMemo::Dead { id: sandbox() });
    assert_eq!(memo.containers["c"].ended().map(|end| end.code), Some(137));
}
