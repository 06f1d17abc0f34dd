//! Clips at given rates: what a server answers a second, and how soon.
//!
//! Clips are due at random times whose mean rate is given (a Poisson process), and are sent when they are due,
//! whatever the server has answered. A time counts from when a clip was due, so that neither a server that
//! stalls nor this program itself can make latencies look better.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::audio::Source;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::fingerprint::Fingerprinter;
use fingerprint_core::matching::MatchOptions;
use fingerprint_core::params::{Params, Role};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Request, Status};

use super::{CONNECT_TIME_MAX, samples_of};
use crate::args::BenchServerArgs;
use crate::catalog::dial::{Calls, Dial};
use crate::catalog::{match_options, reason};
use crate::report::bench_server::{ClipFigures, Micros};

/// Pieces that are made of each file.
const PIECES_OF_FILE: usize = 16;
/// Longest wait for an answer; what takes longer has failed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Calls that are open at a time. If as many are, the server is far behind, and what is due then is counted as
/// not sent.
const OPEN_MAX: usize = 20_000;
/// Longest time that is told apart, in microseconds.
const TIME_MAX_US: u64 = 60_000_000;

/// What all calls at one rate have measured.
struct Measured {
    answered_us: Histogram<u64>,
    refused_us: Histogram<u64>,
    sent_late_us: Histogram<u64>,
    matched_count: u64,
    failures: BTreeMap<String, u64>,
}

/// Sends clips at each rate in turn.
pub(super) async fn run(args: &BenchServerArgs, clips: &[Source]) -> Result<Vec<ClipFigures>> {
    let dial = Dial::new(&args.server, &args.connect)?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(dial.connect(CONNECT_TIME_MAX).await?);
    }
    let mut figures = Vec::new();
    for rate in &args.rate {
        let warmed_up = at_rate(args, &connections, clips, *rate, args.warm_up).await?;
        drop(warmed_up);
        figures.push(at_rate(args, &connections, clips, *rate, args.duration).await?);
    }
    Ok(figures)
}

/// Sends clips for a while.
async fn at_rate(
    args: &BenchServerArgs,
    connections: &[Calls],
    clips: &[Source],
    rate: f64,
    duration: Duration,
) -> Result<ClipFigures> {
    let times = || Histogram::new_with_max(TIME_MAX_US, 3).context("times cannot be counted");
    let measured = Arc::new(Mutex::new(Measured {
        answered_us: times()?,
        refused_us: times()?,
        sent_late_us: times()?,
        matched_count: 0,
        failures: BTreeMap::new(),
    }));
    let options =
        MatchOptions { speed_search: args.speed_search.into(), ..MatchOptions::default() };
    let mut random = fastrand::Rng::with_seed(1);
    let mut calls = JoinSet::new();
    let (mut due_count, mut not_sent_count) = (0_u64, 0_u64);
    let begin = Instant::now();
    let mut due = Duration::ZERO;
    loop {
        // Gaps of a Poisson process; the logarithm of 0 has no end.
        due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        if due >= duration {
            break;
        }
        sleep_until(begin + due).await;
        while calls.try_join_next().is_some() {}
        due_count += 1;
        if calls.len() >= OPEN_MAX {
            not_sent_count += 1;
            continue;
        }
        let source = clips[random.usize(0..clips.len())].clone();
        let request = v1::MatchRequest {
            audio: Some(v1::Audio { source: Some(source) }),
            options: Some(match_options(&options)),
            ..v1::MatchRequest::default()
        };
        let connection = connections[random.usize(0..connections.len())].clone();
        calls.spawn(call(connection, request, begin + due, Arc::clone(&measured)));
    }
    while calls.join_next().await.is_some() {}
    let elapsed = begin.elapsed();
    let measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(ClipFigures {
        rate_per_s: rate,
        due_count,
        not_sent_count,
        answered_count: measured.answered_us.len(),
        matched_count: measured.matched_count,
        refused_count: measured.refused_us.len(),
        failed_count: measured.failures.values().sum(),
        failures: measured.failures.clone().into_iter().collect(),
        answered_per_s: measured.answered_us.len() as f64 / elapsed.as_secs_f64(),
        answered_ms: Micros::of(&measured.answered_us),
        refused_ms: Micros::of(&measured.refused_us),
        sent_late_ms: Micros::of(&measured.sent_late_us),
    })
}

async fn call(
    connection: Calls,
    message: v1::MatchRequest,
    due: Instant,
    measured: Arc<Mutex<Measured>>,
) {
    let sent_late = us(due.elapsed());
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIME_MAX);
    let answer = MatchServiceClient::new(connection).r#match(request).await;
    let took = us(due.elapsed());
    let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    measured.sent_late_us.saturating_record(sent_late);
    match answer {
        Ok(answer) => {
            measured.answered_us.saturating_record(took);
            measured.matched_count += u64::from(!answer.into_inner().matches.is_empty());
        }
        Err(status) if is_refusal(&status) => measured.refused_us.saturating_record(took),
        Err(status) => {
            let text = format!("{:?}: {}", status.code(), status.message());
            *measured.failures.entry(text).or_default() += 1;
        }
    }
}

/// True if the server would not begin with it.
fn is_refusal(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
        && reason(status)
            .is_some_and(|reason| ["SERVER_BUSY", "KEY_LIMIT"].contains(&reason.as_str()))
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is sent: the files as they are, or fingerprints of pieces of them.
pub(super) fn read(args: &BenchServerArgs) -> Result<Vec<Source>> {
    let mut clips = Vec::new();
    for path in &args.files {
        if args.send_audio {
            let bytes = std::fs::read(path)
                .with_context(|| format!("{}: could not be read", path.display()))?;
            clips.push(Source::Encoded(bytes.into()));
        } else {
            clips.extend(pieces(path, args.clip)?.into_iter().map(Source::Fingerprint));
        }
    }
    Ok(clips)
}

/// Fingerprints of pieces of a file that begin at random places.
fn pieces(path: &Path, length: Duration) -> Result<Vec<Bytes>> {
    let (samples, rate) = samples_of(path)?;
    let len = length.as_millis() * u128::from(rate) / 1_000;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len == 0 || samples.len() < len {
        bail!(
            "{}: shorter than a clip of {}; give longer files, or --clip",
            path.display(),
            humantime::format_duration(length)
        );
    }
    let params = Params::default();
    let mut random = fastrand::Rng::with_seed(samples.len() as u64);
    (0..PIECES_OF_FILE)
        .map(|_| {
            let start = random.usize(0..=samples.len() - len);
            let mut fingerprinter = Fingerprinter::new(&params, Role::Query);
            fingerprinter.push(&samples[start..start + len], rate)?;
            Ok(fingerprinter.finish().to_bytes(&params).into())
        })
        .collect()
}
