use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::*;

fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
    let amounts = |pairs: &[(&str, &str)]| -> Amounts {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), ApiQuantity((*value).to_owned())))
            .collect()
    };
    let resources = ResourceRequirements {
        requests: Some(amounts(requests)),
        limits: Some(amounts(limits)),
        ..Default::default()
    };
    Container {
        name: "c".into(),
        resources: Some(resources),
        ..Container::default()
    }
}

fn pod(container: Container) -> Pod {
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    pod.metadata.uid = Some("u".into());
    pod
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    for (requests, limits, wanted) in [
        (&[][..], &[][..], Qos::BestEffort),
        (&[("cpu", "1")][..], &[][..], Qos::Burstable),
        (&[][..], &[("cpu", "1"), ("memory", "1Gi")][..], Qos::Guaranteed),
        (
            &[("cpu", "500m"), ("memory", "1Gi")][..],
            &[("cpu", "1"), ("memory", "1Gi")][..],
            Qos::Burstable,
        ),
    ] {
        assert_eq!(
            qos(&pod(container(requests, limits))),
            wanted,
            "{requests:?} {limits:?}"
        );
    }
}

#[test]
fn amounts_become_limits_of_the_kernel() {
    let found = container_resources(
        container(&[("cpu", "250m")], &[("cpu", "1500m"), ("memory", "64Mi")])
            .resources
            .as_ref(),
    );
    assert_eq!(found.cpu_shares, Some(256));
    assert_eq!(
        (found.cpu_quota, found.cpu_period),
        (Some(150_000), Some(100_000))
    );
    assert_eq!(found.memory_limit_bytes, Some(64 << 20));
    assert_eq!(container_resources(None).cpu_shares, Some(2));
}

#[test]
fn oom_scores_follow_the_class() {
    let gib = 1 << 30;
    let score = |c: Container| oom_score_adj(&pod(c.clone()), &c, 4 * gib);
    assert_eq!(score(container(&[], &[])), 1000);
    assert_eq!(score(container(&[], &[("cpu", "1"), ("memory", "1Gi")])), -997);
    assert_eq!(score(container(&[("memory", "1Gi")], &[])), 750);
    assert_eq!(score(container(&[("cpu", "1")], &[])), 999);
}

#[test]
fn command_and_args_take_the_image_s_place() {
    let image = ImageFacts {
        entrypoint: vec!["e".into()],
        cmd: vec!["c".into()],
        ..ImageFacts::default()
    };
    let words = |list: &[&str]| Some(list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let argv_of = |command: Option<Vec<String>>, args: Option<Vec<String>>| {
        let container = Container {
            command,
            args,
            ..Container::default()
        };
        argv(&container, &image, &["A=1".to_owned()])
    };
    assert_eq!(argv_of(None, None), ["e", "c"]);
    assert_eq!(argv_of(None, words(&["$(A)"])), ["e", "1"]);
    assert_eq!(argv_of(words(&["x", "$$(A)"]), None), ["x", "$(A)"]);
    assert_eq!(argv_of(words(&["x"]), words(&["y"])), ["x", "y"]);
}

#[test]
fn the_pod_s_environment_stands_above_the_image_s() {
    let merged = merge_env(
        &["PATH=/bin".into(), "A=0".into()],
        vec!["A=1".into(), "B=2".into()],
    );
    assert_eq!(merged, ["PATH=/bin", "A=1", "B=2"]);
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    let shared = PodSecurityContext {
        run_as_non_root: Some(true),
        ..PodSecurityContext::default()
    };
    let spec = PodSpec {
        security_context: Some(shared),
        ..PodSpec::default()
    };
    let plain = Container {
        name: "c".into(),
        ..Container::default()
    };
    let check = |user: &str| check_non_root(&spec, &plain, user, "p_n(u)").map_err(|e| e.to_string());
    assert_eq!(
        check("").unwrap_err(),
        "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
    );
    assert!(check("0").is_err() && check("nginx").unwrap_err().contains("non-numeric user (nginx)"));
    assert_eq!(check("1000:1000"), Ok(()));
    let root = SecurityContext {
        run_as_user: Some(0),
        ..SecurityContext::default()
    };
    let container = Container {
        security_context: Some(root),
        ..plain.clone()
    };
    assert!(check_non_root(&spec, &container, "1000", "p").is_err());
}
