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

/// A socket whose kernel says a piece of news around its answer, and between the answer and the acknowledgement: the
/// real one does so when the change waited for the lock under which it answered.
fn amid_news() -> (NetlinkSocket, std::os::unix::net::UnixDatagram) {
    let (fd, kernel) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let say = |kind: u16, sequence: u32, payload: &[u8]| {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        kernel.send(&bytes).unwrap();
    };
    say(libc::RTM_NEWLINK, 0, b"old.");
    say(libc::RTM_NEWLINK, 1, b"mine");
    say(libc::RTM_NEWLINK, 0, b"new.");
    say(libc::NLMSG_ERROR as u16, 1, &[0; 20]);
    let socket = NetlinkSocket {
        fd: fd.into(),
        next_sequence: 1,
        buffer: vec![0; 4096],
    };
    (socket, kernel)
}

fn link_request() -> Requests {
    let mut requests = Requests::new();
    requests.push(libc::RTM_GETLINK, 0, &[0; 16], |_| {});
    requests
}

#[test]
fn only_the_answer_is_handed_over() {
    let (mut socket, _kernel) = amid_news();
    let mut heard = Vec::new();
    let each = |message: &Message<'_>| {
        heard.push(message.payload.to_vec());
        Ok(())
    };
    socket.get(link_request(), each).unwrap();
    assert_eq!(heard, [b"mine"]);
}

#[test]
fn who_hears_news_misses_none_while_asking() {
    let (mut socket, _kernel) = amid_news();
    let mut heard = Vec::new();
    let each = |message: &Message<'_>| {
        heard.push(message.payload.to_vec());
        Ok(())
    };
    socket.get_amid_news(link_request(), each).unwrap();
    assert_eq!(heard, [b"old.", b"mine", b"new."]);
}
