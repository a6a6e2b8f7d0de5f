use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn endpoints(range: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
    let endpoint = |n| Endpoint {
        address: Ipv4Addr::from(0x0af4_0000 + n),
        port: 8080,
    };
    range.into_iter().map(endpoint).collect()
}

fn counts(slots: &[Endpoint]) -> BTreeMap<Endpoint, usize> {
    slots.iter().fold(BTreeMap::new(), |mut counts, endpoint| {
        *counts.entry(*endpoint).or_default() += 1;
        counts
    })
}

#[test]
fn the_classes_keep_shares_even() {
    let class_of = |n| SizeClass::of(n).slots();
    assert_eq!([1, 2, 3, 4, 6, 12].map(class_of), [12; 6]);
    assert_eq!([5, 7, 24, 40, 60, 120].map(class_of), [120; 6]);
    assert_eq!([25, 100, 1000, 5000].map(class_of), [1200; 4]);
}

#[test]
fn no_endpoints_have_no_slots() {
    assert!(assign(&[]).is_empty());
}

#[test]
fn more_endpoints_than_slots_use_every_slot_for_another_one() {
    let slots = assign(&endpoints(0..1500));
    assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), 1200);
}

#[test]
fn an_endpoint_that_goes_moves_few_slots_of_the_others() {
    for count in [26_u32, 40, 80, 150] {
        let with = assign(&endpoints(0..count));
        let without = assign(&endpoints(1..count));
        let moved = with.iter().zip(&without).filter(|(a, b)| a != b).count();
        let unavoidable = 1200 / count as usize;
        assert!(
            moved <= 5 * unavoidable,
            "{moved} moved for {count}, {unavoidable} unavoidable"
        );
    }
}

proptest! {
    #[test]
    fn shares_differ_by_at_most_one(set in prop::collection::btree_set(0u32..5000, 1..90)) {
        let endpoints = endpoints(set.iter().copied());
        let counts = counts(&assign(&endpoints));
        prop_assert_eq!(counts.len(), endpoints.len());
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(most - least <= 1);
    }

    #[test]
    fn the_order_of_the_endpoints_does_not_matter(set in prop::collection::vec(0u32..5000, 1..40), turn in 0usize..40) {
        let set: BTreeSet<u32> = set.into_iter().collect();
        let sorted = endpoints(set.iter().copied());
        let mut turned = sorted.clone();
        turned.rotate_left(turn % sorted.len());
        prop_assert_eq!(assign(&sorted), assign(&turned));
    }
}
