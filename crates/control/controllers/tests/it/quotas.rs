use cloudeck_machinery::{GroupVersionResource, Value};

use crate::bench::{Bench, config_maps, pods};

fn quotas() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "resourcequotas")
}

fn pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"containers":[
        {{"name":"c","image":"i","resources":{{"requests":{{"cpu":"250m"}}}}}}]}}}}"#
    )
}

#[tokio::test]
async fn a_quota_tells_what_is_used_as_it_comes_and_goes() {
    let bench = Bench::start().await;
    bench.create(&pods(), &pod("first")).await;
    let hard = r#"{"pods":"5","requests.cpu":"2","count/configmaps":"9","count/deployments.apps":"3"}"#;
    bench
        .create(
            &quotas(),
            &format!(r#"{{"apiVersion":"v1","kind":"ResourceQuota","metadata":{{"name":"q"}},"spec":{{"hard":{hard}}}}}"#),
        )
        .await;
    let uses = |pods: &'static str, cpu: &'static str, maps: &'static str| {
        move |quota: &Value| {
            let used = |name| quota.str_at(&["status", "used", name]);
            used("pods") == Some(pods)
                && used("requests.cpu") == Some(cpu)
                && used("count/configmaps") == Some(maps)
                && used("count/deployments.apps") == Some("0")
                && quota.at(&["status", "hard"]) == quota.at(&["spec", "hard"])
        }
    };
    // The namespace's root certificate is a config map.
    bench
        .until_one(&quotas(), "q", "one pod", uses("1", "250m", "1"))
        .await;
    bench.create(&pods(), &pod("second")).await;
    bench
        .create(
            &config_maps(),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}}"#,
        )
        .await;
    bench
        .until_one(&quotas(), "q", "two of each", uses("2", "500m", "2"))
        .await;
    bench
        .patch(&pods(), "second", "status", r#"{"status":{"phase":"Succeeded"}}"#)
        .await;
    bench
        .until_one(&quotas(), "q", "the end of one", uses("1", "250m", "2"))
        .await;
    bench.delete(&config_maps(), "m", &Value::Null).await;
    bench.delete(&pods(), "first", &Value::Null).await;
    bench
        .until_one(&quotas(), "q", "the rest", uses("0", "0", "1"))
        .await;
    bench.stop().await;
}
