//! Many streams at a time: how far the server falls behind the clock, and how soon it names a track.
//!
//! A packet is sent when it is due, whatever the server has answered, and a time counts from when its packet
//! should have been sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use fingerprint_core::params::SAMPLE_RATE_HZ;
use fingerprint_core::resample::Resampler;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{CONNECT_TIME_MAX, samples_of};
use crate::args::BenchServerArgs;
use crate::catalog::dial::{Calls, Dial};
use crate::report::bench_server::{Quantiles, StreamFigures};

/// Streams of one connection; a server allows so many for each.
const STREAMS_PER_CONNECTION: usize = 25;
/// Packets that wait for the transport.
const PACKETS_MAX: usize = 8;
/// Longest time that is told apart, in milliseconds: an hour.
const TIME_MAX_MS: u64 = 3_600_000;
/// How long a server may take for the last answers of a stream.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(60);

/// 16-bit mono samples.
pub(super) struct Audio {
    bytes: Bytes,
    rate_hz: u32,
}

/// What all streams have measured.
struct Measured {
    first_match_ms: Histogram<u64>,
    behind_ms: Histogram<u64>,
    sent_late_ms: Histogram<u64>,
    finished_count: u64,
    recognised_count: u64,
    skipped_count: u64,
    failures: BTreeMap<String, u64>,
}

pub(super) fn read(path: &Path, own_rate: bool) -> Result<Audio> {
    let (mut samples, mut rate) = samples_of(path)?;
    if !own_rate && rate != SAMPLE_RATE_HZ {
        let mut resampler = Resampler::new(rate)?;
        let mut resampled = Vec::new();
        resampler.push(&samples, &mut |more| resampled.extend_from_slice(more));
        resampler.finish(&mut |more| resampled.extend_from_slice(more));
        (samples, rate) = (resampled, SAMPLE_RATE_HZ);
    }
    if samples.len() < rate as usize {
        bail!("{}: shorter than a second; give longer files", path.display());
    }
    #[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
    let sample = |x: &f32| ((x * 32_767.0) as i16).to_le_bytes();
    Ok(Audio { bytes: samples.iter().flat_map(sample).collect::<Vec<u8>>().into(), rate_hz: rate })
}

/// Follows them all.
pub(super) async fn run(
    args: &BenchServerArgs,
    count: usize,
    audio: Vec<Audio>,
) -> Result<StreamFigures> {
    let dial = Dial::new(&args.server, &args.connect)?;
    let mut channels = Vec::new();
    for _ in 0..count.div_ceil(STREAMS_PER_CONNECTION) {
        channels.push(dial.connect(CONNECT_TIME_MAX).await?);
    }
    let times = || Histogram::new_with_max(TIME_MAX_MS, 3).context("times cannot be counted");
    let measured = Arc::new(Mutex::new(Measured {
        first_match_ms: times()?,
        behind_ms: times()?,
        sent_late_ms: times()?,
        finished_count: 0,
        recognised_count: 0,
        skipped_count: 0,
        failures: BTreeMap::new(),
    }));
    let audio: Vec<Arc<Audio>> = audio.into_iter().map(Arc::new).collect();
    let mut random = fastrand::Rng::with_seed(1);
    let begin = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let audio = Arc::clone(&audio[number % audio.len()]);
            let frames = audio.bytes.len() / 2;
            let sender = StreamOfFile {
                channel: channels[number / STREAMS_PER_CONNECTION].clone(),
                first: random.usize(0..frames),
                audio,
                packet: Duration::from_millis(args.packet.into()),
                duration: args.duration,
                begin: begin + args.ramp.mul_f64(random.f64()),
                measured: Arc::clone(&measured),
            };
            tokio::spawn(sender.run())
        })
        .collect();
    for task in tasks {
        task.await.context("a stream broke down")?;
    }
    let measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(StreamFigures {
        stream_count: count as u64,
        finished_count: measured.finished_count,
        failed_count: count as u64 - measured.finished_count,
        failures: measured.failures.clone().into_iter().collect(),
        recognised_count: measured.recognised_count,
        first_match_s: Quantiles::of_ms(&measured.first_match_ms),
        behind_s: Quantiles::of_ms(&measured.behind_ms),
        sent_late_s: Quantiles::of_ms(&measured.sent_late_ms),
        skipped_change_searches: measured.skipped_count,
    })
}

/// A stream that sends a file over and over.
struct StreamOfFile {
    channel: Calls,
    audio: Arc<Audio>,
    /// Sample with which it begins.
    first: usize,
    packet: Duration,
    duration: Duration,
    begin: Instant,
    measured: Arc<Mutex<Measured>>,
}

impl StreamOfFile {
    async fn run(self) {
        sleep_until(self.begin).await;
        let followed = self.follow().await;
        let mut measured = self.lock();
        match followed {
            Ok(()) => measured.finished_count += 1,
            Err(status) => {
                let text = format!("{:?}: {}", status.code(), status.message());
                *measured.failures.entry(text).or_default() += 1;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self) -> Result<(), Status> {
        let (requests, sent) = mpsc::channel(PACKETS_MAX);
        let pcm = v1::PcmFormat {
            sample_rate_hz: self.audio.rate_hz,
            channel_count: 1,
            encoding: v1::pcm_format::Encoding::S16.into(),
        };
        let header = v1::StreamHeader {
            format: Some(v1::stream_header::Format::Pcm(pcm)),
            ..v1::StreamHeader::default()
        };
        let header = v1::MatchStreamRequest { part: Some(Part::Header(header)) };
        requests.try_send(header).map_err(|_| Status::internal("the stream is closed"))?;
        let mut client = MatchServiceClient::new(self.channel.clone());
        let mut answers = client.match_stream(ReceiverStream::new(sent)).await?.into_inner();
        let began = Instant::now();
        let receive = async {
            let (mut is_first, mut skipped_count) = (true, 0);
            while let Some(answer) = answers.message().await? {
                let elapsed_ms = ms(began.elapsed());
                let mut measured = self.lock();
                match &answer.event {
                    Some(Event::MatchStarted(_)) if is_first => {
                        is_first = false;
                        measured.recognised_count += 1;
                        measured.first_match_ms.saturating_record(elapsed_ms);
                    }
                    Some(Event::Progress(progress)) => {
                        let heard_ms = ms(Duration::from_secs_f64(answer.heard_s.max(0.0)));
                        let behind_ms = elapsed_ms.saturating_sub(heard_ms);
                        measured.behind_ms.saturating_record(behind_ms);
                        skipped_count = progress.skipped_change_searches;
                    }
                    _ => {}
                }
            }
            self.lock().skipped_count += skipped_count;
            Ok::<(), Status>(())
        };
        let send = async {
            let frames = self.audio.bytes.len() / 2;
            let mut place = self.first;
            let mut due = Duration::ZERO;
            while due < self.duration {
                // A packet can be sent once its last sample was heard.
                due += self.packet;
                sleep_until(began + due).await;
                let late_ms = ms(began.elapsed().saturating_sub(due));
                self.lock().sent_late_ms.saturating_record(late_ms);
                let len =
                    (u128::from(self.audio.rate_hz) * self.packet.as_millis() / 1_000) as usize;
                let end = (place + len).min(frames);
                let data = self.audio.bytes.slice(2 * place..2 * end);
                place = if end == frames { 0 } else { end };
                let audio = v1::StreamAudio { data, position: None };
                let message = v1::MatchStreamRequest { part: Some(Part::Audio(audio)) };
                if requests.send(message).await.is_err() {
                    break;
                }
            }
            drop(requests);
        };
        let both = async { tokio::join!(receive, send).0 };
        tokio::time::timeout(self.duration + LAST_ANSWERS_MAX, both)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the last answers did not come")))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
