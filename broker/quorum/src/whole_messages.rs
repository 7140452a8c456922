//! gRPC bodies, given on message by message. tonic makes room for a message as soon as its length has been announced;
//! here it sees the length when the rest is there too, so that nobody has room made for what was not sent.
//!
//! The format of a body is that of gRPC over HTTP/2: a flag, the length (32 bits, big-endian), the message, and so on.

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;

/// Messages larger than this are refused on both sides.
pub(super) const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

const PREFIX_BYTES: usize = 5;

/// For a server.
pub(super) fn of_request(request: http::Request<Body>) -> http::Request<Body> {
    request.map(|body| Body::new(WholeMessages::new(body)))
}

/// For a client.
pub(super) fn of_response(response: http::Response<Body>) -> http::Response<Body> {
    response.map(|body| Body::new(WholeMessages::new(body)))
}

/// A body whose data frames each end with the end of a message.
struct WholeMessages<B> {
    body: B,
    begun: BytesMut,
    trailers: Option<Frame<Bytes>>,
}

impl<B> WholeMessages<B> {
    fn new(body: B) -> Self {
        Self { body, begun: BytesMut::new(), trailers: None }
    }

    /// The next message, if it has arrived; or the prefix of one that is too long, which the receiver refuses.
    fn message(&mut self) -> Option<Bytes> {
        let prefix = self.begun.first_chunk::<PREFIX_BYTES>()?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let end = if len > MAX_MESSAGE_BYTES { PREFIX_BYTES } else { PREFIX_BYTES + len };
        (self.begun.len() >= end).then(|| self.begun.split_to(end).freeze())
    }
}

impl<B> http_body::Body for WholeMessages<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(message) = self.message() {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.begun.extend_from_slice(&data),
                    Err(trailers) => self.trailers = Some(trailers),
                },
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None if self.begun.is_empty() => return Poll::Ready(None),
                None => {
                    self.begun.clear();
                    let status = Status::invalid_argument("the stream ended within a message");
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use std::collections::VecDeque;

    struct Pieces(VecDeque<Vec<u8>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece.into()))))
        }
    }

    /// What comes out, message by message, and whether the body ended well.
    fn given_on(pieces: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, bool) {
        let mut body = WholeMessages::new(Pieces(pieces.into_iter().collect()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut messages = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => messages.push(frame.into_data().unwrap().to_vec()),
                Poll::Ready(Some(Err(_))) => return (messages, false),
                Poll::Ready(None) => return (messages, true),
                Poll::Pending => unreachable!("pieces are always there"),
            }
        }
    }

    #[test]
    fn messages_come_whole_however_they_were_cut() {
        let first = [&[0, 0, 0, 0, 3][..], b"abc"].concat();
        let second = [0, 0, 0, 0, 0].to_vec();
        let third = [&[0, 0, 0, 0, 1][..], b"d"].concat();
        let all = [first.clone(), second.clone(), third.clone()].concat();
        for size in 1..=all.len() {
            let pieces = all.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(given_on(pieces), (vec![first.clone(), second.clone(), third.clone()], true), "{size}");
        }
    }

    #[test]
    fn a_length_alone_is_given_on_only_to_be_refused() {
        let claim = |len: usize| [&[0][..], &u32::try_from(len).unwrap().to_be_bytes(), b"little"].concat();
        assert_eq!(given_on([claim(MAX_MESSAGE_BYTES)]), (vec![], false));
        let refused = given_on([claim(MAX_MESSAGE_BYTES + 1)]).0;
        assert_eq!(refused[0], claim(MAX_MESSAGE_BYTES + 1)[..PREFIX_BYTES]);
    }
}
