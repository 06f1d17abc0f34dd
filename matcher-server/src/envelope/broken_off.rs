//! The body of a request whose client hangs up: an error, not an end.
//!
//! HTTP/2 tells a call that its client gives up from one that has sent all. tonic does not: it takes the reset of a stream
//! (`CANCELLED`) for the end of its messages. A call is dropped then, but it may have been quicker: half an upload was
//! stored as if it were a track, found by `soak`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::reason::Reason;

/// A body that ends only where its client has ended it.
#[derive(Debug)]
pub(super) struct BrokenOff(pub(super) Body);

impl http_body::Body for BrokenOff {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.0).poll_frame(context);
        frame.map_err(|status| match status.code() {
            Code::Cancelled => Reason::Unavailable.status("the client has broken the call off"),
            _ => status,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
