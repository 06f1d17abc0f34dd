//! A stream of encoded bytes: decoded, fingerprinted and searched on a thread of its own, because
//! decoders pull.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use earmark_proto::v1;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::listening::Listener;
use fingerprint_core::matching::live::LiveOptions;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::session::{PROGRESS_MS, Search, check_end};
use super::{
    ANSWERS_MAX, EAGER_BATCH_MS, Requests, Sender, StreamAnswer, Streams, explain_message,
    is_of_message, message, stopping,
};
use crate::metrics::Refusal;
use crate::reason::Reason;
use crate::status;
use crate::work::Cancel;

/// Bytes in which a decoder must find the first audio.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Pieces that wait for the decoder.
const PIECES_MAX: usize = 4;

impl Streams {
    /// Follows a stream of encoded bytes.
    pub(super) fn open_encoded(
        &self,
        requests: Requests,
        options: LiveOptions,
        start_ms: u64,
    ) -> Result<StreamAnswer, Status> {
        let start_ms = u32::try_from(start_ms).map_err(|_| {
            let text = format!("header.start_ms is {start_ms}, it must be less than 2^32");
            Reason::ArgumentInvalid.status(text)
        })?;
        let permit = self.admit()?;
        let encoded = self.open_encoded.clone().try_acquire_owned().map_err(|_| {
            self.work.metrics.refused(Refusal::EncodedStreamsOpen);
            Reason::ServerBusy.status(
                "server decodes as many streams as it may (encoded-streams-max); send PCM or fingerprints, or try again later",
            )
        })?;
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX);
        let (pieces, waiting) = mpsc::channel(PIECES_MAX);
        let (streams, answers) = (self.clone(), sender.clone());
        let refused = Arc::new(OnceLock::new());
        let refusal = Arc::clone(&refused);
        let cancel = self.work.streams.cancel();
        let runtime = Handle::current();
        let job = move || {
            let _permits = (permit, encoded);
            let decoder = Decoder { streams, answers, cancel, runtime, refused };
            let listener = Listener::new(options, &decoder.streams.params, start_ms);
            let pieces = Pieces { waiting, rest: Bytes::new() };
            let run = AssertUnwindSafe(|| decoder.run(listener, start_ms, pieces));
            if std::panic::catch_unwind(run).is_err() {
                // The hook has logged message and place.
                let text = "the server failed on this stream; it has been logged";
                decoder.send(Err(Reason::Internal.status(text)));
            }
        };
        thread::Builder::new().name("earmark-stream".to_owned()).spawn(job).map_err(|error| {
            tracing::error!(%error, "no thread for a stream");
            self.work.metrics.refused(Refusal::Threads);
            Reason::ServerBusy.status("server has no thread left for a stream; try again later")
        })?;
        tokio::spawn(self.clone().receive_encoded(requests, pieces, sender, refusal));
        Ok(ReceiverStream::new(receiver))
    }

    /// Hands the pieces of a stream to its decoder, until either ends.
    async fn receive_encoded(
        self,
        mut requests: Requests,
        pieces: mpsc::Sender<Bytes>,
        answers: Sender,
        refusal: Arc<OnceLock<Status>>,
    ) {
        let mut stop = self.stop.subscribe();
        let failed = loop {
            let message = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break Some(stopping()),
                () = answers.closed() => break None,
                message = tokio::time::timeout(self.config.stream_pause_max, requests.next()) => message,
            };
            match message {
                Err(_) => break Some(self.paused()),
                Ok(None) => break None,
                // The key is no longer accepted, which the decoder tells behind what it has heard until then.
                Ok(Some(Err(status))) if status.code() == Code::Unauthenticated => {
                    let _ = refusal.set(status);
                    break None;
                }
                Ok(Some(Err(status))) => {
                    break Some(explain_message(status)).filter(is_of_message);
                }
                Ok(Some(Ok(v1::MatchStreamRequest { part: Some(Part::Audio(audio)) }))) => {
                    if audio.position.is_some() {
                        let text =
                            "audio.position is set; encoded bytes must come in order, without";
                        break Some(Reason::ArgumentInvalid.status(text));
                    }
                    // The decoder has ended, and has said why.
                    let taken = tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => break Some(stopping()),
                        () = answers.closed() => break None,
                        taken = pieces.send(audio.data) => taken,
                    };
                    if taken.is_err() {
                        break None;
                    }
                }
                Ok(Some(Ok(_))) => {
                    let text = "after the header, each message must carry audio";
                    break Some(Reason::ArgumentInvalid.status(text));
                }
            }
        };
        if let Some(status) = failed {
            self.work.metrics.failed(Reason::of(&status));
            // Before the decoder ends, which would say that the stream is empty or broken.
            let told = answers.try_send(Err(status));
            // It ends, though its client may not read any more.
            drop(pieces);
            if let Err(mpsc::error::TrySendError::Full(status)) = told {
                let _ = answers.send_timeout(status, self.config.stream_pause_max).await;
            }
        }
    }
}

/// The thread of one stream.
struct Decoder {
    streams: Streams,
    answers: Sender,
    cancel: Cancel,
    runtime: Handle,
    /// Why the audio ended, if its client's key is no longer accepted.
    refused: Arc<OnceLock<Status>>,
}

impl Decoder {
    fn run(&self, mut listener: Listener, start_ms: u32, pieces: Pieces) {
        let position_ms = u64::from(start_ms);
        let started = v1::StreamStarted { resumed: false, position_ms, position: 0 };
        let _ = self.tell(&listener, vec![Event::Started(started)]);
        // Without the external program: it would wait for the end of the stream.
        let options = DecodeOptions {
            duration_max_s: f64::MAX,
            input_max_bytes: u64::MAX,
            kept_max_bytes: KEPT_BYTES_MAX,
            ffmpeg: None,
            ..DecodeOptions::default()
        };
        let (place, cancel) = (&self.streams.place, &self.cancel);
        let search = Search { place, has_time: true, waited: Duration::ZERO, cancel };
        let mut failed = None;
        let (mut taken_ms, mut searched_ms, mut told_ms) = (0.0, 0.0, 0.0);
        let decoded = decode(Input::Stream(Box::new(pieces)), &options, &mut |samples, rate_hz| {
            taken_ms += samples.len() as f64 * 1e3 / f64::from(rate_hz.max(1));
            if let Err(status) = check_end(start_ms, whole(taken_ms), 0) {
                failed = Some(status);
                return ControlFlow::Break(());
            }
            if let Err(error) = listener.take_samples(samples, rate_hz) {
                failed = Some(status::from_rate(&error));
                return ControlFlow::Break(());
            }
            if taken_ms - searched_ms < EAGER_BATCH_MS as f64 {
                return ControlFlow::Continue(());
            }
            searched_ms = taken_ms;
            let mut found = Vec::new();
            if let Err(status) = search.run(|around| listener.search(around, &mut found)) {
                failed = Some(status);
                return ControlFlow::Break(());
            }
            let mut events: Vec<Event> = found.into_iter().map(message::event).collect();
            if taken_ms - told_ms >= f64::from(PROGRESS_MS) {
                told_ms = taken_ms;
                events.push(Event::Progress(v1::StreamProgress {
                    open_match_count: u32::try_from(listener.open_count()).unwrap_or(u32::MAX),
                    late_s: 0.0,
                    behind_s: (f64::from(start_ms) + taken_ms - f64::from(listener.heard_ms()))
                        / 1e3,
                    skipped_change_searches: listener.put_off_count(),
                }));
            }
            self.tell(&listener, events)
        });
        let heard_s = (f64::from(start_ms) + taken_ms) / 1e3;
        let mut found = Vec::new();
        let last = search.run(|around| listener.finish(around, &mut found));
        for event in found.into_iter().map(message::event) {
            let message = v1::MatchStreamResponse { heard_s, event: Some(event) };
            if !self.send(Ok(message)) {
                return;
            }
        }
        let ended = decoded.map_err(|error| status::from_decode(error, "the stream")).map(drop);
        // Of audio that was cut off the decoder may complain too.
        let refused = self.refused.get().cloned();
        let failed = failed.or(refused).or(ended.and(last).err());
        if let Some(status) = failed {
            self.send(Err(status));
        }
    }

    /// Sends an answer; false if nobody takes it in time.
    fn send(&self, answer: Result<v1::MatchStreamResponse, Status>) -> bool {
        let failed = answer.as_ref().err().map(Reason::of);
        let pause_max = self.streams.config.stream_pause_max;
        let sent = self.runtime.block_on(self.answers.send_timeout(answer, pause_max)).is_ok();
        if let Some(reason) = failed.filter(|_| sent) {
            self.streams.work.metrics.failed(reason);
        }
        sent
    }

    /// Sends events; `Break` if nobody listens any more.
    fn tell(&self, listener: &Listener, events: Vec<Event>) -> ControlFlow<()> {
        let heard_s = f64::from(listener.heard_ms()) / 1e3;
        for event in events {
            let message = v1::MatchStreamResponse { heard_s, event: Some(event) };
            if !self.send(Ok(message)) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// The bytes of a stream, as they come.
struct Pieces {
    waiting: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

fn whole(time_ms: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates"
    )]
    let whole = time_ms as u64;
    whole
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.waiting.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
