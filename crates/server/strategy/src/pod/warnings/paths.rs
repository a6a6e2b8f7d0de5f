//! Files of one volume that stand in each other's way.
//!
//! Source: `warningsForOverlappingVirtualPaths` in `pkg/api/pod/warnings.go`.

use cloudeck_machinery::{Map, Value};

use crate::check::{list, present, text};

/// A path within a volume, and what puts something there.
struct Place {
    path: String,
    by: String,
}

impl Place {
    fn new(path: &str, by: &str) -> Self {
        Self {
            path: path.trim_end_matches('/').to_owned(),
            by: by.to_owned(),
        }
    }

    fn shown(&self) -> String {
        if self.by.is_empty() {
            format!("{:?}", self.path)
        } else {
            format!("{:?} ({})", self.path, self.by)
        }
    }

    /// Whether they are the same, or one is within the other.
    fn overlaps(&self, other: &Self) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (own, other) = (self.path.as_str(), other.path.as_str());
        !own.is_empty() && !other.is_empty() && (within(own, other) || within(other, own))
    }
}

pub(super) fn overlapping(spec: &Value, found: &mut Vec<String>) {
    for volume in list(spec, "volumes") {
        let name = text(volume, "name");
        let named = |kind: &str, key: &str, word: &str| {
            let source = present(volume, kind)?;
            Some((source, format!("{word} {:?}", text(source, key))))
        };
        let plain = [
            named("configMap", "name", "ConfigMap"),
            named("secret", "secretName", "Secret"),
            present(volume, "downwardAPI").map(|source| (source, "DownwardAPI".to_owned())),
        ];
        for (source, shown) in plain.into_iter().flatten() {
            collide(items(source, ""), name, &shown, found);
        }
        if let Some(projected) = present(volume, "projected") {
            let mut places = Vec::new();
            for source in list(projected, "sources") {
                if source.as_object().is_none_or(Map::is_empty) {
                    found.push(format!("volume {name:?} (Projected) has no sources provided"));
                }
                places.extend(projection(source));
            }
            collide(places, name, "Projected", found);
        }
    }
}

fn items(source: &Value, by: &str) -> Vec<Place> {
    let items = list(source, "items").iter();
    items.map(|item| Place::new(text(item, "path"), by)).collect()
}

/// Of a source the first part that says something counts.
fn projection(source: &Value) -> Vec<Place> {
    let has_items = |kind: &str| present(source, kind).filter(|part| present(part, "items").is_some());
    if let Some(map) = has_items("configMap") {
        return items(map, &format!("ConfigMap {:?}", text(map, "name")));
    }
    if let Some(secret) = has_items("secret") {
        return items(secret, &format!("Secret {:?}", text(secret, "name")));
    }
    if let Some(fields) = has_items("downwardAPI") {
        return items(fields, "DownwardAPI");
    }
    if let Some(token) = present(source, "serviceAccountToken") {
        return vec![Place::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = present(source, "clusterTrustBundle") {
        let name = present(bundle, "name").or_else(|| present(bundle, "signerName"));
        let by = format!(
            "ClusterTrustBundle {:?}",
            name.and_then(Value::as_str).unwrap_or_default()
        );
        return vec![Place::new(text(bundle, "path"), &by)];
    }
    let Some(certificate) = present(source, "podCertificate") else {
        return Vec::new();
    };
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let parts = parts.map(|(field, by)| Place::new(text(certificate, field), by));
    parts.into_iter().filter(|place| !place.path.is_empty()).collect()
}

fn collide(places: Vec<Place>, volume: &str, shown: &str, found: &mut Vec<String>) {
    for (i, place) in places.iter().enumerate() {
        for other in places[..i].iter().filter(|other| place.overlaps(other)) {
            let (own, other) = (place.shown(), other.shown());
            found.push(format!(
                "volume {volume:?} ({shown}): overlapping paths: {own} with {other}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::tree;

    #[track_caller]
    fn check(volume: &str, expected: &[&str]) {
        let mut found = Vec::new();
        let spec = tree(&format!(r#"{{"volumes":[{{"name":"v",{volume}}}]}}"#));
        overlapping(&spec, &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn paths_that_are_the_same_or_within_each_other_overlap() {
        check(
            r#""configMap":{"name":"m","items":[{"key":"a","path":"x"},{"key":"b","path":"x/y"},{"key":"c","path":"xy"}]}"#,
            &[r#"volume "v" (ConfigMap "m"): overlapping paths: "x/y" with "x""#],
        );
        check(
            r#""secret":{"secretName":"s","items":[{"key":"a","path":"x/"},{"key":"b","path":"x"}]}"#,
            &[r#"volume "v" (Secret "s"): overlapping paths: "x" with "x""#],
        );
        check(r#""secret":{"secretName":"s"}"#, &[]);
    }

    #[test]
    fn sources_that_are_projected_together_overlap_too() {
        check(
            r#""projected":{"sources":[{},{"configMap":{"name":"m","items":[{"key":"a","path":"token"}]}},
                {"serviceAccountToken":{"path":"token"}}]}"#,
            &[
                r#"volume "v" (Projected) has no sources provided"#,
                r#"volume "v" (Projected): overlapping paths: "token" (ServiceAccountToken) with "token" (ConfigMap "m")"#,
            ],
        );
    }
}
