//! One stream, as long as it lasts, whatever becomes of its connections: audio in any order → messages.
//!
//! Everything here takes processor time, and runs on a worker.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use earmark_proto::v1;
use earmark_proto::v1::match_stream_response::Event;
use fingerprint_core::index::Index;
use fingerprint_core::listening::Listener;
use fingerprint_core::matching::MatchError;
use fingerprint_core::matching::live::{LiveOptions, Surroundings};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;
use tokio::sync::Semaphore;
use tonic::Status;

use super::order::{Order, Ordered, Piece};
use super::{message, pcm};
use crate::reason::Reason;
use crate::work::Cancel;
use crate::{convert, status};

/// Audio that came early waits for what is missing until so much of it waits.
const WAIT_MAX_MS: u64 = 2_000;
/// … or so many bytes.
const WAIT_BYTES_MAX: u64 = 1 << 20;
/// Longest fingerprint of a stream, in seconds.
const FINGERPRINT_S_MAX: f64 = 60.0;
/// Times of a stream end here: they have 32 bits.
const END_MS: u64 = u32::MAX as u64;
/// Time between two words of how the stream does.
pub(super) const PROGRESS_MS: u32 = 10_000;
/// What ended within this time is told again when a stream is resumed …
const RETOLD_MS: u32 = 60_000;
/// … but not more of it.
const RETOLD_MAX: usize = 256;

/// What a stream is searched in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) index: Arc<dyn Index>,
    /// Permits for searches for changed recordings, over all streams.
    pub(crate) changes: Arc<Semaphore>,
}

/// How a job searches.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) place: &'a Place,
    /// Whether the server has time for more than the necessary.
    pub(crate) has_time: bool,
    /// How long ago the first packet came.
    pub(crate) waited: Duration,
    pub(crate) cancel: &'a Cancel,
}

impl Search<'_> {
    pub(crate) fn run<T>(
        &self,
        search: impl FnOnce(Surroundings<'_>) -> Result<T, MatchError>,
    ) -> Result<T, Status> {
        // Held until the search has ended.
        let permit = RefCell::new(None);
        let may_search_changes = || {
            let mut permit = permit.borrow_mut();
            if self.has_time && permit.is_none() {
                *permit = self.place.changes.try_acquire().ok();
            }
            permit.is_some()
        };
        let is_cancelled = || self.cancel.is_over();
        let around = Surroundings {
            index: &*self.place.index,
            may_search_changes: &may_search_changes,
            is_cancelled: &is_cancelled,
        };
        search(around).map_err(status::from_match)
    }
}

/// How the audio of a stream is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Pcm(pcm::Format),
    Fingerprints,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Session {
    listener: Listener,
    params: Params,
    source: Source,
    start_ms: u32,
    progress_ms: u32,
    samples: Vec<f32>,
    /// What was told of matches that ended lately, and when.
    ended: VecDeque<(u32, Event)>,
}

#[derive(Debug)]
enum Source {
    Pcm(pcm::Format, Order<pcm::Packet>),
    Fingerprints(Order<Chunk>),
}

/// A fingerprint of a stretch of the stream; the times of its peaks count from its start.
#[derive(Debug)]
struct Chunk {
    peaks: Vec<Peak>,
    length_ms: u64,
}

impl Piece for Chunk {
    fn length(&self) -> u64 {
        self.length_ms
    }

    fn cut_front(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.peaks.retain_mut(|peak| {
            let is_behind = peak.time_ms >= count;
            peak.time_ms = peak.time_ms.saturating_sub(count);
            is_behind
        });
        self.length_ms -= u64::from(count);
    }
}

impl Session {
    /// A stream whose first sample is at `start_ms`.
    pub(crate) fn new(
        format: Format,
        options: LiveOptions,
        params: &Params,
        start_ms: u64,
    ) -> Result<Self, Status> {
        let start_ms = u32::try_from(start_ms).map_err(|_| {
            let text = format!("header.start_ms is {start_ms}, it must be less than 2^32");
            Reason::ArgumentInvalid.status(text)
        })?;
        let source = match format {
            Format::Pcm(format) => {
                let in_time = WAIT_MAX_MS * u64::from(format.rate_hz) / 1_000;
                let wait_max = in_time.min(WAIT_BYTES_MAX / format.frame_bytes() as u64);
                Source::Pcm(format, Order::new(wait_max))
            }
            Format::Fingerprints => Source::Fingerprints(Order::new(WAIT_MAX_MS)),
        };
        Ok(Self {
            listener: Listener::new(options, params, start_ms),
            params: *params,
            source,
            start_ms,
            progress_ms: start_ms,
            samples: Vec::new(),
            ended: VecDeque::new(),
        })
    }

    /// How its audio is sent.
    pub(crate) fn format(&self) -> Format {
        match &self.source {
            Source::Pcm(format, _) => Format::Pcm(*format),
            Source::Fingerprints(_) => Format::Fingerprints,
        }
    }

    /// The first messages of a connection.
    pub(crate) fn hello(&self, resumed: bool, index: &dyn Index) -> Vec<v1::MatchStreamResponse> {
        let position = match &self.source {
            Source::Pcm(_, order) => order.next(),
            Source::Fingerprints(order) => u64::from(self.start_ms) + order.next(),
        };
        let position_ms = u64::from(self.start_ms) + self.taken_ms();
        let started = Event::Started(v1::StreamStarted { resumed, position_ms, position });
        let mut events = vec![started];
        if resumed {
            events.extend(self.ended.iter().map(|(_, event)| event.clone()));
            let open = self.listener.open_matches(index).into_iter();
            events.extend(open.map(|found| Event::MatchUpdated(message::live_match(found))));
        }
        events.into_iter().map(|event| self.tell(event)).collect()
    }

    /// Takes audio, and returns what it tells.
    pub(crate) fn take(
        &mut self,
        audio: Vec<v1::StreamAudio>,
        search: &Search<'_>,
    ) -> Result<Vec<v1::MatchStreamResponse>, Status> {
        let mut events = Vec::new();
        for audio in audio {
            self.take_piece(audio, search, &mut events)?;
        }
        self.search(search, &mut events)?;
        let heard_ms = self.listener.heard_ms();
        if heard_ms.saturating_sub(self.progress_ms) >= PROGRESS_MS {
            self.progress_ms = heard_ms;
            events.push(Event::Progress(self.progress(search.waited)));
        }
        Ok(self.told(events))
    }

    /// Ends the stream.
    pub(crate) fn finish(
        mut self,
        search: &Search<'_>,
    ) -> Result<Vec<v1::MatchStreamResponse>, Status> {
        let mut events = Vec::new();
        match &mut self.source {
            Source::Pcm(_, order) => {
                let (mut at, mut out) = (order.next(), Vec::new());
                order.finish(&mut |next| out.push(next));
                self.hear(out, &mut at, search, &mut events)?;
            }
            Source::Fingerprints(order) => {
                let (mut at, mut out) = (order.next(), Vec::new());
                order.finish(&mut |next| out.push(next));
                self.note(out, &mut at, search, &mut events)?;
            }
        }
        self.search(search, &mut events)?;
        let heard_s = f64::from(self.time_ms(self.taken_ms())) / 1e3;
        let mut last = Vec::new();
        search.run(|around| self.listener.finish(around, &mut last))?;
        events.extend(last.into_iter().map(message::event));
        let tell = |event| v1::MatchStreamResponse { heard_s, event: Some(event) };
        Ok(events.into_iter().map(tell).collect())
    }

    fn take_piece(
        &mut self,
        audio: v1::StreamAudio,
        search: &Search<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Status> {
        let v1::StreamAudio { data, position } = audio;
        match &mut self.source {
            Source::Pcm(format, order) => {
                let packet = format.packet(data)?;
                let ms = |samples: u64| samples.saturating_mul(1_000) / u64::from(format.rate_hz);
                check_end(self.start_ms, ms(position.unwrap_or(order.end())), ms(packet.length()))?;
                let (mut at, mut out) = (order.next(), Vec::new());
                order.push(position, packet, &mut |next| out.push(next));
                self.hear(out, &mut at, search, events)
            }
            Source::Fingerprints(order) => {
                let fingerprint = convert::fingerprint(&data, FINGERPRINT_S_MAX, &self.params)?;
                let chunk = Chunk { peaks: fingerprint.peaks, length_ms: fingerprint.duration_ms };
                let position = position
                    .map(|ms| {
                        ms.checked_sub(u64::from(self.start_ms)).ok_or_else(|| {
                            let text = format!(
                                "audio.position is {ms} ms, before header.start_ms, {} ms",
                                self.start_ms
                            );
                            Reason::ArgumentInvalid.status(text)
                        })
                    })
                    .transpose()?;
                check_end(self.start_ms, position.unwrap_or(order.end()), chunk.length_ms)?;
                let (mut at, mut out) = (order.next(), Vec::new());
                order.push(position, chunk, &mut |next| out.push(next));
                self.note(out, &mut at, search, events)
            }
        }
    }

    /// Takes packets in order; the first begins at sample `at`.
    fn hear(
        &mut self,
        packets: Vec<Ordered<pcm::Packet>>,
        at: &mut u64,
        search: &Search<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Status> {
        let Source::Pcm(format, _) = &self.source else { return Ok(()) };
        let format = *format;
        for packet in packets {
            match packet {
                Ordered::Piece(packet) => {
                    *at += packet.length();
                    self.samples.clear();
                    format.mix(&packet, &mut self.samples);
                    self.listener
                        .take_samples(&self.samples, format.rate_hz)
                        .map_err(|error| status::from_rate(&error))?;
                }
                Ordered::Lost { from, to } => {
                    *at = to;
                    let ms = |samples: u64| samples * 1_000 / u64::from(format.rate_hz);
                    self.lose(ms(from), ms(to), search, events)?;
                }
            }
        }
        Ok(())
    }

    /// Takes fingerprints in order; the first begins `at` milliseconds behind the start.
    fn note(
        &mut self,
        chunks: Vec<Ordered<Chunk>>,
        at: &mut u64,
        search: &Search<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Status> {
        for chunk in chunks {
            match chunk {
                Ordered::Piece(mut chunk) => {
                    let from_ms = self.time_ms(*at);
                    *at += chunk.length_ms;
                    for peak in &mut chunk.peaks {
                        peak.time_ms = peak.time_ms.saturating_add(from_ms);
                    }
                    self.listener.take_peaks(&chunk.peaks, self.time_ms(*at));
                }
                Ordered::Lost { from, to } => {
                    *at = to;
                    self.lose(from, to, search, events)?;
                }
            }
        }
        Ok(())
    }

    /// Passes over what was lost, in milliseconds behind the start.
    fn lose(
        &mut self,
        from: u64,
        to: u64,
        search: &Search<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Status> {
        self.search(search, events)?;
        let (from_ms, to_ms) = (self.time_ms(from), self.time_ms(to));
        let mut found = Vec::new();
        search.run(|around| self.listener.skip_to(to_ms, around, &mut found))?;
        events.push(Event::AudioLost(v1::AudioLost {
            start_s: f64::from(from_ms) / 1e3,
            end_s: f64::from(to_ms) / 1e3,
        }));
        events.extend(found.into_iter().map(message::event));
        Ok(())
    }

    fn search(&mut self, search: &Search<'_>, events: &mut Vec<Event>) -> Result<(), Status> {
        let mut found = Vec::new();
        search.run(|around| self.listener.search(around, &mut found))?;
        events.extend(found.into_iter().map(message::event));
        Ok(())
    }

    /// Length of the audio that was taken in order, in milliseconds.
    fn taken_ms(&self) -> u64 {
        match &self.source {
            Source::Pcm(format, order) => order.next() * 1_000 / u64::from(format.rate_hz),
            Source::Fingerprints(order) => order.next(),
        }
    }

    /// Milliseconds behind the start as a time of the stream.
    fn time_ms(&self, behind_ms: u64) -> u32 {
        u32::try_from(u64::from(self.start_ms) + behind_ms).unwrap_or(u32::MAX)
    }

    fn progress(&self, waited: Duration) -> v1::StreamProgress {
        let late_ms = match &self.source {
            Source::Pcm(format, order) => order.late() * 1_000 / u64::from(format.rate_hz),
            Source::Fingerprints(order) => order.late(),
        };
        let behind_ms = self.time_ms(self.taken_ms()).saturating_sub(self.listener.heard_ms());
        v1::StreamProgress {
            open_match_count: u32::try_from(self.listener.open_count()).unwrap_or(u32::MAX),
            late_s: late_ms as f64 / 1e3,
            behind_s: f64::from(behind_ms) / 1e3 + waited.as_secs_f64(),
            skipped_change_searches: self.listener.put_off_count(),
        }
    }

    fn tell(&self, event: Event) -> v1::MatchStreamResponse {
        let heard_s = f64::from(self.listener.heard_ms()) / 1e3;
        v1::MatchStreamResponse { heard_s, event: Some(event) }
    }

    /// Messages of events, of which those are kept that a broken connection may swallow.
    fn told(&mut self, events: Vec<Event>) -> Vec<v1::MatchStreamResponse> {
        let heard_ms = self.listener.heard_ms();
        let oldest_ms = heard_ms.saturating_sub(RETOLD_MS);
        let is_last_word = |event: &&Event| match event {
            Event::MatchEnded(_) | Event::AudioLost(_) => true,
            Event::Stretch(stretch) => stretch.end_s.is_some(),
            _ => false,
        };
        self.ended.extend(events.iter().filter(is_last_word).map(|e| (heard_ms, e.clone())));
        while self.ended.front().is_some_and(|(at_ms, _)| *at_ms < oldest_ms)
            || self.ended.len() > RETOLD_MAX
        {
            self.ended.pop_front();
        }
        events.into_iter().map(|event| self.tell(event)).collect()
    }
}

/// Refuses audio that would end behind what 32 bits can tell.
pub(super) fn check_end(start_ms: u32, position_ms: u64, length_ms: u64) -> Result<(), Status> {
    let end_ms = u64::from(start_ms).saturating_add(position_ms).saturating_add(length_ms);
    if end_ms >= END_MS {
        return Err(Reason::ArgumentInvalid.status(
            "audio.position is behind 2^32 ms (49 days); end this stream and begin another",
        ));
    }
    Ok(())
}
