//! Recognition must not get worse unseen: damaged clips of `testdata/`, and how many of them are
//! found today.
//!
//! Nine recordings are indexed, three are held out. Two clips of each indexed one must be found,
//! three of each held-out one must not be answered. All damage is made here, from fixed seeds, so
//! the counts are the same in every run; on another processor a transform may round differently,
//! and a clip at the edge fall to the other side. Hence the margin of one clip.
//!
//! When recognition gets better, raise the figures: the test prints the new ones with
//! `--nocapture`.

use std::fmt::Write as _;
use std::thread;

use earmark_benches::damage::{Damage, Surroundings, resample, stretch};
use earmark_benches::{Pcm, files, seeded};
use fingerprint_core::index::{Index, MemoryIndex, Metadata, NewTrack};
use fingerprint_core::matching::{MatchOptions, match_fingerprint};
use fingerprint_core::params::{Params, Role, SAMPLE_RATE_HZ};
use fingerprint_core::units::TrackId;

/// Counts may miss the recorded ones by this many clips.
const MARGIN: usize = 1;
/// Clips of each indexed and of each held-out recording, for each condition.
const CLIPS: usize = 2;
const HELD_OUT_CLIPS: usize = 3;
/// Every so many recordings one is held out.
const HELD_OUT_EVERY: usize = 4;
const SEED: u64 = 20;
/// Offsets within half a second are right.
const OFFSET_TOLERANCE_S: f64 = 0.5;
/// Factors within half a percent are right.
const FACTOR_TOLERANCE: f64 = 0.005;

/// A condition, and what was measured.
struct Recorded {
    name: &'static str,
    /// Length of the clip in seconds.
    seconds: f64,
    /// Speed and pitch of the clip over the recording's.
    speed: f64,
    pitch: f64,
    damage: &'static [Damage],
    counts: Counts,
}

/// Of 18 clips of indexed recordings and 9 of held-out ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// The best answer is the right track.
    hits: usize,
    /// And the right place in it.
    placed: usize,
    /// Hits whose speed and pitch are told right.
    told: usize,
    /// Answered by another track, or though held out.
    false_accepts: usize,
}

const fn recorded(
    name: &'static str,
    seconds: f64,
    (speed, pitch): (f64, f64),
    damage: &'static [Damage],
    [hits, placed, told, false_accepts]: [usize; 4],
) -> Recorded {
    Recorded {
        name,
        seconds,
        speed,
        pitch,
        damage,
        counts: Counts { hits, placed, told, false_accepts },
    }
}

const SAME: (f64, f64) = (1.0, 1.0);
const PINK_0: &[Damage] = &[Damage::Pink { snr_db: 0.0 }];

/// Measured when matching was last changed.
const RECORDED: &[Recorded] = &[
    recorded("clean", 2.0, SAME, &[], [18, 18, 18, 0]),
    recorded("telephone", 3.0, SAME, &[Damage::Telephone], [18, 18, 18, 0]),
    recorded("pink noise +5 dB", 5.0, SAME, &[Damage::Pink { snr_db: 5.0 }], [16, 14, 16, 0]),
    recorded("pink noise 0 dB", 9.0, SAME, PINK_0, [16, 16, 16, 0]),
    recorded("pink noise -5 dB", 9.0, SAME, &[Damage::Pink { snr_db: -5.0 }], [15, 14, 15, 0]),
    recorded("other music 0 dB", 9.0, SAME, &[Damage::Music { snr_db: 0.0 }], [17, 17, 17, 0]),
    recorded("room", 9.0, SAME, &[Damage::Room], [18, 18, 18, 0]),
    recorded("clipped, equalised", 5.0, SAME, &[Damage::ClipAndEqualise], [18, 18, 18, 0]),
    recorded("quiet", 5.0, SAME, &[Damage::Gain { db: -40.0 }], [18, 18, 18, 0]),
    recorded("dropout", 9.0, SAME, &[Damage::Dropout], [18, 18, 18, 0]),
    recorded("speed +3 %", 9.0, (1.03, 1.03), &[], [18, 18, 18, 0]),
    recorded("speed -8 %", 9.0, (0.92, 0.92), &[], [18, 18, 18, 0]),
    recorded("speed +4 %, pink 0 dB", 9.0, (1.04, 1.04), PINK_0, [16, 16, 16, 0]),
    recorded("tempo +4 %", 9.0, (1.04, 1.0), &[], [18, 18, 18, 0]),
    recorded("tempo -10 %", 9.0, (0.9, 1.0), &[], [18, 18, 18, 0]),
    recorded("pitch +50 cents", 9.0, (1.0, 1.0293), &[], [18, 16, 18, 0]),
    recorded("pitch -200 cents", 9.0, (1.0, 0.8909), &[], [18, 18, 18, 0]),
    recorded("pitch +4, tempo -4 %", 9.0, (0.96, 1.04), &[], [18, 18, 18, 0]),
];

/// One recording at the analysis rate, where damage costs least.
struct Recording {
    path: String,
    samples: Vec<f32>,
    is_held_out: bool,
}

fn recordings() -> Vec<Recording> {
    let load = |(i, path): (usize, String)| Recording {
        samples: Pcm::decode(&path).at_analysis_rate().samples,
        is_held_out: i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1,
        path,
    };
    files("catalog").into_iter().enumerate().map(load).collect()
}

/// The index holds the recordings as they are in their files.
fn index(recordings: &[Recording]) -> MemoryIndex {
    let index = MemoryIndex::new(&Params::default());
    let track = |recording: &Recording| NewTrack {
        id: TrackId::new(&*recording.path).unwrap(),
        metadata: Metadata::default(),
        fingerprint: Pcm::decode(&recording.path).fingerprint(Role::Track),
    };
    let indexed = recordings.iter().filter(|recording| !recording.is_held_out);
    index.add(&indexed.map(track).collect::<Vec<_>>()).unwrap();
    index
}

/// Cuts and damages a clip; gives its offset in seconds, too.
fn clip(
    recording: &Recording,
    condition: &Recorded,
    music: &[f32],
    rng: &mut fastrand::Rng,
) -> (f64, Pcm) {
    let rate = f64::from(SAMPLE_RATE_HZ);
    let len = (condition.seconds * rate) as usize;
    // Changing the tempo loses a little at the end.
    let taken = ((condition.seconds + 0.3) * condition.speed * rate) as usize;
    let start = rng.usize(..recording.samples.len() - taken);
    let excerpt = &recording.samples[start..start + taken];
    // Pitch is tempo undone by speed.
    let tempo = condition.speed / condition.pitch;
    let mut samples = match (tempo == 1.0, condition.pitch == 1.0) {
        (true, true) => excerpt.to_vec(),
        (true, false) => resample(excerpt, condition.pitch),
        (false, true) => stretch(excerpt, SAMPLE_RATE_HZ, tempo),
        (false, false) => resample(&stretch(excerpt, SAMPLE_RATE_HZ, tempo), condition.pitch),
    };
    assert!(samples.len() >= len, "{}: the clip is too short", condition.name);
    samples.truncate(len);
    let around = Surroundings { music, noise: &[] };
    for damage in condition.damage {
        damage.apply(&mut samples, SAMPLE_RATE_HZ, around, rng);
    }
    (start as f64 / rate, Pcm { samples, rate_hz: SAMPLE_RATE_HZ })
}

fn measure(condition: &Recorded, recordings: &[Recording], index: &MemoryIndex) -> Counts {
    let mut counts = Counts { hits: 0, placed: 0, told: 0, false_accepts: 0 };
    for (i, recording) in recordings.iter().enumerate() {
        let clips = if recording.is_held_out { HELD_OUT_CLIPS } else { CLIPS };
        for number in 0..clips {
            let label = format!("{} {} {number}", condition.name, recording.path);
            let mut rng = seeded(SEED, &label);
            let others = recordings.iter().enumerate().filter(|(j, r)| r.is_held_out && *j != i);
            let others: Vec<_> = others.map(|(_, recording)| &recording.samples).collect();
            let music = others[rng.usize(..others.len())];
            let (offset_s, query) = clip(recording, condition, music, &mut rng);
            let query = query.fingerprint(Role::Query);
            let (options, params) = (MatchOptions::default(), Params::default());
            let report = match_fingerprint(index, &query, &options, &params, &|| false).unwrap();
            let Some(best) = report.matches.first() else { continue };
            if best.track_id.as_str() == recording.path {
                let error_s = best.reference_offset_s - offset_s;
                counts.hits += 1;
                counts.placed += usize::from(error_s.abs() <= OFFSET_TOLERANCE_S);
                let is_told = (best.speed / condition.speed - 1.0).abs() <= FACTOR_TOLERANCE
                    && (best.pitch / condition.pitch - 1.0).abs() <= FACTOR_TOLERANCE;
                counts.told += usize::from(is_told);
            } else {
                counts.false_accepts += 1;
            }
        }
    }
    counts
}

#[test]
fn damaged_clips_are_found_as_often_as_recorded() {
    let recordings = recordings();
    let index = index(&recordings);
    let measured: Vec<Counts> = thread::scope(|scope| {
        let (recordings, index) = (&recordings, &index);
        let run = |condition| scope.spawn(move || measure(condition, recordings, index));
        // All are started before the first is waited for.
        let running: Vec<_> = RECORDED.iter().map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut table = String::new();
    let mut is_worse = false;
    for (condition, now) in RECORDED.iter().zip(measured) {
        let then = condition.counts;
        let worse = now.hits + MARGIN < then.hits
            || now.placed + MARGIN < then.placed
            || now.told + MARGIN < then.told
            || now.false_accepts > then.false_accepts + MARGIN;
        let mark = if worse { "  WORSE" } else { "" };
        let Recorded { name, seconds, .. } = condition;
        let list = |counts: Counts| {
            let Counts { hits, placed, told, false_accepts } = counts;
            format!("[{hits}, {placed}, {told}, {false_accepts}]")
        };
        let (now, then) = (list(now), list(then));
        let _ = writeln!(table, "{name:<22} {seconds:>2} s: {now}, recorded {then}{mark}");
        is_worse |= worse;
    }
    println!("{table}");
    assert!(!is_worse, "hits, in place, with the right factors, false accepts:\n{table}");
}
