//! From what a person writes (`deploy`, `pods/x`) to a resource.

use anyhow::{Context, Result, bail};
use cloudeck_machinery::{GroupVersionResource, object::split_api_version};
use cloudeck_schema::ResourceInfo;

/// The resource named by plural, singular, kind, short name, or `plural.group`.
pub fn resource(word: &str) -> Result<&'static ResourceInfo> {
    let lower = word.to_lowercase();
    let (name, group) = lower
        .split_once('.')
        .map_or((lower.as_str(), None), |(name, group)| (name, Some(group)));
    let matches = |info: &&ResourceInfo| {
        let named = info.plural == name
            || info.singular == name
            || info.kind.to_lowercase() == name
            || info.short_names.contains(&name);
        named && group.is_none_or(|group| info.group == group)
    };
    let found = cloudeck_schema::resources().find(matches);
    found.with_context(|| format!("there is no resource {word:?}; `kubectl api-resources` lists them"))
}

/// The resource of a kind.
pub fn of_kind(api_version: &str, kind: &str) -> Result<&'static ResourceInfo> {
    let (group, version) = split_api_version(api_version);
    cloudeck_schema::resource_by_kind(group, version, kind)
        .with_context(|| format!("the cluster has no kind {kind} in {api_version}"))
}

pub fn address(info: &ResourceInfo) -> GroupVersionResource {
    GroupVersionResource::new(info.group, info.version, info.plural)
}

/// `pods`, `pods x`, `pods/x`.
pub fn target(words: &[String]) -> Result<(&'static ResourceInfo, Option<String>)> {
    match words {
        [one] => match one.split_once('/') {
            Some((kind, name)) => Ok((resource(kind)?, Some(name.to_owned()))),
            None => Ok((resource(one)?, None)),
        },
        [kind, name] => Ok((resource(kind)?, Some(name.clone()))),
        _ => bail!("give a resource, RESOURCE/NAME, or RESOURCE NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_many_names() {
        for word in ["po", "pod", "pods", "Pod"] {
            assert_eq!(resource(word).unwrap().plural, "pods");
        }
        assert_eq!(resource("deployments.apps").unwrap().group, "apps");
        assert_eq!(resource("ev").unwrap().group, "");
        assert!(resource("nonsense").is_err());
        let (info, name) = target(&["deploy/x".to_owned()]).unwrap();
        assert_eq!((info.kind, name.as_deref()), ("Deployment", Some("x")));
    }
}
