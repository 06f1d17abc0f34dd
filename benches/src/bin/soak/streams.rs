//! Streams in real time: a programme of recordings, tunes and silence, as samples or as a file, one in
//! three broken off and taken up again. What was there throughout must be heard where it is played; what
//! was not, and what is not played, must not be named; what begins must end.

mod sending;
mod told;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use earmark_benches::seeded;
use fingerprint_core::params::SAMPLE_RATE_HZ;

use self::sending::follow;
use self::told::{Heard, Told};
use crate::Soak;
use crate::ledger::State;
use crate::sound::{cut, len_ds, tune};

/// Length of a part of a programme in tenths of a second.
const PART_DS: std::ops::RangeInclusive<usize> = 130..=180;
/// Parts of a programme; fewer if the soak is about to end.
const PART_COUNT: usize = 4;
/// Silence between two parts in tenths of a second.
const SILENCE_DS: usize = 40;
/// How much of it must be told, in seconds.
const SILENCE_TOLD_S: f64 = 2.0;
/// How far an event may reach over its part, in seconds.
const REACH_S: f64 = 1.0;
/// How long after its last sample a part may still be searched.
const LAG_MAX: Duration = Duration::from_secs(15);
/// How long a stream is away when it is broken off.
const AWAY: Duration = Duration::from_millis(500);

/// A recording that is played, and when, in seconds of the stream.
struct Played {
    recording: usize,
    at_s: Range<f64>,
}

/// What a stream plays.
struct Programme {
    samples: Vec<f32>,
    played: Vec<Played>,
    /// Where nothing is played, in seconds.
    silent_s: Vec<Range<f64>>,
}

/// How a stream is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Samples,
    /// As samples; the connection breaks on the way, and another goes on.
    BrokenOff,
    /// As a WAV file, piece by piece.
    File,
}

/// Follows one stream after the other until the soak ends.
pub(crate) async fn run(soak: Arc<Soak>, number: usize) -> Result<()> {
    let mut random = seeded(soak.seed, &format!("stream {number}"));
    // Not all in the same beat.
    tokio::time::sleep(Duration::from_millis(random.u64(0..10_000))).await;
    for round in 0_u64.. {
        if !soak.goes_on() {
            break;
        }
        let manner = [Manner::Samples, Manner::BrokenOff, Manner::File][random.usize(0..3)];
        let programme = Programme::draw(&soak, &mut random, (number as u64) << 32 | round);
        let name = format!("soak-{number}-{round}");
        let began = Instant::now();
        match follow(&soak, &programme, manner, &name, random.f64()).await? {
            Ok(told) => {
                programme.check(&soak, began, &told, manner);
                soak.tally.count(match manner {
                    Manner::Samples => "streams of samples",
                    Manner::BrokenOff => "streams broken off and taken up again",
                    Manner::File => "streams of files",
                });
            }
            Err(status) => soak.tally.wrong(&format!("stream {name}: {status}")),
        }
    }
    Ok(())
}

impl Programme {
    /// Different recordings, each after some silence, and a tune that is in no catalog.
    fn draw(soak: &Soak, random: &mut fastrand::Rng, number: u64) -> Self {
        let mut programme = Self { samples: Vec::new(), played: Vec::new(), silent_s: Vec::new() };
        let mut order: Vec<usize> = (0..soak.sound.recordings.len()).collect();
        random.shuffle(&mut order);
        let tune_at = random.usize(0..PART_COUNT);
        let remaining_s = soak.end.saturating_duration_since(Instant::now()).as_secs_f64();
        for (place, recording) in order.into_iter().take(PART_COUNT).enumerate() {
            if place > 0 && programme.duration_s() > remaining_s {
                break;
            }
            if place == tune_at {
                // Others than those of the passing tracks.
                programme.samples.extend(tune(!soak.seed, number, 8));
            } else {
                let samples = &soak.sound.recordings[recording].samples;
                let len = random.usize(PART_DS).min(len_ds(samples));
                let from = random.usize(0..=len_ds(samples) - len);
                let start_s = programme.duration_s();
                programme.samples.extend_from_slice(cut(samples, from, len));
                let at_s = start_s..programme.duration_s();
                programme.played.push(Played { recording, at_s });
            }
            let start_s = programme.duration_s();
            let silence = SILENCE_DS * SAMPLE_RATE_HZ as usize / 10;
            programme.samples.resize(programme.samples.len() + silence, 0.0);
            programme.silent_s.push(start_s..programme.duration_s());
        }
        programme
    }

    fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE_HZ)
    }

    /// Compares what was told with what was played.
    fn check(&self, soak: &Soak, began: Instant, told: &Told, manner: Manner) {
        let ended = Instant::now();
        let wrong = |words: String| soak.tally.wrong(&format!("a stream: {words}"));
        told.contradictions.iter().cloned().for_each(wrong);
        let is_of = |heard: &Heard, played: &Played| {
            heard.track_id == soak.sound.recordings[played.recording].id
                && heard.at_s.start >= played.at_s.start - REACH_S
                && heard.at_s.end <= played.at_s.end + REACH_S
        };
        for heard in told.heard.values() {
            if !heard.has_ended {
                wrong(format!("{heard:?} has no end"));
            }
            if !self.played.iter().any(|played| is_of(heard, played)) {
                wrong(format!("{heard:?} is not played there"));
            }
        }
        for played in &self.played {
            let from = began + Duration::from_secs_f64(played.at_s.start);
            let to = began + Duration::from_secs_f64(played.at_s.end) + LAG_MAX;
            let id = &soak.sound.recordings[played.recording].id;
            let is_heard = told.heard.values().any(|heard| is_of(heard, played));
            let held = |to| soak.ledger.throughout(played.recording, from, to);
            if is_heard && held(ended) == State::Absent {
                wrong(format!("{id} at {:?} s was heard, and is not there", played.at_s));
            }
            if !is_heard && held(to) == State::Present {
                wrong(format!("{id} at {:?} s was not heard, and is there", played.at_s));
            }
            soak.tally.count("recordings played in streams");
        }
        // What is told of silence while a stream is away is not told again.
        for at_s in self.silent_s.iter().filter(|_| manner != Manner::BrokenOff) {
            let overlap = |told: &Range<f64>| told.end.min(at_s.end) - told.start.max(at_s.start);
            if !told.silent_s.iter().any(|told| overlap(told) >= SILENCE_TOLD_S) {
                wrong(format!("the silence at {at_s:?} s was not told: {:?}", told.silent_s));
            }
        }
    }
}
