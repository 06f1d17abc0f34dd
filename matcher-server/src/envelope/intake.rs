//! What requests bring: memory for it, from a budget that all open ones share, and the time that it may take.
//!
//! A clip lies in memory as a whole, from its first byte until it was answered. Half of the budget is dealt out evenly, so
//! that an ordinary clip always finds room; what a larger one has beyond its share it takes from the other half, and
//! where nothing is left of that it is refused. So of all that has come no more lies in memory than the budget (a form's
//! file lies there twice while it grows), and many small clips are
//! not kept out by a few large ones.
//!
//! Nor does a client keep its place that sends nothing, or hardly anything: a body may pause for so long, and all its
//! pauses together for as much longer as it would have taken at [`BYTES_PER_S_MIN`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::metrics::{Metrics, Refusal};
use crate::reason::Reason;

/// What is taken beyond a share is counted in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// The slowest client that is waited for, in bytes a second.
const BYTES_PER_S_MIN: usize = 8 << 10;

/// What all requests together may hold.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    share_bytes: usize,
    /// One permit for each piece of the half that is not dealt out.
    common: Arc<Semaphore>,
    pause_max: Duration,
    metrics: Metrics,
}

impl Budget {
    /// `bytes` for at most `request_count` requests at a time, none of which pauses for longer than `pause_max`.
    pub(super) fn new(
        bytes: usize,
        request_count: usize,
        pause_max: Duration,
        metrics: &Metrics,
    ) -> Self {
        let share_bytes = bytes / 2 / request_count;
        let common = (bytes - share_bytes * request_count).div_ceil(PIECE_BYTES);
        let common = Arc::new(Semaphore::new(common.min(Semaphore::MAX_PERMITS)));
        Self { share_bytes, common, pause_max, metrics: metrics.clone() }
    }

    /// What one more request takes: nothing yet.
    pub(super) fn begin(&self) -> Intake {
        Intake { budget: self.clone(), taken: Arc::default() }
    }
}

/// What one request takes of the budget. Given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    budget: Budget,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    beyond: Vec<OwnedSemaphorePermit>,
    /// Pieces that those permits are for.
    piece_count: usize,
}

impl Intake {
    /// Has a body taken from the budget as it comes. It fails with `SERVER_BUSY` where nothing is left, and with
    /// `CLIENT_STALLED` if it does not come.
    pub(super) fn of<B>(&self, body: B) -> Received<B> {
        Received { body, intake: self.clone(), waited: Duration::ZERO, pause: None }
    }

    /// How long all pauses of a body together may be.
    fn patience(&self) -> Duration {
        let bytes = self.taken.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        let credit = Duration::from_secs_f64(bytes as f64 / BYTES_PER_S_MIN as f64);
        self.budget.pause_max + credit
    }

    /// Takes room for so many more bytes.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.bytes += bytes;
        let beyond = taken.bytes.saturating_sub(self.budget.share_bytes).div_ceil(PIECE_BYTES);
        let more = beyond - taken.piece_count;
        if more == 0 {
            return Ok(());
        }
        let common = Arc::clone(&self.budget.common);
        let permit =
            u32::try_from(more).ok().and_then(|more| common.try_acquire_many_owned(more).ok());
        let Some(permit) = permit else {
            self.budget.metrics.refused(Refusal::Memory);
            let text = "server has no memory left for clips of this size (requests-memory-max); try again in a moment, or send a shorter clip or its fingerprint";
            return Err(Reason::ServerBusy.status(text));
        };
        taken.beyond.push(permit);
        taken.piece_count = beyond;
        Ok(())
    }
}

/// A body that takes from the budget what has come of it.
#[derive(Debug)]
pub(crate) struct Received<B> {
    body: B,
    intake: Intake,
    /// Length of all pauses that have ended.
    waited: Duration,
    /// When this one began, and what rings when it was too long.
    pause: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Received<B> {
    /// Waits on, or fails.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let pause_max = self.intake.budget.pause_max;
        let (_, alarm) = self.pause.get_or_insert_with(|| {
            let most = pause_max.min(self.intake.patience().saturating_sub(self.waited));
            (Instant::now(), Box::pin(tokio::time::sleep(most)))
        });
        ready!(alarm.as_mut().poll(context));
        let text = format!(
            "no data for {} s, or less than {BYTES_PER_S_MIN} bytes a second; send the request again",
            pause_max.as_secs()
        );
        Poll::Ready(Reason::ClientStalled.status(text))
    }
}

impl<B: Body<Data = Bytes, Error: Into<axum::BoxError>> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            return self.poll_pause(context).map(|status| Some(Err(status.into())));
        };
        if let Some((began, _)) = self.pause.take() {
            self.waited += began.elapsed();
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            self.intake.take(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio_stream::StreamExt;

    use super::*;

    const PAUSE_MAX: Duration = Duration::from_millis(500);

    #[test]
    fn a_share_is_always_there_and_the_rest_for_whoever_comes_first() {
        // Shares of 4 pieces for each of 4, and 16 for all.
        let budget = Budget::new(32 * PIECE_BYTES, 4, PAUSE_MAX, &Metrics::new());
        let [large, second, third] = [(); 3].map(|()| budget.begin());
        for _ in 0..4 + 15 {
            large.take(PIECE_BYTES).unwrap();
        }
        assert!(second.take(6 * PIECE_BYTES).is_err());
        assert!(third.take(4 * PIECE_BYTES).is_ok());
        assert!(third.take(1).is_ok());
        assert!(large.take(1).is_err());
        assert!(budget.begin().take(4 * PIECE_BYTES).is_ok());
        // A body may outlive its request, and the other way round.
        let body = large.clone();
        drop(large);
        assert!(second.take(1).is_err());
        drop(body);
        assert!(second.take(1).is_ok());
    }

    #[test]
    fn the_largest_message_finds_room_though_the_budget_is_as_small_as_may_be() {
        for (message, count) in [(1 << 10, 256), (100 << 10, 256), (32 << 20, 1_000), (5 << 20, 1)]
        {
            let budget = Budget::new(2 * message, count, PAUSE_MAX, &Metrics::new());
            assert!(budget.begin().take(message + 5).is_ok(), "{message} of {count}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_without_end() {
        let budget = Budget::new(10 * PIECE_BYTES, 2, PAUSE_MAX, &Metrics::new());
        for _ in 0..100 {
            let intake = budget.begin();
            (0..7).for_each(|_| intake.take(PIECE_BYTES).unwrap());
            assert!(intake.take(PIECE_BYTES).is_err());
        }
    }

    /// Receives this many frames of so many bytes, a pause before each. Gives the bytes, or why not all came.
    async fn receive(count: usize, bytes: usize, pause: Duration) -> Result<usize, Status> {
        let budget = Budget::new(1 << 30, 1, PAUSE_MAX, &Metrics::new());
        let frames = (0..count).map(|_| Ok::<_, Status>(Frame::data(Bytes::from(vec![0; bytes]))));
        let frames = tokio_stream::iter(frames).then(async |frame| {
            tokio::time::sleep(pause).await;
            frame
        });
        let body = budget.begin().of(StreamBody::new(Box::pin(frames)));
        match body.collect().await {
            Ok(collected) => Ok(collected.to_bytes().len()),
            Err(error) => Err(*error.downcast().unwrap()),
        }
    }

    #[tokio::test]
    async fn who_is_slow_is_waited_for_and_who_stalls_is_not() {
        let ms = Duration::from_millis;
        for (count, bytes, pause, is_fine) in [
            (1, 1, ms(50), true),
            (1, 1, PAUSE_MAX + ms(300), false),
            // Twice as fast as the slowest, for longer than a pause may be.
            (20, BYTES_PER_S_MIN / 10, ms(50), true),
            // A byte now and then.
            (100, 1, ms(50), false),
        ] {
            match receive(count, bytes, pause).await {
                Ok(received) => assert!(is_fine && received == count * bytes, "{bytes} {pause:?}"),
                Err(status) => {
                    assert!(!is_fine, "{bytes} {pause:?}: {status}");
                    assert_eq!(Reason::of(&status), Reason::ClientStalled);
                }
            }
        }
    }
}
