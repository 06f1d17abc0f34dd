//! What a client of a stream sends, for as long as its key is valid.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::Caller;

/// How often a key is looked at while its client sends nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The messages of a call, until its key is refused; then that.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    messages: Streaming<T>,
    caller: Option<Caller>,
    check: Interval,
}

impl<T> Guarded<T> {
    pub(crate) fn new(messages: Streaming<T>, caller: Option<Caller>) -> Self {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { messages, caller, check }
    }
}

impl<T> Stream for Guarded<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { messages, caller, check } = &mut *self;
        if let Some(caller) = caller {
            while check.poll_tick(context).is_ready() {
                if let Err(refused) = caller.check_valid() {
                    return Poll::Ready(Some(Err(refused.into())));
                }
            }
        }
        Pin::new(messages).poll_next(context)
    }
}
