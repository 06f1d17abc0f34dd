//! `MatchStream`: receives the audio of streams, has it searched bit by bit, and sends what is found.
//!
//! ```text
//! messages ─ order ─▶ packets ─ pcm ─▶ samples ─ session (on a worker) ─▶ events ─ message ─▶ answer
//!                └ encoded bytes ─ encoded (on a thread of its own) ─────────┘
//! ```
//!
//! A stream is a task that receives a second of audio, hands it to a worker together with all that
//! is known of the stream, sends what comes back, and only then receives more: whoever sends faster than
//! the server can search is slowed down by the transport, and what waits is bounded by its window.

mod encoded;
mod message;
mod order;
mod parking;
mod pcm;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use earmark_proto::v1;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::stream_header::Format as HeaderFormat;
use fingerprint_core::index::Index;
use fingerprint_core::params::Params;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use self::parking::{Claim, Parked, Parking};
use self::session::{Format, Place, Search, Session};
use crate::access::{Caller, Guarded};
use crate::config::Config;
use crate::metrics::{Refusal, Stage};
use crate::reason::Reason;
use crate::work::Work;

/// Largest message of a stream, in bytes: there may be a thousand streams.
pub(crate) const MESSAGE_BYTES_MAX: usize = AUDIO_BYTES_MAX + 1_024;
/// Most audio in one.
const AUDIO_BYTES_MAX: usize = 1 << 20;
/// Audio that is searched at a time, in milliseconds.
const BATCH_MS: u64 = 1_000;
/// The same until a stream has been followed for [`EAGER_BATCHES`] of them.
const EAGER_BATCH_MS: u64 = 500;
const EAGER_BATCHES: u32 = 20;
/// What has come is searched after a pause of this length, though it is less …
const FLUSH_PAUSE: Duration = Duration::from_millis(300);
/// … and after this time, however slowly it comes.
const BATCH_TIME_MAX: Duration = Duration::from_millis(1_500);
/// Packets that are searched at a time, however short they are.
const BATCH_PACKETS_MAX: usize = 1_024;
/// How long the transport may take to tell that a client is gone and has not just ended its audio.
const HANGUP_NOTICE: Duration = Duration::from_millis(50);
/// Messages that wait for their client.
const ANSWERS_MAX: usize = 64;
/// Longest name of a stream in bytes.
const STREAM_ID_BYTES_MAX: usize = 128;
/// A stream whose jobs wait no longer than this for a worker may search for changed recordings.
const IDLE_WAIT: Duration = Duration::from_millis(20);

/// What a client of a stream sends.
type Requests = Guarded<v1::MatchStreamRequest>;
type Sender = mpsc::Sender<Result<v1::MatchStreamResponse, Status>>;

/// What a client of a stream reads.
pub(crate) type StreamAnswer = ReceiverStream<Result<v1::MatchStreamResponse, Status>>;

/// All streams of a server.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    place: Place,
    params: Params,
    config: Arc<Config>,
    work: Work,
    /// One permit for each stream that is followed or parked.
    open: Arc<Semaphore>,
    /// One for each of encoded audio.
    open_encoded: Arc<Semaphore>,
    parking: Arc<Parking>,
    /// True once the server stops.
    stop: Arc<watch::Sender<bool>>,
}

/// Why a connection ended, if not by the client's wish.
enum Broken {
    /// The client is gone; it may come back.
    Gone,
    /// Another connection has taken the stream over.
    TakenOver,
    /// It cannot go on.
    Failed(Status),
}

impl Streams {
    pub(crate) fn new(
        index: Arc<dyn Index>,
        params: Params,
        config: Arc<Config>,
        work: Work,
    ) -> Self {
        // Of several workers one at least is left to what cannot wait.
        let changes = Arc::new(Semaphore::new((config.workers / 2).max(1)));
        Self {
            place: Place { index, changes },
            params,
            open: Arc::new(Semaphore::new(config.streams_max)),
            open_encoded: Arc::new(Semaphore::new(config.encoded_streams_max)),
            config,
            work,
            parking: Arc::default(),
            stop: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Streams that are followed or parked.
    pub(crate) fn open_count(&self) -> u64 {
        (self.config.streams_max - self.open.available_permits()) as u64
    }

    /// Ends all streams; clients are told to go on elsewhere.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.parking.clear();
    }

    /// Reads the header, and follows the stream on a task of its own, for as long as the caller's key is valid.
    pub(crate) async fn open(
        &self,
        requests: Streaming<v1::MatchStreamRequest>,
        caller: Option<Caller>,
    ) -> Result<StreamAnswer, Status> {
        // A name is that of a key's streams: nobody else can take them over.
        let owner = caller.as_ref().map_or(String::new(), |caller| caller.id().to_owned());
        let mut requests = Guarded::new(requests, caller);
        let first = tokio::time::timeout(self.config.stream_pause_max, requests.next()).await;
        let first = first.map_err(|_| self.paused())?.transpose().map_err(explain_message)?;
        let header = match first.and_then(|message| message.part) {
            Some(Part::Header(header)) => header,
            Some(Part::Audio(_)) | None => {
                return Err(
                    Reason::ArgumentInvalid.status("the first message must carry the header")
                );
            }
        };
        let options = message::options(header.options)?;
        let name = header.stream_id;
        if name.len() > STREAM_ID_BYTES_MAX {
            let text = format!(
                "header.stream_id has {} bytes, at most {STREAM_ID_BYTES_MAX} are allowed",
                name.len()
            );
            return Err(Reason::ArgumentInvalid.status(text));
        }
        let format = match header.format {
            None => {
                let text = "header.format is not set; set header.pcm, encoded or fingerprint";
                return Err(Reason::ArgumentInvalid.status(text));
            }
            Some(HeaderFormat::Encoded(_)) => {
                if !name.is_empty() {
                    let text = "a stream of encoded bytes cannot be gone on with by another call; leave header.stream_id empty";
                    return Err(Reason::ArgumentInvalid.status(text));
                }
                return self.open_encoded(requests, options, header.start_ms);
            }
            Some(HeaderFormat::Pcm(format)) => Format::Pcm(pcm::Format::new(format)?),
            Some(HeaderFormat::Fingerprint(_)) => Format::Fingerprints,
        };
        let (claim, parked) = if name.is_empty() {
            (None, None)
        } else {
            let (claim, parked) = self.parking.claim(&owner, &name).await?;
            (Some(claim), parked)
        };
        let resumed = parked.is_some();
        let Parked { session, permit } = match parked {
            Some(parked) if parked.session.format() == format => *parked,
            Some(parked) => {
                let text = format!(
                    "stream {name:?} was sent in another format before; go on in that one, or use another stream_id"
                );
                if let Some(claim) = claim {
                    claim.park(parked);
                }
                return Err(Reason::ArgumentInvalid.status(text));
            }
            None => Parked {
                permit: self.admit()?,
                session: Session::new(format, options, &self.params, header.start_ms)?,
            },
        };
        // One more, for the status that the stream may end with.
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX + 1);
        let status_place = sender.clone().reserve_owned().await.ok();
        let follower = Follower {
            status_place,
            streams: self.clone(),
            requests,
            sender,
            claim,
            format,
            batch_count: 0,
            refused: None,
            stop: self.stop.subscribe(),
        };
        tokio::spawn(follower.run(session, permit, resumed));
        Ok(ReceiverStream::new(receiver))
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let admit = || Arc::clone(&self.open).try_acquire_owned();
        // Whoever is here goes before those that may come back.
        let admitted =
            admit().or_else(|error| if self.parking.evict() { admit() } else { Err(error) });
        admitted.map_err(|_| {
            self.work.metrics.refused(Refusal::StreamsOpen);
            Reason::ServerBusy
                .status("server follows as many streams as it may (streams-max); try again later")
        })
    }

    fn paused(&self) -> Status {
        let seconds = self.config.stream_pause_max.as_secs();
        Reason::ClientStalled.status(format!(
            "no audio came for {seconds} s; open the stream again when there is some"
        ))
    }
}

/// Bytes of packets that are worth a job: some time of samples; each fingerprint.
fn batch_bytes(format: Format, batch_ms: u64) -> usize {
    let bytes = match format {
        Format::Pcm(format) => {
            let bytes = u64::from(format.rate_hz) * format.frame_bytes() as u64 * batch_ms / 1_000;
            usize::try_from(bytes).unwrap_or(usize::MAX)
        }
        Format::Fingerprints => 1,
    };
    bytes.min(AUDIO_BYTES_MAX)
}

fn stopping() -> Status {
    Reason::Unavailable.status(
        "server is shutting down; connect again, elsewhere or later, and go on with the stream",
    )
}

/// Audio worth a job.
struct Batch {
    audio: Vec<v1::StreamAudio>,
    /// When the first of it came.
    since: Instant,
    /// There is no more.
    is_last: bool,
}

/// One connection of a stream.
struct Follower {
    streams: Streams,
    requests: Requests,
    sender: Sender,
    /// A place among the answers for the status of a stream that fails.
    status_place: Option<OwnedPermit<Result<v1::MatchStreamResponse, Status>>>,
    claim: Option<Claim>,
    format: Format,
    batch_count: u32,
    /// Why the key is no longer accepted: told behind what was heard until then.
    refused: Option<Status>,
    stop: watch::Receiver<bool>,
}

impl Follower {
    async fn run(mut self, session: Session, permit: OwnedSemaphorePermit, resumed: bool) {
        let started = Instant::now();
        let hello = session.hello(resumed, &*self.streams.place.index);
        let mut parked = Parked { session, permit };
        let mut broken = self.send(hello).await;
        while broken.is_ok() {
            match self.receive().await {
                Err(reason) => broken = Err(reason),
                Ok(batch) => {
                    let (returned, told) = self.search(parked, batch).await;
                    let told = match told {
                        Ok(told) => self.send(told).await,
                        Err(status) => Err(Broken::Failed(status)),
                    };
                    match returned {
                        // The stream has ended.
                        None => {
                            let failed = match told {
                                Err(Broken::Failed(status)) => Some(status),
                                _ => self.refused.take(),
                            };
                            log(started, failed.as_ref().map_or("ended", Status::message));
                            if let Some(status) = failed {
                                self.fail(status);
                            }
                            return;
                        }
                        Some(returned) => parked = returned,
                    }
                    broken = told;
                }
            }
        }
        match broken {
            Ok(()) | Err(Broken::Gone) => {
                log(started, "hung up");
                self.park(parked);
            }
            Err(Broken::TakenOver) => {
                log(started, "taken over");
                self.park(parked);
                let text =
                    "another call has taken the stream over; this one is not needed any more";
                self.fail(Reason::Conflict.status(text));
            }
            Err(Broken::Failed(status)) => {
                log(started, status.message());
                self.fail(status);
            }
        }
    }

    /// Receives audio worth a job.
    async fn receive(&mut self) -> Result<Batch, Broken> {
        let (mut audio, mut bytes, mut since) = (Vec::new(), 0, Instant::now());
        let pause_max = self.streams.config.stream_pause_max;
        let is_eager = self.batch_count < EAGER_BATCHES;
        self.batch_count = self.batch_count.saturating_add(1);
        let enough = batch_bytes(self.format, if is_eager { EAGER_BATCH_MS } else { BATCH_MS });
        while bytes < enough && audio.len() < BATCH_PACKETS_MAX {
            let patience = if audio.is_empty() {
                pause_max
            } else {
                FLUSH_PAUSE.min(BATCH_TIME_MAX.saturating_sub(since.elapsed()))
            };
            let wanted = async {
                match &self.claim {
                    Some(claim) => claim.wanted.notified().await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return Err(Broken::Failed(stopping())),
                () = wanted => return Err(Broken::TakenOver),
                () = self.sender.closed() => return Err(Broken::Gone),
                message = tokio::time::timeout(patience, self.requests.next()) => message,
            };
            match message {
                Err(_) if audio.is_empty() => return Err(Broken::Failed(self.streams.paused())),
                Err(_) => break,
                Ok(None) => {
                    // Many clients that hang up end their audio just before, and do not wait for its answers.
                    let closed = tokio::time::timeout(HANGUP_NOTICE, self.sender.closed());
                    if self.claim.is_some() && closed.await.is_ok() {
                        return Err(Broken::Gone);
                    }
                    return Ok(Batch { audio, since, is_last: true });
                }
                Ok(Some(Err(status))) => match explain_message(status) {
                    status if status.code() == Code::Unauthenticated => {
                        self.refused = Some(status);
                        return Ok(Batch { audio, since, is_last: true });
                    }
                    status if is_of_message(&status) => return Err(Broken::Failed(status)),
                    _ => return Err(Broken::Gone),
                },
                Ok(Some(Ok(message))) => match message.part {
                    Some(Part::Audio(piece)) => {
                        if audio.is_empty() {
                            since = Instant::now();
                        }
                        bytes += piece.data.len();
                        audio.push(piece);
                    }
                    Some(Part::Header(_)) => {
                        let text = "the header may be sent only once, as the first message";
                        return Err(Broken::Failed(Reason::ArgumentInvalid.status(text)));
                    }
                    None => {
                        let text = "a message has no part; send audio";
                        return Err(Broken::Failed(Reason::ArgumentInvalid.status(text)));
                    }
                },
            }
        }
        Ok(Batch { audio, since, is_last: false })
    }

    /// Has audio searched. The stream comes back unless it has ended.
    async fn search(
        &self,
        parked: Parked,
        batch: Batch,
    ) -> (Option<Parked>, Result<Vec<v1::MatchStreamResponse>, Status>) {
        let place = self.streams.place.clone();
        let queued = Instant::now();
        let metrics = self.streams.work.metrics.clone();
        let job = self.streams.work.streams.run(move |cancel| {
            let begun = Instant::now();
            let Batch { audio, since, is_last } = batch;
            let has_time = queued.elapsed() < IDLE_WAIT;
            let search = Search { place: &place, has_time, waited: since.elapsed(), cancel };
            let Parked { mut session, permit } = parked;
            let mut told = session.take(audio, &search);
            metrics.spent(begun, &[(Stage::Stream, begun.elapsed())]);
            if !is_last {
                return Ok((Some(Parked { session, permit }), told));
            }
            if let Ok(told) = &mut told {
                match session.finish(&search) {
                    Ok(last) => told.extend(last),
                    Err(status) => return Ok((None, Err(status))),
                }
            }
            Ok((None, told))
        });
        match job.await {
            Ok(done) => done,
            Err(status) => (None, Err(status)),
        }
    }

    async fn send(&mut self, messages: Vec<v1::MatchStreamResponse>) -> Result<(), Broken> {
        let pause_max = self.streams.config.stream_pause_max;
        for message in messages {
            match tokio::time::timeout(pause_max, self.sender.send(Ok(message))).await {
                Ok(Ok(())) => {}
                // It does not read, or is not there any more.
                Ok(Err(_)) | Err(_) => return Err(Broken::Gone),
            }
        }
        Ok(())
    }

    fn park(&mut self, parked: Parked) {
        if let Some(claim) = self.claim.take() {
            claim.park(Box::new(parked));
        }
    }

    fn fail(&mut self, status: Status) {
        self.streams.work.metrics.failed(Reason::of(&status));
        if let Some(place) = self.status_place.take() {
            // Nobody may be listening any more.
            place.send(Err(status));
        }
    }
}

/// True if a message was bad and its sender is still there; a request that is broken off fails with `UNAVAILABLE`.
fn is_of_message(status: &Status) -> bool {
    status.code() != Code::Unavailable
}

/// Says what to do about a message that is larger than [`MESSAGE_BYTES_MAX`], of which tonic says `OUT_OF_RANGE`, or no
/// message at all, of which it says `INTERNAL`, as if it were our fault.
fn explain_message(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Reason::TooLarge.status(format!(
            "a message of a stream is larger than the limit of {AUDIO_BYTES_MAX} bytes; send its audio in smaller packets"
        )),
        Code::Internal | Code::Unimplemented => Reason::ArgumentInvalid
            .status(format!("a message of the stream is malformed: {}", status.message())),
        _ => status,
    }
}

fn log(started: Instant, end: &str) {
    let elapsed_s = started.elapsed().as_secs();
    tracing::info!(elapsed_s, end, "stream");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_message_is_told_and_a_broken_connection_is_none() {
        // As tonic has them: no protobuf, too large; as our own: the key, the connection.
        for (from, reason, is_told) in [
            (Status::internal("buffer underflow"), Reason::ArgumentInvalid, true),
            (Status::out_of_range("too large"), Reason::TooLarge, true),
            (Reason::KeyInvalid.status("revoked"), Reason::KeyInvalid, true),
            (Reason::Unavailable.status("broken off"), Reason::Unavailable, false),
        ] {
            let status = explain_message(from);
            assert_eq!((Reason::of(&status), is_of_message(&status)), (reason, is_told));
        }
    }
}
