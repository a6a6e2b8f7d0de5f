use proptest::prelude::*;

use super::*;

fn pool(range: &str) -> Pool {
    Pool::new(range.parse().unwrap(), None)
}

#[test]
fn the_first_pod_gets_the_second_address() {
    assert_eq!(pool("10.244.0.0/24").allocate(), Ok(Ipv4Addr::new(10, 244, 0, 2)));
}

#[test]
fn a_range_without_room_is_exhausted_and_not_a_panic() {
    for range in ["10.0.0.0/32", "10.0.0.0/31", "255.255.255.254/31"] {
        assert!(
            matches!(pool(range).allocate(), Err(AllocateError::Exhausted(_))),
            "{range}"
        );
    }
    assert_eq!(pool("10.0.0.0/30").capacity(), 1);
}

#[test]
fn reserved_and_foreign_addresses_cannot_be_claimed() {
    let mut pool = pool("10.244.0.0/24");
    for last in [0, 1, 255] {
        let claimed = pool.claim(Ipv4Addr::new(10, 244, 0, last));
        assert!(matches!(claimed, Err(AllocateError::Unusable { .. })), "{last}");
    }
    assert!(pool.claim(Ipv4Addr::new(10, 245, 0, 9)).is_err());
}

#[test]
fn a_new_life_goes_on_after_the_last_address_of_the_old() {
    let mut old = pool("10.244.0.0/24");
    let last = (0..7).map(|_| old.allocate().unwrap()).last().unwrap();
    let mut new = Pool::new("10.244.0.0/24".parse().unwrap(), Some(last));
    assert_eq!(u32::from(new.allocate().unwrap()), u32::from(last) + 1);
}

#[derive(Debug, Clone)]
enum Step {
    Allocate,
    Release(usize),
    Claim(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Allocate),
        2 => any::<usize>().prop_map(Step::Release),
        1 => any::<u8>().prop_map(Step::Claim),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn no_address_has_two_owners_and_none_is_lost(steps in steps()) {
        let mut pool = pool("10.1.2.0/28");
        let mut held: BTreeSet<Ipv4Addr> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Allocate => match pool.allocate() {
                    Ok(address) => {
                        prop_assert!(held.insert(address), "{address} twice");
                        prop_assert!((2..=14).contains(&address.octets()[3]));
                    }
                    Err(error) => {
                        prop_assert!(matches!(error, AllocateError::Exhausted(_)));
                        prop_assert_eq!(held.len(), pool.capacity());
                    }
                },
                Step::Release(which) => {
                    if let Some(address) = held.iter().nth(which % held.len().max(1)).copied() {
                        held.remove(&address);
                        prop_assert!(pool.release(address));
                    }
                }
                Step::Claim(last) => {
                    let address = Ipv4Addr::new(10, 1, 2, last);
                    if pool.claim(address).is_ok() {
                        prop_assert!(held.insert(address));
                    }
                }
            }
        }
    }

    #[test]
    fn a_released_address_comes_up_only_after_all_other_free_ones(used in 0usize..12, which in any::<usize>()) {
        let mut pool = pool("10.1.2.0/28");
        let held: Vec<_> = (0..=used).map(|_| pool.allocate().unwrap()).collect();
        let released = held[which % held.len()];
        pool.release(released);
        let free = pool.capacity() - used;
        for _ in 1..free {
            prop_assert_ne!(pool.allocate().unwrap(), released);
        }
        prop_assert_eq!(pool.allocate(), Ok(released));
    }
}
