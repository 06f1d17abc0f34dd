//! Tracks that come, are replaced, and go: what is acknowledged can be found at once, and what is
//! removed or replaced cannot.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_response::Change;
use earmark_proto::v1::audio::Source;
use fingerprint_core::params::Role;
use tonic::Code;

use crate::Soak;
use crate::calls::{Calls, clip};
use crate::judge::{Named, Truth, judge};
use crate::ledger::State;
use crate::sound::{cut, fingerprint, tune, wav};

/// Length of a track in seconds.
const TRACK_S: usize = 40;
/// Where in a track its clip begins, and how long it is, in tenths of a second.
const CLIP_DS: (usize, usize) = (70, 60);
/// Tracks that are there at a time.
const KEPT: usize = 100;
/// Every so many tracks one is replaced.
const REPLACED_EVERY: u64 = 5;
/// Every so many tracks one is added twice.
const REPEATED_EVERY: u64 = 7;
/// Time between two tracks.
const PAUSE: Duration = Duration::from_millis(200);
/// Numbers of the tunes that replace others count from here.
const REPLACEMENTS: u64 = 1 << 40;

/// A track that is there.
struct Passing {
    id: String,
    tune: u64,
}

/// Adds and removes tracks until the soak ends; gives the ids of those that are left.
pub(crate) async fn run(soak: Arc<Soak>) -> Result<BTreeSet<String>> {
    let calls = Calls::connect(&soak).await?;
    let mut kept: VecDeque<Passing> = VecDeque::new();
    for number in 0.. {
        if !soak.goes_on() {
            break;
        }
        let mut track = Passing { id: format!("passing-{number:06}"), tune: number };
        if put(&soak, &calls, &track, Change::Inserted).await? {
            hear(&soak, &calls, &track, track.tune, State::Present).await?;
            if number % REPEATED_EVERY == 0 {
                put(&soak, &calls, &track, Change::Unchanged).await?;
            }
            if number % REPLACED_EVERY == 0 {
                track.tune = REPLACEMENTS + number;
                put(&soak, &calls, &track, Change::Replaced).await?;
                hear(&soak, &calls, &track, number, State::Absent).await?;
                hear(&soak, &calls, &track, track.tune, State::Present).await?;
            }
            kept.push_back(track);
        }
        if kept.len() > KEPT
            && let Some(oldest) = kept.pop_front()
        {
            take_out(&soak, &calls, &oldest).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(kept.into_iter().map(|track| track.id).collect())
}

/// Adds a track, as audio or as a fingerprint; whether it was stored.
async fn put(soak: &Soak, calls: &Calls, track: &Passing, expected: Change) -> Result<bool> {
    let samples = tune(soak.seed, track.tune, TRACK_S);
    let (encoding, bytes) = if track.tune.is_multiple_of(2) {
        (Encoding::Audio, wav(&samples)?)
    } else {
        (Encoding::Fingerprint, fingerprint(&samples, Role::Track)?)
    };
    let id = &track.id;
    let answer = match calls.add(soak, id, encoding, &bytes).await {
        Ok(answer) => answer,
        Err(status) => {
            soak.tally.wrong(&format!("adding {id}: {status}"));
            return Ok(false);
        }
    };
    if answer.change() != expected || !answer.duplicate_of.is_empty() {
        soak.tally.wrong(&format!("adding {id}, expected {expected:?}: {answer:?}"));
    }
    match calls.track(soak, id).await {
        Ok(Some(stored)) if stored.metadata.as_ref().is_some_and(|m| m.title.contains(id)) => {}
        other => soak.tally.wrong(&format!("{id} was added, and is read as {other:?}")),
    }
    soak.tally.count(match expected {
        Change::Inserted => "tracks added",
        Change::Replaced => "tracks replaced",
        _ => "tracks added again",
    });
    Ok(true)
}

/// Asks for a clip of a tune.
async fn hear(
    soak: &Soak,
    calls: &Calls,
    track: &Passing,
    number: u64,
    state: State,
) -> Result<()> {
    let samples = tune(soak.seed, number, TRACK_S);
    let bytes = fingerprint(cut(&samples, CLIP_DS.0, CLIP_DS.1), Role::Query)?;
    let truth = Truth { track_id: &track.id, from_s: CLIP_DS.0 as f64 / 10.0, state };
    match calls.find(soak, clip(Source::Fingerprint(bytes))).await {
        Ok(answer) => {
            let named: Vec<_> = answer.matches.iter().map(Named::of).collect();
            if let Some(mistake) = judge(&truth, &named) {
                soak.tally.wrong(&format!("passing tracks: {mistake}"));
            }
        }
        Err(status) => soak.tally.wrong(&format!("passing tracks: {status}")),
    }
    soak.tally.count("clips of passing tracks");
    Ok(())
}

/// Removes a track, after which nothing of it may be left.
async fn take_out(soak: &Soak, calls: &Calls, track: &Passing) -> Result<()> {
    let id = &track.id;
    // Told twice, as by a client that has not heard the answer.
    for _ in 0..2 {
        if let Err(status) = calls.remove(soak, id, id).await {
            soak.tally.wrong(&format!("removing {id}: {status}"));
            return Ok(());
        }
    }
    match calls.track(soak, id).await {
        Ok(None) => {}
        other => soak.tally.wrong(&format!("{id} was removed, and is read as {other:?}")),
    }
    match calls.remove(soak, id, "").await {
        Err(status) if status.code() == Code::NotFound => {}
        other => soak.tally.wrong(&format!("{id} was removed, and is removed again: {other:?}")),
    }
    hear(soak, calls, track, track.tune, State::Absent).await?;
    soak.tally.count("tracks removed");
    Ok(())
}
