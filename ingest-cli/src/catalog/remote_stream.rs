//! A stream that a server follows: fingerprints are made here and sent as they come. If the connection
//! breaks, the stream is gone on with where the server has it; of a server that has lost it, with the last
//! minute, which is remembered here.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use earmark_proto::v1::stream_header::Format;
use fingerprint_core::fingerprint::{Fingerprint, StreamFingerprinter};
use fingerprint_core::matching::live::LiveOptions;
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::ContentHash;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::link::Link;
use super::patience::{Patience, reason};
use super::told::Told;
use super::{Follower, convert};
use crate::contract::live::LiveRow;
use crate::report;

/// Length of the fingerprints that are sent.
const CHUNK_MS: u32 = 500;
/// Chunks that wait for the connection; beyond that the source is read more slowly.
const CHUNKS_MAX: usize = 8;
/// What was sent in this time is remembered, for a server that has lost it.
const REMEMBERED_MS: u32 = 60_000;
/// For how long a broken connection is made anew: longer than a server takes to start again, and the audio waits.
const RECONNECT_MAX: Duration = Duration::from_secs(15);
/// How often the last answers are asked for.
const LAST_ATTEMPTS_MAX: u32 = 3;
/// Level of a fingerprint that nobody asks for.
const LEVEL_DB: f32 = -20.0;

type Answer = Result<v1::MatchStreamResponse, Status>;

/// A stream on a server.
pub(super) struct RemoteFollower<'a> {
    runtime: &'a Runtime,
    link: &'a Link,
    options: v1::StreamOptions,
    stream_id: String,
    fingerprinter: StreamFingerprinter,
    /// Up to here peaks were sent.
    sent_ms: u32,
    remembered: VecDeque<Chunk>,
    connection: Connection,
    told: Told,
}

/// A fingerprint that was sent.
#[derive(Clone)]
struct Chunk {
    from_ms: u32,
    to_ms: u32,
    bytes: Bytes,
}

struct Connection {
    /// `None` once all was sent.
    requests: Option<mpsc::Sender<v1::MatchStreamRequest>>,
    answers: Receiver<Answer>,
}

impl Connection {
    /// False if the connection is closed.
    fn send(&self, message: v1::MatchStreamRequest) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.blocking_send(message).is_ok())
    }
}

impl<'a> RemoteFollower<'a> {
    pub(super) fn new(runtime: &'a Runtime, link: &'a Link, options: LiveOptions) -> Result<Self> {
        let options = v1::StreamOptions {
            max_false_events: Some(options.false_events_max),
            min_confidence: options.confidence_min,
            speed_search: convert::speed_search(options.speed_search).into(),
            update_interval_s: options.update_ms / 1_000,
            max_gap_s: options.gap_max_ms / 1_000,
            silence_db: Some(f64::from(options.silence_db)),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let stream_id = format!("earmark-monitor-{}-{}", std::process::id(), now.as_nanos());
        let mut patience = Patience::of(link.timeout());
        let connection = loop {
            match connect(runtime, link, &options, &stream_id, 0, patience.left()) {
                Ok((connection, _)) => break connection,
                Err(error) => {
                    let status = error.downcast::<Status>()?;
                    if !runtime.block_on(patience.lasts(&status)) {
                        return Err(link.explain_last(&status, &patience));
                    }
                }
            }
        };
        Ok(Self {
            runtime,
            link,
            options,
            stream_id,
            fingerprinter: StreamFingerprinter::new(&link.params, 0),
            sent_ms: 0,
            remembered: VecDeque::new(),
            connection,
            told: Told::default(),
        })
    }

    /// Sends what has settled, if it is enough or `all` shall be sent.
    fn send_settled(&mut self, all: bool, rows: &mut Vec<LiveRow>) -> Result<()> {
        let (from_ms, to_ms) = (self.sent_ms, self.fingerprinter.settled_ms());
        if to_ms <= from_ms || (!all && to_ms - from_ms < CHUNK_MS) {
            return Ok(());
        }
        let place = |peak: &Peak| Peak { time_ms: peak.time_ms.saturating_sub(from_ms), ..*peak };
        let fingerprint = Fingerprint {
            duration_ms: u64::from(to_ms - from_ms),
            content_hash: ContentHash([0; 32]),
            level_db: LEVEL_DB,
            peaks: self.fingerprinter.peaks().iter().map(place).collect(),
        };
        self.fingerprinter.clear_peaks();
        let bytes = fingerprint.to_bytes(&self.link.params).into();
        let chunk = Chunk { from_ms, to_ms, bytes };
        self.sent_ms = to_ms;
        self.remembered.push_back(chunk.clone());
        let oldest_ms = to_ms.saturating_sub(REMEMBERED_MS);
        while self.remembered.front().is_some_and(|chunk| chunk.to_ms <= oldest_ms) {
            self.remembered.pop_front();
        }
        if !self.connection.send(chunk.message()) {
            // The connection is closed; its answers say why.
            let status = self.drain(rows).unwrap_or_else(|| Status::unavailable("hung up"));
            self.reconnect(status, rows)?;
        }
        Ok(())
    }

    /// Takes the answers that have come. The status of a connection that has ended is returned.
    fn drain(&mut self, rows: &mut Vec<LiveRow>) -> Option<Status> {
        loop {
            match self.connection.answers.try_recv() {
                Ok(Ok(message)) => rows.extend(self.told.news(message)),
                Ok(Err(status)) => return Some(status),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    return Some(Status::unavailable("the server has closed the stream"));
                }
            }
        }
    }

    /// Goes on with the stream over another connection, if there is a point in it.
    fn reconnect(&mut self, mut status: Status, rows: &mut Vec<LiveRow>) -> Result<()> {
        let mut patience = Patience::of(RECONNECT_MAX.min(self.link.timeout()));
        let mut is_told = false;
        loop {
            // What the server does not say itself means that the connection broke.
            if reason(&status).is_none() {
                status = Status::unavailable(status.message());
            }
            if !self.runtime.block_on(patience.lasts(&status)) {
                return Err(self.link.explain_last(&status, &patience));
            }
            if !is_told {
                report::note(&format!("{:#}; connecting again", self.link.explain(&status)));
                is_told = true;
            }
            let start_ms = self.remembered.front().map_or(self.sent_ms, |chunk| chunk.from_ms);
            let connected = connect(
                self.runtime,
                self.link,
                &self.options,
                &self.stream_id,
                start_ms,
                patience.left(),
            );
            let (connection, started) = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    let failed = error.downcast::<Status>()?;
                    // A try that was cut off says less than those before.
                    if !patience.left().is_zero() {
                        status = failed;
                    }
                    continue;
                }
            };
            self.connection = connection;
            if !started.resumed {
                self.told.hear_anew();
            }
            let is_missing = |chunk: &&Chunk| u64::from(chunk.to_ms) > started.position_ms;
            let is_sent = |chunk: &Chunk| self.connection.send(chunk.message());
            if self.remembered.iter().filter(is_missing).all(is_sent) {
                report::note("the server is back, and goes on with the stream");
                return Ok(());
            }
            status = self.drain(rows).unwrap_or_else(|| Status::unavailable("hung up"));
        }
    }
}

impl Chunk {
    fn message(&self) -> v1::MatchStreamRequest {
        let position = Some(u64::from(self.from_ms));
        let audio = v1::StreamAudio { data: self.bytes.clone(), position };
        v1::MatchStreamRequest { part: Some(Part::Audio(audio)) }
    }
}

impl Follower for RemoteFollower<'_> {
    fn take(&mut self, samples: &[f32], rate_hz: u32, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.fingerprinter.push(samples, rate_hz)?;
        self.send_settled(false, rows)?;
        match self.drain(rows) {
            None => Ok(()),
            Some(status) => self.reconnect(status, rows),
        }
    }

    fn lose(&mut self, lost_ms: u32, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.fingerprinter.end();
        self.send_settled(true, rows)?;
        // The next chunk says by its position that something is missing.
        self.sent_ms = self.sent_ms.saturating_add(lost_ms);
        self.fingerprinter.skip_to(self.sent_ms);
        Ok(())
    }

    fn finish(mut self: Box<Self>, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.fingerprinter.end();
        self.send_settled(true, rows)?;
        let mut attempts = 0;
        loop {
            // Nothing more will come: the server ends the stream.
            self.connection.requests = None;
            let failed = loop {
                match self.connection.answers.recv_timeout(self.link.timeout()) {
                    Ok(Ok(message)) => rows.extend(self.told.news(message)),
                    Ok(Err(status)) => break status,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Err(RecvTimeoutError::Timeout) => {
                        break Status::deadline_exceeded("Timeout expired");
                    }
                }
            };
            attempts += 1;
            if attempts == LAST_ATTEMPTS_MAX {
                return Err(self.link.explain(&failed));
            }
            self.reconnect(failed, rows)?;
        }
    }
}

/// Opens the stream within `limit`, and returns what the server says first. A [`Status`] is in the error if the server
/// gave one.
fn connect(
    runtime: &Runtime,
    link: &Link,
    options: &v1::StreamOptions,
    stream_id: &str,
    start_ms: u32,
    limit: Duration,
) -> Result<(Connection, v1::StreamStarted)> {
    let header = v1::StreamHeader {
        format: Some(Format::Fingerprint(v1::FingerprintFormat {})),
        options: Some(*options),
        stream_id: stream_id.to_owned(),
        start_ms: start_ms.into(),
    };
    let header = v1::MatchStreamRequest { part: Some(Part::Header(header)) };
    let (requests, sent) = mpsc::channel(CHUNKS_MAX);
    requests.try_send(header).context("the stream could not be opened")?;
    let call = async {
        let stream = Request::new(ReceiverStream::new(sent));
        let mut answers = link.matcher().match_stream(stream).await?.into_inner();
        let first = answers.message().await?;
        Ok::<_, Status>((answers, first))
    };
    let called = runtime.block_on(async { tokio::time::timeout(limit, call).await });
    let (mut answers, first) =
        called.unwrap_or_else(|_| Err(Status::unavailable("the server does not answer")))?;
    let Some(Event::Started(started)) = first.and_then(|message| message.event) else {
        bail!("the server began the stream with something else than StreamStarted");
    };
    let (sender, receiver) = channel();
    runtime.spawn(async move {
        loop {
            let answer = match answers.message().await {
                Ok(Some(message)) => Ok(message),
                Ok(None) => break,
                Err(status) => Err(status),
            };
            let is_last = answer.is_err();
            if sender.send(answer).is_err() || is_last {
                break;
            }
        }
    });
    let connection = Connection { requests: Some(requests), answers: receiver };
    Ok((connection, started))
}
