//! Nodes that have the pod's images already are better.

use super::{NodeScore, Plugin};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};

/// Upstream's bounds: what is smaller does not matter, and per container what is larger matters no more.
const SMALLEST_BYTES: i64 = 23 << 20;
const LARGEST_BYTES: i64 = 1000 << 20;

#[derive(Debug)]
pub(super) struct ImageLocality;

struct Images<'a> {
    /// Each image of the pod that any node has, with the share of nodes that have it: images that few nodes have
    /// count for less, so that not every pod goes to those.
    wanted: Vec<(&'a str, f64)>,
    largest: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        cache: &'a Cache,
        _: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let nodes = cache.nodes().len() as f64;
        let there = pod.images.iter().filter_map(|image| {
            let having = cache.nodes_with_image(image);
            (having > 0).then_some((image.as_str(), having as f64 / nodes))
        });
        let wanted: Vec<_> = there.collect();
        let images = i64::try_from(pod.images.len()).unwrap_or(1);
        (!wanted.is_empty()).then(|| {
            Box::new(Images {
                wanted,
                largest: LARGEST_BYTES * images,
            }) as _
        })
    }
}

impl NodeScore for Images<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let sizes = self.wanted.iter().filter_map(|(image, share)| {
            let size = node.image(image)?;
            Some((size as f64 * share) as i64)
        });
        let sum = sizes.sum::<i64>().clamp(SMALLEST_BYTES, self.largest);
        100 * (sum - SMALLEST_BYTES) / (self.largest - SMALLEST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::cache_of;
    use crate::model::tests::pod;

    #[test]
    fn a_large_image_counts_by_the_share_of_nodes_that_have_it() {
        let with = |mib: i64| {
            format!(
                r#"{{"status":{{"allocatable":{{"cpu":"2","pods":"9"}},"images":[{{"names":["i:latest"],"sizeBytes":{}}}]}}}}"#,
                mib << 20
            )
        };
        let cache = cache_of(&[("a", &with(523)), ("b", &with(523)), ("c", "{}"), ("d", "{}")]);
        let wanting = pod(r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
        let nodes: Vec<_> = cache.nodes().collect();
        let scores = ImageLocality.score(&wanting, &cache, &nodes).unwrap();
        // Half of 523 MiB, less 23, of 977.
        let found: Vec<i64> = nodes.iter().map(|node| scores.score(node)).collect();
        assert_eq!(found, [24, 24, 0, 0]);
        let other = pod(r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"j"}]}}"#);
        assert!(ImageLocality.score(&other, &cache, &nodes).is_none());
    }
}
