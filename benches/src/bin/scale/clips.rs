//! Recordings of a folder: fingerprints to plant and to make synthetic tracks of, and damaged clips.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use earmark_benches::damage::{Damage, Surroundings, resample, stretch};
use earmark_benches::find::find;
use earmark_benches::work::{self, Progress, tell};
use earmark_benches::{Pcm, seeded};
use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::index::{Metadata, NewTrack};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;

/// Every so manieth recording is not planted.
const HELD_OUT: usize = 5;
/// Length of a clip in seconds, as it is heard.
const CLIP_S: usize = 10;
/// Recordings below this length, in seconds, are left out: their clips would be most of them.
const SHORTEST_S: usize = 20;
/// Longest part of a recording that clips are taken from, in seconds.
const PART_MAX_S: usize = 600;

/// What happens to a clip.
#[derive(Debug, Clone, Copy)]
enum Change {
    Damaged(Damage),
    /// As of a turntable.
    Speed(f64),
    Tempo(f64),
    Pitch(f64),
}

/// The conditions in turn: one clip of each planted recording.
const ORDER: [(&str, Change); 9] = [
    ("pink 0 dB", Change::Damaged(Damage::Pink { snr_db: 0.0 })),
    ("speed +3 %", Change::Speed(1.03)),
    ("music 0 dB", Change::Damaged(Damage::Music { snr_db: 0.0 })),
    ("telephone", Change::Damaged(Damage::Telephone)),
    ("tempo -10 %", Change::Tempo(0.9)),
    ("room", Change::Damaged(Damage::Room)),
    ("clipped", Change::Damaged(Damage::ClipAndEqualise)),
    ("pitch -200 c", Change::Pitch(0.890_899)),
    ("quiet", Change::Damaged(Damage::Gain { db: -40.0 })),
];

/// A clip to search for.
#[derive(Debug)]
pub(crate) struct Clip {
    /// What happened to it.
    pub(crate) condition: &'static str,
    /// Whether speed, tempo or pitch was changed.
    pub(crate) is_changed: bool,
    /// Its track, if that is planted.
    pub(crate) track_id: Option<TrackId>,
    pub(crate) fingerprint: Fingerprint,
}

/// What a folder gives.
#[derive(Debug)]
pub(crate) struct Recordings {
    pub(crate) planted: Vec<NewTrack>,
    /// All of them.
    pub(crate) sources: Vec<Fingerprint>,
    pub(crate) clips: Vec<Clip>,
}

/// Fingerprints all recordings of `folder` and makes clips of them.
///
/// # Errors
///
/// If there is no recording of 20 s.
pub(crate) fn prepare(folder: &Path, seed: u64, params: &Params) -> Result<Recordings> {
    let files = find(folder)?.files;
    ensure!(!files.is_empty(), "{} holds no audio files", folder.display());
    let mut progress = Progress::new("files read", files.len());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut recordings = Recordings { planted: Vec::new(), sources: Vec::new(), clips: Vec::new() };
    let work = |i: usize| read(&files[i], &files[(i + 7) % files.len()], i, seed, params);
    work::in_order(jobs, files.len(), work, |i, read| {
        progress.tell(i);
        match read {
            Ok(Some((track, clips))) => {
                recordings.sources.push(track.fingerprint.clone());
                if !is_held_out(i) {
                    recordings.planted.push(track);
                }
                recordings.clips.extend(clips);
            }
            Ok(None) => {}
            Err(error) => tell(&format!("left out: {}: {error:#}", files[i].display())),
        }
        Ok(())
    })?;
    ensure!(!recordings.clips.is_empty(), "{} has no recording of 20 s", folder.display());
    Ok(recordings)
}

fn is_held_out(i: usize) -> bool {
    i % HELD_OUT == HELD_OUT - 1
}

/// The track of a file and its clips; `None` if it is too short for one.
fn read(
    path: &Path,
    other: &Path,
    number: usize,
    seed: u64,
    params: &Params,
) -> Result<Option<(NewTrack, Vec<Clip>)>> {
    let mut fingerprinter = Fingerprinter::new(params, Role::Track);
    let mut unknown_rate = Ok(());
    let part = part(path, &mut |samples, rate_hz| {
        unknown_rate = fingerprinter.push(samples, rate_hz);
        unknown_rate.is_ok()
    })?;
    unknown_rate?;
    let fingerprint = fingerprinter.finish();
    if part.samples.len() < SHORTEST_S * part.rate_hz as usize {
        return Ok(None);
    }
    let id = TrackId::new(format!("recording-{number}")).context("a plain id")?;
    let mut rng = seeded(seed, id.as_str());
    let is_held_out = is_held_out(number);
    // As many foreign clips as own ones, about.
    let (count, first) = if is_held_out { (3, number / HELD_OUT) } else { (1, number) };
    let mut clips = Vec::new();
    for turn in 0..count {
        let (condition, change) = ORDER[(first + turn * 4) % ORDER.len()];
        // Synthetic tracks are recordings at other pitches, further off than a search reaches; from a
        // clip of changed pitch they would not be.
        if is_held_out && matches!(change, Change::Pitch(_)) {
            continue;
        }
        let music = if matches!(change, Change::Damaged(Damage::Music { .. })) {
            at_rate(&self::part(other, &mut |_, _| false)?, part.rate_hz)
        } else {
            Vec::new()
        };
        let clip = cut(&part, change, &music, &mut rng);
        clips.push(Clip {
            condition,
            is_changed: !matches!(change, Change::Damaged(_)),
            track_id: (!is_held_out).then(|| id.clone()),
            fingerprint: clip.fingerprint(Role::Query),
        });
    }
    Ok(Some((NewTrack { id, metadata: Metadata::default(), fingerprint }, clips)))
}

/// The beginning of a recording; `also` is told all of it, as long as it says so.
fn part(path: &Path, also: &mut dyn FnMut(&[f32], u32) -> bool) -> Result<Pcm> {
    let mut pcm = Pcm { samples: Vec::new(), rate_hz: 0 };
    decode(Input::Path(path), &DecodeOptions::default(), &mut |samples, rate_hz| {
        pcm.rate_hz = rate_hz;
        let is_part = pcm.samples.len() < PART_MAX_S * rate_hz as usize;
        if is_part {
            pcm.samples.extend_from_slice(samples);
        }
        if also(samples, rate_hz) || is_part {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(pcm)
}

fn at_rate(pcm: &Pcm, rate_hz: u32) -> Vec<f32> {
    let samples = &pcm.samples[..pcm.samples.len().min(30 * pcm.rate_hz as usize)];
    resample(samples, f64::from(pcm.rate_hz) / f64::from(rate_hz))
}

/// A clip of [`CLIP_S`] seconds from anywhere.
fn cut(part: &Pcm, change: Change, music: &[f32], rng: &mut fastrand::Rng) -> Pcm {
    let rate = part.rate_hz as usize;
    // Enough for any change.
    let taken = (CLIP_S + 3) * rate;
    let start = rng.usize(..part.samples.len() - taken);
    let excerpt = &part.samples[start..start + taken];
    let mut samples = match change {
        Change::Damaged(_) => excerpt[..CLIP_S * rate].to_vec(),
        Change::Speed(factor) => resample(excerpt, factor),
        Change::Tempo(factor) => stretch(excerpt, part.rate_hz, factor),
        Change::Pitch(factor) => resample(&stretch(excerpt, part.rate_hz, 1.0 / factor), factor),
    };
    samples.truncate(CLIP_S * rate);
    if let Change::Damaged(damage) = change {
        let around = Surroundings { music, noise: &[] };
        damage.apply(&mut samples, part.rate_hz, around, rng);
    }
    Pcm { samples, rate_hz: part.rate_hz }
}
