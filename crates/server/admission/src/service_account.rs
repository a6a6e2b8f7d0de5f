//! ServiceAccount: every pod runs as an account that exists, and finds its token at the usual place.

use std::sync::Arc;

use cloudeck_auth::named_by_pod;
use cloudeck_machinery::{Object, Value, value};

use crate::{AdmissionRequest, Awaited, Context, Operation, Plugin, Refusal, Remarks};

const DEFAULT_ACCOUNT: &str = "default";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// An hour and a bit: the number tells the server that such a token may live on with a warning.
const TOKEN_SECONDS: i64 = 3607;

pub(crate) struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is_for("", "pods") {
            return Ok(());
        }
        if is_mirror(&request.object) {
            return check_mirror(request);
        }
        if account_name(&request.object).is_empty() {
            request
                .object
                .set_at(&["spec", "serviceAccountName"], DEFAULT_ACCOUNT);
            request
                .object
                .set_at(&["spec", "serviceAccount"], DEFAULT_ACCOUNT);
        }
        let account = find_account(request, context)?;
        let account = account.kept_tree();
        if wants_token(account, &request.object) {
            mount_token(&mut request.object, &(context.random_suffix)());
        }
        let secrets = account.items_at(&["imagePullSecrets"]);
        if request.object.items_at(&["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            let names = secrets
                .iter()
                .map(|secret| value!({"name": (secret.str_at(&["name"]).unwrap_or_default())}));
            request
                .object
                .set_at(&["spec", "imagePullSecrets"], names.collect::<Vec<_>>());
        }
        Ok(())
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let creates = request.operation == Operation::Create && request.is_for("", "pods");
        let debugs =
            request.operation == Operation::Update && request.is_under("", "pods", "ephemeralcontainers");
        if !creates && !debugs {
            return Ok(());
        }
        if creates && is_mirror(&request.object) {
            return check_mirror(request);
        }
        if account_name(&request.object).is_empty() {
            let name = request.object.str_at(&["metadata", "name"]).unwrap_or_default();
            return Err(request.forbid(format!(
                "no service account specified for pod {}/{name}",
                request.namespace
            )));
        }
        let account = find_account(request, context)?;
        let account = account.kept_tree();
        let enforce = account
            .at(&["metadata", "annotations", ENFORCE_MOUNTABLE])
            .and_then(Value::as_str);
        if !matches!(enforce, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
            return Ok(());
        }
        let lists: &[(&str, &str)] = if creates {
            &[("initContainers", "init container"), ("containers", "container")]
        } else {
            &[("ephemeralContainers", "ephemeral container")]
        };
        match unlisted_secret(account, &request.object, lists, creates) {
            Some(why) => Err(request.forbid(why)),
            None => Ok(()),
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", "kubernetes.io/config.mirror"])
        .is_some()
}

fn account_name(pod: &Value) -> &str {
    pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default()
}

fn check_mirror(request: &AdmissionRequest<'_>) -> Result<(), Refusal> {
    let pod = &request.object;
    if !account_name(pod).is_empty() {
        return Err(request.forbid("a mirror pod may not reference service accounts"));
    }
    if named_by_pod(pod)
        .iter()
        .any(|(resource, _)| *resource == "secrets")
    {
        return Err(request.forbid("a mirror pod may not reference secrets"));
    }
    let volumes = pod.items_at(&["spec", "volumes"]).iter();
    let mut sources = volumes.flat_map(|volume| volume.items_at(&["projected", "sources"]));
    if sources.any(|source| {
        source
            .get("serviceAccountToken")
            .is_some_and(|token| !token.is_null())
    }) {
        return Err(request.forbid("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn find_account(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Result<Arc<Object>, Refusal> {
    let (namespace, name) = (request.namespace, account_name(&request.object));
    if let Some(account) = context.reader.get("", "serviceaccounts", namespace, name) {
        return Ok(account);
    }
    let mut refusal = request.forbid(format!(
        "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
    ));
    // The controller makes the default account of a new namespace in a moment.
    refusal.awaits = (name == DEFAULT_ACCOUNT).then(|| Awaited {
        resource: "serviceaccounts",
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    });
    Err(refusal)
}

fn wants_token(account: &Value, pod: &Value) -> bool {
    let of_pod = pod.bool_at(&["spec", "automountServiceAccountToken"]);
    of_pod
        .or_else(|| account.bool_at(&["automountServiceAccountToken"]))
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value, suffix: &str) {
    let volumes = pod.items_at(&["spec", "volumes"]).iter();
    let existing = volumes
        .filter_map(|volume| volume.str_at(&["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX));
    let has_volume = existing.is_some();
    let name = existing.map_or_else(|| format!("{VOLUME_PREFIX}{suffix}"), str::to_owned);
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = pod.at_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut mounts = container.items_at(&["volumeMounts"]).to_vec();
            if mounts
                .iter()
                .any(|mount| mount.str_at(&["mountPath"]) == Some(TOKEN_PATH))
            {
                continue;
            }
            mounts.push(value!({"mountPath": (TOKEN_PATH), "name": (name.as_str()), "readOnly": true}));
            container.set_at(&["volumeMounts"], mounts);
            needed = true;
        }
    }
    if needed && !has_volume {
        let mut volumes = pod.items_at(&["spec", "volumes"]).to_vec();
        volumes.push(token_volume(&name));
        pod.set_at(&["spec", "volumes"], volumes);
    }
}

fn token_volume(name: &str) -> Value {
    value!({
        "name": (name),
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": (TOKEN_SECONDS), "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [
                    {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}
                ]}}
            ]
        }
    })
}

/// The first secret that the pod uses and its account does not list. `whole` also looks at volumes and pull secrets.
fn unlisted_secret(account: &Value, pod: &Value, lists: &[(&str, &str)], whole: bool) -> Option<String> {
    let name = account.str_at(&["metadata", "name"]).unwrap_or_default();
    let listed = |list: &str, secret: &str| {
        account
            .items_at(&[list])
            .iter()
            .any(|entry| entry.str_at(&["name"]) == Some(secret))
    };
    let why = |what: String, kind: &str| {
        Some(format!(
            "{what} is not allowed because service account {name} does not reference that {kind}"
        ))
    };
    for volume in pod.items_at(&["spec", "volumes"]).iter().filter(|_| whole) {
        if let Some(secret) = volume
            .str_at(&["secret", "secretName"])
            .filter(|secret| !listed("secrets", secret))
        {
            return why(format!("volume with secret.secretName=\"{secret}\""), "secret");
        }
    }
    for (list, word) in lists {
        for container in pod.items_at(&["spec", list]) {
            let container_name = container.str_at(&["name"]).unwrap_or_default();
            for variable in container.items_at(&["env"]) {
                let secret = variable.str_at(&["valueFrom", "secretKeyRef", "name"]);
                if let Some(secret) = secret.filter(|secret| !listed("secrets", secret)) {
                    let variable = variable.str_at(&["name"]).unwrap_or_default();
                    let what = format!(
                        "{word} {container_name} with envVar {variable} referencing secret.secretName=\"{secret}\""
                    );
                    return why(what, "secret");
                }
            }
            for source in container.items_at(&["envFrom"]) {
                if let Some(secret) = source
                    .str_at(&["secretRef", "name"])
                    .filter(|secret| !listed("secrets", secret))
                {
                    let what = format!(
                        "{word} {container_name} with envFrom referencing secret.secretName=\"{secret}\""
                    );
                    return why(what, "secret");
                }
            }
        }
    }
    for (at, secret) in pod
        .items_at(&["spec", "imagePullSecrets"])
        .iter()
        .enumerate()
        .filter(|_| whole)
    {
        let secret = secret.str_at(&["name"]).unwrap_or_default();
        if !listed("imagePullSecrets", secret) {
            return why(
                format!("imagePullSecrets[{at}].name=\"{secret}\""),
                "imagePullSecret",
            );
        }
    }
    None
}

#[cfg(test)]
mod tests;
