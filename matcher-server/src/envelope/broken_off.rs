//! The body of a request whose client hangs up: it fails, and does not end.
//!
//! HTTP/2 tells a request that its client gives up from one that was sent whole, but what is above it does not: hyper takes
//! a stream that is reset with `NO_ERROR`, as some proxies reset those of clients that have gone, for one that has
//! ended, and tonic one that is reset with `CANCEL`. The request is dropped then, but it may have been quicker: half an
//! upload was stored as if it were a track, found by `soak`.
//!
//! # Source
//!
//! RFC 9113, section 8.1: a request ends with a frame that carries `END_STREAM`.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::{io, iter};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::codegen::http::Version;

use crate::reason::Reason;
use crate::transport::is_of_tls;

/// Whether the client of a request has hung up before it was whole: an extension of each request.
#[derive(Debug, Clone, Default)]
pub(crate) struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// True as soon as the request's body has failed.
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Has the body of a request fail where its client has not ended it.
pub(crate) async fn tell_ends(mut request: Request) -> Request {
    let hung_up = HungUp::default();
    request.extensions_mut().insert(hung_up.clone());
    let is_http_2 = request.version() == Version::HTTP_2;
    request.map(|body| Body::new(Ended { body, is_http_2, hung_up }))
}

/// A body that ends only where its client has ended it.
#[derive(Debug)]
struct Ended {
    body: Body,
    /// Over HTTP/1.1 the body itself knows where it has to end.
    is_http_2: bool,
    hung_up: HungUp,
}

impl HttpBody for Ended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_broken = match &frame {
            Some(Ok(_)) => false,
            Some(Err(error)) => self.is_http_2 || !is_malformed(error),
            None => self.is_http_2 && !self.body.is_end_stream(),
        };
        if !is_broken {
            return Poll::Ready(frame);
        }
        self.hung_up.0.store(true, Ordering::Relaxed);
        let status = Reason::Unavailable.status("the client has broken the request off");
        Poll::Ready(Some(Err(axum::Error::new(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// True if a client of HTTP/1.1 is still there, and does not know how to write a chunk.
fn is_malformed(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |error| (*error).source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            let is_bad = [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData];
            is_bad.contains(&error.kind()) && !is_of_tls(error)
        })
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tonic::{Code, Status};

    use super::*;

    /// The bytes that a request is read as, or the code of the status that it fails with; and whether its client
    /// counts as gone.
    async fn read(version: Version, body: Body) -> (Result<Bytes, Option<Code>>, bool) {
        let mut request = Request::new(body);
        *request.version_mut() = version;
        let request = tell_ends(request).await;
        let hung_up = request.extensions().get::<HungUp>().unwrap().clone();
        let read = request.into_body().collect().await;
        let code = |error: axum::Error| {
            let source: &(dyn Error + 'static) = &error;
            let mut sources = iter::successors(Some(source), |error| (*error).source());
            sources.find_map(|error| error.downcast_ref::<Status>()).map(Status::code)
        };
        (read.map(http_body_util::Collected::to_bytes).map_err(code), hung_up.is_known())
    }

    /// A body that does not say that it has ended, as that of a stream that was reset.
    fn without_end(last: Option<io::Error>) -> Body {
        let first = Ok(Frame::data(Bytes::from_static(b"half")));
        let frames = iter::once(first).chain(last.map(Err));
        Body::new(StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>())))
    }

    #[tokio::test]
    async fn only_what_was_ended_ends() {
        let whole = Bytes::from_static(b"whole");
        let (http_1, http_2) = (Version::HTTP_11, Version::HTTP_2);
        let broken = (Err(Some(Code::Unavailable)), true);
        for version in [http_1, http_2] {
            assert_eq!(read(version, whole.clone().into()).await, (Ok(whole.clone()), false));
            assert_eq!(read(version, Body::empty()).await, (Ok(Bytes::new()), false));
            let lost = io::Error::from(io::ErrorKind::UnexpectedEof);
            assert_eq!(read(version, without_end(Some(lost))).await, broken, "{version:?}");
        }
        assert_eq!(read(http_2, without_end(None)).await, broken);
        assert_eq!(read(http_1, without_end(None)).await, (Ok(Bytes::from_static(b"half")), false));
    }

    #[tokio::test]
    async fn who_writes_no_chunks_is_still_there() {
        let malformed = io::Error::new(io::ErrorKind::InvalidInput, "no chunk size");
        assert_eq!(read(Version::HTTP_11, without_end(Some(malformed))).await, (Err(None), false));
    }
}
