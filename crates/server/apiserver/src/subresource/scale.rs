//! `…/scale`: replicas of whatever has them, in one shape.

use cloudeck_client::{Response, Verb};
use cloudeck_machinery::selector::LabelSelector;
use cloudeck_machinery::{Cause, CauseType, Status, Value, value};
use cloudeck_schema::TypeRef;

use super::{body, reply};
use crate::registry::decode::{self, Expected};
use crate::registry::patch::Patch;
use crate::registry::update::{self, Change};
use crate::registry::{Call, meta, read};

const API_VERSION: &str = "autoscaling/v1";

pub(super) async fn answer(call: &mut Call<'_>) -> Result<Response, Status> {
    let ty = cloudeck_schema::type_of_kind("autoscaling", "v1", "Scale")
        .ok_or_else(|| Status::internal("no schema of Scale"))?;
    match call.request.verb {
        Verb::Get => read::at_least(call.core, &call.request.params.resource_version).await?,
        Verb::Update => {
            let (mut scale, _) = body(call, API_VERSION, "Scale")?;
            update::match_name(call, &mut scale)?;
            meta::match_namespace(call, &mut scale)?;
            update::run(
                call,
                &Rescale {
                    ty,
                    wish: Wish::Whole(scale),
                },
            )
            .await?;
        }
        Verb::Patch => {
            let patch = Patch::read(&call.request.body)?;
            update::run(
                call,
                &Rescale {
                    ty,
                    wish: Wish::Patch(patch),
                },
            )
            .await?;
        }
        _ => return Err(crate::server::no_such_resource()),
    }
    let object = call.current()?;
    Ok(reply(
        ty,
        &scale_of(&call.view.tree(&object), call.view.group()),
        200,
    ))
}

enum Wish {
    Whole(Value),
    Patch(Patch),
}

struct Rescale {
    ty: TypeRef,
    wish: Wish,
}

impl Change for Rescale {
    fn apply(&self, call: &mut Call<'_>, current: &Value) -> Result<Value, Status> {
        let scale = match &self.wish {
            Wish::Whole(scale) => scale.clone(),
            Wish::Patch(patch) => {
                let patched = patch.apply_to(self.ty, &scale_of(current, call.view.group()))?;
                decode::lenient_tree(
                    patched,
                    Expected {
                        api_version: API_VERSION,
                        kind: "Scale",
                        ty: self.ty,
                    },
                )?
            }
        };
        let replicas = scale.int_at(&["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
            let cause = Cause {
                cause: CauseType::Invalid,
                message,
                field: "spec.replicas".into(),
            };
            return Err(Status::invalid(
                "autoscaling",
                "Scale",
                &call.request.name,
                vec![cause],
            ));
        }
        let mut new = current.clone();
        new.set_at(&["spec", "replicas"], replicas);
        for checked in ["resourceVersion", "uid"] {
            if let Some(text) = scale
                .str_at(&["metadata", checked])
                .filter(|text| !text.is_empty())
            {
                new.set_at(&["metadata", checked], text);
            }
        }
        Ok(new)
    }
}

fn scale_of(object: &Value, group: &str) -> Value {
    let mut metadata = Value::object();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata.set_at(&[field], value.clone());
        }
    }
    let selector = match object.at(&["spec", "selector"]) {
        // A replication controller's selector is a plain map.
        Some(Value::Object(map)) if group.is_empty() => LabelSelector::from_map(Some(map)).to_string(),
        other => LabelSelector::from_value(other)
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
    };
    let count = |path: &[&str]| object.int_at(path).unwrap_or(0);
    let mut spec = Value::object();
    if count(&["spec", "replicas"]) != 0 {
        spec.set_at(&["replicas"], count(&["spec", "replicas"]));
    }
    let mut status = value!({"replicas": (count(&["status", "replicas"]))});
    if !selector.is_empty() {
        status.set_at(&["selector"], selector);
    }
    value!({"kind": "Scale", "apiVersion": (API_VERSION), "metadata": (metadata), "spec": (spec), "status": (status)})
}
