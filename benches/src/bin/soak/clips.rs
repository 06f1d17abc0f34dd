//! Callers that ask what is in clips of the recordings, in every way in which it can be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use earmark_benches::seeded;
use earmark_proto::v1;
use earmark_proto::v1::audio::Source;
use fingerprint_core::params::Role;
use serde_json::Value;

use crate::Soak;
use crate::calls::{Calls, clip, patiently};
use crate::judge::{Named, Truth, judge};
use crate::sound::{cut, fingerprint, len_ds, wav};

/// Length of a clip in tenths of a second.
const LEN_DS: std::ops::RangeInclusive<usize> = 60..=100;
/// Clips of a batch.
const BATCH_LEN: usize = 4;
/// Tries over HTTP, each after the time that a busy server asked for.
const HTTP_TRIES: usize = 10;

/// A clip of a recording, and when it was asked for.
struct Asked {
    recording: usize,
    from_ds: usize,
    since: Instant,
}

/// Asks for one clip after the other until the soak ends.
pub(crate) async fn run(soak: Arc<Soak>, number: usize, pause: Duration) -> Result<()> {
    let calls = Calls::connect(&soak).await?;
    let mut random = seeded(soak.seed, &format!("caller {number}"));
    while soak.goes_on() {
        match random.usize(0..5) {
            0 => as_wav(&soak, &calls, &mut random).await?,
            1 => as_fingerprint(&soak, &calls, &mut random).await?,
            2 => as_file(&soak, &calls, &mut random).await,
            3 => over_http(&soak, &mut random).await?,
            _ => as_batch(&soak, &calls, &mut random).await?,
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn as_wav(soak: &Soak, calls: &Calls, random: &mut fastrand::Rng) -> Result<()> {
    let (asked, samples) = draw(soak, random);
    let answer = calls.find(soak, clip(Source::Encoded(wav(samples)?))).await;
    check(soak, "clips as WAV", &asked, answer.map(|answer| answer.matches));
    Ok(())
}

async fn as_fingerprint(soak: &Soak, calls: &Calls, random: &mut fastrand::Rng) -> Result<()> {
    let (asked, samples) = draw(soak, random);
    let bytes = fingerprint(samples, Role::Query)?;
    let answer = calls.find(soak, clip(Source::Fingerprint(bytes))).await;
    check(soak, "clips as fingerprints", &asked, answer.map(|answer| answer.matches));
    Ok(())
}

/// The file of a whole recording, each in a codec of its own.
async fn as_file(soak: &Soak, calls: &Calls, random: &mut fastrand::Rng) {
    let recording = random.usize(0..soak.sound.recordings.len());
    let asked = Asked { recording, from_ds: 0, since: Instant::now() };
    let file = soak.sound.recordings[recording].file.clone();
    let answer = calls.find(soak, clip(Source::Encoded(file))).await;
    check(soak, "clips as files of all codecs", &asked, answer.map(|answer| answer.matches));
}

async fn as_batch(soak: &Soak, calls: &Calls, random: &mut fastrand::Rng) -> Result<()> {
    let (mut asked, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..BATCH_LEN {
        let (one, samples) = draw(soak, random);
        let bytes = fingerprint(samples, Role::Query)?;
        requests.push(clip(Source::Fingerprint(bytes)));
        asked.push(one);
    }
    let request = v1::BatchMatchRequest { requests };
    let answer = patiently(soak, || {
        let (mut client, request) = (calls.matcher.clone(), request.clone());
        async move { client.batch_match(request).await }
    })
    .await;
    let results = match answer {
        Ok(answer) => answer.results,
        Err(status) => {
            soak.tally.wrong(&format!("a batch: {status}"));
            return Ok(());
        }
    };
    if results.len() != asked.len() {
        soak.tally.wrong(&format!("a batch of {} has {} answers", asked.len(), results.len()));
    }
    for (asked, result) in asked.iter().zip(results) {
        match result.result {
            Some(v1::batch_match_result::Result::Response(answer)) => {
                check(soak, "clips in batches", asked, Ok(answer.matches));
            }
            // As of a clip of its own, a busy server's refusal is no fault.
            Some(v1::batch_match_result::Result::Error(error)) if error.reason == "SERVER_BUSY" => {
                soak.tally.count("refused for now, of a batch");
            }
            other => soak.tally.wrong(&format!("a clip of a batch: {other:?}")),
        }
    }
    Ok(())
}

async fn over_http(soak: &Soak, random: &mut fastrand::Rng) -> Result<()> {
    let (asked, samples) = draw(soak, random);
    let (url, body) = (format!("{}/v1/match?max_matches=5", soak.url), wav(samples)?);
    let limit = soak.answer_time_max;
    let answer = match tokio::task::spawn_blocking(move || post(&url, &body, limit)).await? {
        Ok(answer) => answer,
        Err(error) => {
            soak.tally.wrong(&format!("over HTTP: {error:#}"));
            return Ok(());
        }
    };
    let matches = answer["matches"].as_array();
    match matches.and_then(|matches| matches.iter().map(named).collect::<Option<Vec<_>>>()) {
        Some(named) => compare(soak, "clips over HTTP", &asked, &named),
        None => soak.tally.wrong(&format!("over HTTP: {answer}")),
    }
    Ok(())
}

/// The answer to a file, or the problem, as JSON; each try may take up to `limit`.
fn post(url: &str, body: &Bytes, limit: Duration) -> Result<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(limit))
        .build()
        .into();
    for _ in 1..HTTP_TRIES {
        let mut answer = agent.post(url).send(&body[..])?;
        let pause =
            answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(pause) = pause {
            std::thread::sleep(Duration::from_secs(pause));
            continue;
        }
        let text = answer.body_mut().read_to_string()?;
        return serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"));
    }
    Ok(Value::String("busy for too long".to_owned()))
}

/// A match in JSON; `None` if fields are missing.
fn named(found: &Value) -> Option<Named> {
    let start_s = found["query_start_s"].as_f64()?;
    let mut offsets_s = vec![found["reference_offset_s"].as_f64()?];
    for other in found["alternatives"].as_array()? {
        offsets_s.push(other["reference_start_s"].as_f64()? - start_s);
    }
    Some(Named { track_id: found["track_id"].as_str()?.to_owned(), offsets_s })
}

/// A stretch of some recording, whether it is there or not.
fn draw<'a>(soak: &'a Soak, random: &mut fastrand::Rng) -> (Asked, &'a [f32]) {
    let recording = random.usize(0..soak.sound.recordings.len());
    let samples = &soak.sound.recordings[recording].samples;
    let len = random.usize(LEN_DS);
    let from_ds = random.usize(0..=len_ds(samples).saturating_sub(len));
    (Asked { recording, from_ds, since: Instant::now() }, cut(samples, from_ds, len))
}

fn check(
    soak: &Soak,
    what: &'static str,
    asked: &Asked,
    answer: Result<Vec<v1::Match>, tonic::Status>,
) {
    match answer {
        Ok(matches) => {
            compare(soak, what, asked, &matches.iter().map(Named::of).collect::<Vec<_>>());
        }
        Err(status) => soak.tally.wrong(&format!("{what}: {status}")),
    }
}

fn compare(soak: &Soak, what: &'static str, asked: &Asked, named: &[Named]) {
    let truth = Truth {
        track_id: &soak.sound.recordings[asked.recording].id,
        from_s: asked.from_ds as f64 / 10.0,
        state: soak.ledger.throughout(asked.recording, asked.since, Instant::now()),
    };
    if let Some(mistake) = judge(&truth, named) {
        soak.tally.wrong(&format!("{what}: {mistake}"));
    }
    soak.tally.count(what);
}
