//! Bodies of answers: one piece, a list made on the fly, or a stream without end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use cloudeck_machinery::Object;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

/// Lists are sent in pieces of about this size: large enough to be cheap, small enough to be quick to begin.
const PIECE: usize = 128 << 10;

/// An answer's body.
pub(crate) enum EdgeBody {
    Full(Bytes),
    List(ListBody),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

/// The concatenation of an opening, the items' stored bytes without their first few (kind and apiVersion stand once in
/// the list), and a closing. Nothing is copied here: what encrypts reads the stored bytes themselves.
pub(crate) struct ListBody {
    opening: Bytes,
    items: std::vec::IntoIter<Arc<Object>>,
    /// Leading bytes of each item that are left out; replaced by `{`.
    skipped: usize,
    first: bool,
    closed: bool,
    left: u64,
}

const BEGIN_FIRST: Bytes = Bytes::from_static(b"{");
const BEGIN_NEXT: Bytes = Bytes::from_static(b",{");
const CLOSING: Bytes = Bytes::from_static(b"]}");

impl ListBody {
    pub(crate) fn new(opening: Bytes, items: Vec<Arc<Object>>, skipped: usize) -> Self {
        let each: usize = items.iter().map(|object| object.json.len() - skipped + 1).sum();
        let commas = items.len().saturating_sub(1);
        let left = (opening.len() + each + commas + CLOSING.len()) as u64;
        Self {
            opening,
            items: items.into_iter(),
            skipped,
            first: true,
            closed: false,
            left,
        }
    }

    /// The whole list at once.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let mut whole = BytesMut::with_capacity(usize::try_from(self.left).unwrap_or(0));
        while let Some(piece) = self.next_piece() {
            whole.put(piece);
        }
        whole.freeze()
    }

    fn next_piece(&mut self) -> Option<Piece> {
        if self.closed {
            return None;
        }
        let mut rope = Rope::default();
        rope.push(std::mem::take(&mut self.opening));
        while rope.left < PIECE {
            let Some(object) = self.items.next() else {
                rope.push(CLOSING);
                self.closed = true;
                break;
            };
            let first = std::mem::take(&mut self.first);
            rope.push(if first { BEGIN_FIRST } else { BEGIN_NEXT });
            rope.push(object.json.slice(self.skipped..));
        }
        self.left -= rope.left as u64;
        Some(Piece::Rope(rope))
    }
}

/// A part of a body.
pub(crate) enum Piece {
    Bytes(Bytes),
    Rope(Rope),
}

/// Bytes that lie in many places.
#[derive(Default)]
pub(crate) struct Rope {
    strands: VecDeque<Bytes>,
    left: usize,
}

impl Rope {
    fn push(&mut self, strand: Bytes) {
        if !strand.is_empty() {
            self.left += strand.len();
            self.strands.push_back(strand);
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Rope(rope) => rope.left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Rope(rope) => rope.strands.front().map_or(&[], |strand| strand),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::Rope(rope) => {
                let filled = rope.strands.len().min(slices.len());
                for (slice, strand) in slices.iter_mut().zip(&rope.strands) {
                    *slice = IoSlice::new(strand);
                }
                filled
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Rope(rope) => {
                assert!(count <= rope.left, "advanced beyond the end");
                rope.left -= count;
                while let Some(strand) = rope.strands.front_mut() {
                    if count < strand.len() {
                        strand.advance(count);
                        break;
                    }
                    count -= strand.len();
                    rope.strands.pop_front();
                }
            }
        }
    }
}

impl http_body::Body for EdgeBody {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let piece = match &mut *self {
            Self::Full(bytes) => Some(std::mem::take(bytes))
                .filter(|bytes| !bytes.is_empty())
                .map(Piece::Bytes),
            Self::List(list) => list.next_piece(),
            Self::Stream(stream) => match stream.as_mut().poll_next(context) {
                Poll::Ready(chunk) => chunk.map(Piece::Bytes),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::List(list) => list.closed,
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::List(list) => SizeHint::with_exact(list.left),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_list_is_as_long_as_it_says_however_many_pieces_it_takes() {
        let item = format!(r#"{{"kind":"K","metadata":{{"name":"{}"}}}}"#, "x".repeat(900));
        let object = Arc::new(Object::from_json(item.into()).unwrap());
        let items = vec![object; 500];
        let body = EdgeBody::List(ListBody::new(Bytes::from_static(b"{\"items\":["), items, 12));
        let size = http_body::Body::size_hint(&body).exact();
        let whole = body.collect().await.unwrap().to_bytes();
        assert_eq!(size, Some(whole.len() as u64));
        let tree = cloudeck_machinery::json::parse(&whole).unwrap();
        assert_eq!(tree.items_at(&["items"]).len(), 500);
        assert!(tree.items_at(&["items"])[0].get("kind").is_none());
    }

    #[test]
    fn a_rope_reads_the_same_in_steps_of_any_size() {
        let strands = ["", "{", "abc", "", ",{", "defghij", "]}"];
        let whole: String = strands.concat();
        for step in 1..=whole.len() {
            let mut rope = Rope::default();
            for strand in strands {
                rope.push(Bytes::from_static(strand.as_bytes()));
            }
            let (mut piece, mut read) = (Piece::Rope(rope), Vec::new());
            while piece.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = piece.chunks_vectored(&mut slices);
                let there: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                assert!(there.starts_with(piece.chunk()));
                let taken = step.min(there.len());
                read.extend_from_slice(&there[..taken]);
                piece.advance(taken);
            }
            assert_eq!(read, whole.as_bytes());
        }
    }
}
