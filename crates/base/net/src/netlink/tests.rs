use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Leaf(u16, Vec<u8>),
    Nest(u16, Vec<Tree>),
}

fn trees() -> impl Strategy<Value = Vec<Tree>> {
    let leaf = (0u16..0x3fff, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(k, v)| Tree::Leaf(k, v));
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        (0u16..0x3fff, prop::collection::vec(inner, 1..4)).prop_map(|(k, v)| Tree::Nest(k, v))
    });
    prop::collection::vec(tree, 0..6)
}

fn write(trees: &[Tree], writer: &mut AttributeWriter<'_>) {
    for tree in trees {
        match tree {
            Tree::Leaf(kind, value) => writer.bytes(*kind, value),
            Tree::Nest(kind, children) => writer.nest(*kind, |inner| write(children, inner)),
        };
    }
}

/// Reads with the shape of `like`: only the author of a message knows what is nested.
fn read(attributes: Attributes<'_>, like: &[Tree]) -> Vec<Tree> {
    attributes
        .zip(like)
        .map(|(attribute, like)| {
            let attribute = attribute.unwrap();
            match like {
                Tree::Leaf(..) => Tree::Leaf(attribute.kind, attribute.value.to_vec()),
                Tree::Nest(_, children) => Tree::Nest(attribute.kind, read(attribute.nested(), children)),
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(trees in trees(), kind in any::<u16>()) {
        let mut requests = Requests::new();
        requests.push(kind, 0, &[7; 12], |w| write(&trees, w));
        requests.push(kind, 0, &[], |_| {});
        let (bytes, sequenced) = requests.numbered(u32::MAX);
        let messages: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(messages.len(), 2);
        prop_assert_eq!(sequenced.index_of(messages[0].sequence), Some(0));
        prop_assert_eq!(sequenced.index_of(messages[1].sequence), Some(1));
        let (header, attributes) = messages[0].split::<12>().unwrap();
        prop_assert_eq!(header, &[7; 12]);
        prop_assert_eq!(read(attributes, &trees), trees);
    }

    #[test]
    fn no_bytes_make_the_parser_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut seen = 0;
        for message in Messages::new(&bytes) {
            seen += 1;
            let Ok(message) = message else { break };
            let _ = message.acknowledgement();
            for attribute in Attributes::new(message.payload) {
                let Ok(attribute) = attribute else { break };
                let _ = (attribute.u32(), attribute.text(), attribute.nested().count());
            }
        }
        prop_assert!(seen <= bytes.len() / 4 + 1);
    }

    #[test]
    fn a_cut_message_is_an_error_and_not_a_shorter_one(trees in trees(), cut in 1usize..16) {
        let mut requests = Requests::new();
        requests.push(1, 0, &[0; 4], |w| write(&trees, w));
        let (bytes, _) = requests.numbered(1);
        let cut = cut.min(bytes.len() - 1);
        let messages: Vec<_> = Messages::new(&bytes[..bytes.len() - cut]).collect();
        prop_assert!(messages.iter().any(Result::is_err));
    }
}

#[test]
fn a_zero_length_ends_the_iteration() {
    assert_eq!(Messages::new(&[0; 64]).count(), 1);
    assert_eq!(Attributes::new(&[0; 64]).count(), 1);
}
