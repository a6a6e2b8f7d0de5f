//! Which objects a quota is about.

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::qos;

/// The scopes of a quota. Only pods and claims are ever in one.
pub struct Scopes(Vec<Scope>);

struct Scope {
    name: CompactString,
    operator: CompactString,
    values: Vec<CompactString>,
}

impl Scopes {
    /// Those of a quota.
    pub fn of(quota: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(CompactString::from);
        let plain = quota.items_at(&["spec", "scopes"]).iter().filter_map(text);
        let plain = plain.map(|name| Scope {
            name,
            operator: "Exists".into(),
            values: Vec::new(),
        });
        let selected = quota.items_at(&["spec", "scopeSelector", "matchExpressions"]);
        let selected = selected.iter().map(|expression| {
            let field = |name| expression.str_at(&[name]).unwrap_or_default().into();
            Scope {
                name: field("scopeName"),
                operator: field("operator"),
                values: expression.items_at(&["values"]).iter().filter_map(text).collect(),
            }
        });
        Self(plain.chain(selected).collect())
    }

    /// Whether the object is in all of them.
    pub fn hold(&self, group: &str, plural: &str, object: &Value) -> bool {
        self.0.iter().all(|scope| match (group, plural) {
            ("", "pods") => scope.holds_pod(object),
            ("", "persistentvolumeclaims") => {
                let class = object.str_at(&["spec", "volumeAttributesClassName"]);
                scope.name == "VolumeAttributesClass" && scope.selects(class)
            }
            _ => false,
        })
    }
}

impl Scope {
    fn holds_pod(&self, pod: &Value) -> bool {
        match self.name.as_str() {
            "Terminating" => has_deadline(pod),
            "NotTerminating" => !has_deadline(pod),
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "CrossNamespacePodAffinity" => reaches_elsewhere(pod),
            "PriorityClass" => self.selects(pod.str_at(&["spec", "priorityClassName"])),
            _ => false,
        }
    }

    fn selects(&self, class: Option<&str>) -> bool {
        let class = class.filter(|class| !class.is_empty());
        let listed = class.is_some_and(|class| self.values.iter().any(|value| value == class));
        match self.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => class.is_some(),
            "DoesNotExist" => class.is_none(),
            _ => false,
        }
    }
}

/// Whether a pod ends by itself, which parts the two scopes that a pod may change between.
pub fn has_deadline(pod: &Value) -> bool {
    pod.int_at(&["spec", "activeDeadlineSeconds"])
        .is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    let told = pod
        .str_at(&["status", "qosClass"])
        .filter(|class| !class.is_empty());
    told.unwrap_or_else(|| qos::class(pod)) == "BestEffort"
}

/// Whether a term of affinity names or selects namespaces.
fn reaches_elsewhere(pod: &Value) -> bool {
    let reaches = |term: &Value| {
        !term.items_at(&["namespaces"]).is_empty() || term.at(&["namespaceSelector"]).is_some()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when| pod.items_at(&["spec", "affinity", kind, when]).iter();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(reaches)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .filter_map(|wish| wish.at(&["podAffinityTerm"]))
                .any(reaches)
    })
}
