//! Bodies of answers: one piece, a list made on the fly, or a stream without end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use cloudeck_machinery::Object;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

/// Lists are sent in pieces of about this size: large enough to be cheap, small enough to be quick to begin.
const CHUNK: usize = 128 << 10;

/// An answer's body.
pub(crate) enum EdgeBody {
    Full(Bytes),
    List(ListBody),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

/// The concatenation of an opening, the items' stored bytes without their first few (kind and apiVersion stand once in
/// the list), and a closing.
pub(crate) struct ListBody {
    opening: Bytes,
    items: VecDeque<Arc<Object>>,
    /// Leading bytes of each item that are left out; replaced by `{`.
    skipped: usize,
    first: bool,
    closed: bool,
    left: u64,
}

const CLOSING: &[u8] = b"]}";

impl ListBody {
    pub(crate) fn new(opening: Bytes, items: Vec<Arc<Object>>, skipped: usize) -> Self {
        let each: usize = items.iter().map(|object| object.json.len() - skipped + 1).sum();
        let commas = items.len().saturating_sub(1);
        let left = (opening.len() + each + commas + CLOSING.len()) as u64;
        Self {
            opening,
            items: items.into(),
            skipped,
            first: true,
            closed: false,
            left,
        }
    }

    /// The whole list at once.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.next_chunk() {
            whole.extend_from_slice(&chunk);
        }
        whole.freeze()
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        if self.closed {
            return None;
        }
        let room = usize::try_from(self.left)
            .unwrap_or(CHUNK)
            .min(CHUNK + (16 << 10));
        let mut chunk = BytesMut::with_capacity(room);
        chunk.extend_from_slice(&std::mem::take(&mut self.opening));
        while chunk.len() < CHUNK {
            let Some(object) = self.items.pop_front() else {
                chunk.extend_from_slice(CLOSING);
                self.closed = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                chunk.extend_from_slice(b",");
            }
            chunk.extend_from_slice(b"{");
            chunk.extend_from_slice(&object.json[self.skipped..]);
        }
        self.left -= chunk.len() as u64;
        Some(chunk.freeze())
    }
}

impl http_body::Body for EdgeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match &mut *self {
            Self::Full(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Self::List(list) => list.next_chunk(),
            Self::Stream(stream) => match stream.as_mut().poll_next(context) {
                Poll::Ready(chunk) => chunk,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
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
}
