//! Queries made, and asked.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use earmark_benches::damage::{Surroundings, gain, limit_peak, rms};
use earmark_benches::work::{Progress, in_order, tell};
use earmark_benches::{Pcm, damage, seeded};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::RocksIndex;
use fingerprint_core::matching::{Match, MatchOptions, match_fingerprint};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;

use crate::audio::{RATE_HZ, at_rate, cut, whole, write_wav};
use crate::catalog::Catalog;
use crate::condition::{Carrier, Change};
use crate::ffmpeg::Ffmpeg;
use crate::plan::{Plan, Query, draw_offset, taken_s};

/// Seconds that are cut more than needed: filters and changes of tempo lose some at the end.
const SPARE_S: f64 = 0.5;
/// Seconds of excerpts of one recording that are held in memory at a time: 30 MB at 48 kHz.
const CUT_TOGETHER_S: f64 = 160.0;
/// Pieces of other music and of noise that are held ready, and their length in seconds.
const HEARD_MAX: usize = 24;
const HEARD_S: f64 = 12.0;
/// Rate of a telephone in Hz.
const TELEPHONE_RATE_HZ: u32 = 8_000;
/// Room for what a change of tempo or pitch adds to peaks, in dB.
const STRETCH_HEADROOM_DB: f32 = -3.0;

/// Where queries are made and asked.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) index: &'a RocksIndex,
    pub(crate) options: MatchOptions,
    pub(crate) params: Params,
    pub(crate) ffmpeg: Ffmpeg,
    /// Held-out recordings, by their place in the catalog.
    pub(crate) music: Vec<(usize, Vec<f32>)>,
    pub(crate) noise: Vec<Vec<f32>>,
    /// A folder for the files of queries.
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    pub(crate) job_count: usize,
}

/// What came of a query.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Best first; `Err` says why the query could not be made.
    pub(crate) answers: std::result::Result<Vec<Answer>, String>,
    /// Decoding and fingerprint, in milliseconds.
    pub(crate) fingerprint_ms: f64,
    /// The search, in milliseconds.
    pub(crate) search_ms: f64,
}

/// One match.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) track_id: TrackId,
    /// That of its recording; none if it is a distractor.
    pub(crate) group: Option<usize>,
    pub(crate) score: f64,
    pub(crate) confidence: f64,
    pub(crate) e_value: Option<f64>,
    /// Track time at query time 0, in seconds.
    pub(crate) offset_s: f64,
    pub(crate) speed: f64,
    pub(crate) pitch: f64,
}

/// Pieces of up to 24 held-out recordings, for mixing in.
pub(crate) fn other_music(
    catalog: &Catalog,
    seed: u64,
    job_count: usize,
) -> Result<Vec<(usize, Vec<f32>)>> {
    let mut rng = seeded(seed, "other music");
    let mut places = catalog.held_out.clone();
    rng.shuffle(&mut places);
    let draw = |place: &usize| {
        let recording = &catalog.recordings[*place];
        let taken_s = HEARD_S.min(recording.duration_s / 2.0);
        let offset_s = draw_offset(recording, taken_s, &mut rng)?;
        Some((*place, offset_s..offset_s + taken_s))
    };
    let drawn: Vec<_> = places.iter().filter_map(draw).take(HEARD_MAX).collect();
    let files: Vec<_> =
        drawn.iter().map(|(i, range)| (&*catalog.recordings[*i].path, range.clone())).collect();
    let pieces = heard(&files, job_count)?;
    // Silence would not be mixed in at all.
    let is_loud = |(_, samples): &(usize, Vec<f32>)| rms(samples) > 0.0;
    Ok(drawn.iter().map(|(i, _)| *i).zip(pieces).filter(is_loud).collect())
}

/// The beginnings of up to 24 of these files.
pub(crate) fn noises(files: &[PathBuf], seed: u64, job_count: usize) -> Result<Vec<Vec<f32>>> {
    let mut files: Vec<_> = files.iter().map(|path| (&**path, 0.0..HEARD_S)).collect();
    seeded(seed, "noise").shuffle(&mut files);
    files.truncate(HEARD_MAX);
    let mut pieces = heard(&files, job_count)?;
    pieces.retain(|samples| rms(samples) > 0.0);
    Ok(pieces)
}

/// One stretch of each file at [`RATE_HZ`].
fn heard(files: &[(&Path, Range<f64>)], job_count: usize) -> Result<Vec<Vec<f32>>> {
    let mut heard = Vec::with_capacity(files.len());
    let work = |i: usize| -> Result<Vec<f32>> {
        let (path, seconds) = &files[i];
        let pcm = cut(path, std::slice::from_ref(seconds))?.remove(0);
        Ok(if pcm.rate_hz == 0 { Vec::new() } else { at_rate(pcm, 1.0) })
    };
    in_order(job_count, files.len(), work, |_, samples| {
        heard.push(samples?);
        Ok(())
    })?;
    Ok(heard)
}

/// All outcomes, in the order of the plan's queries.
pub(crate) fn run(bench: &Bench<'_>, plan: &Plan) -> Result<Vec<Outcome>> {
    let queries = &plan.queries;
    // A recording is decoded once for several of its excerpts.
    let mut order: Vec<usize> = (0..queries.len()).collect();
    order.sort_by_key(|i| queries[*i].recording);
    let longest_s = plan.rows.iter().fold(1.0_f64, |longest, row| longest.max(row.seconds));
    let together = whole(CUT_TOGETHER_S / longest_s).max(1);
    let units: Vec<&[usize]> = order
        .chunk_by(|a, b| queries[*a].recording == queries[*b].recording)
        .flat_map(|of_one| of_one.chunks(together))
        .collect();
    let groups = bench.catalog.groups();
    tell(&format!("asking {} queries", queries.len()));
    let mut progress = Progress::new("queries answered", queries.len());
    let mut outcomes: Vec<Option<Outcome>> = vec![None; queries.len()];
    let mut done = 0;
    let work = |unit: usize| bench.run_unit(queries, units[unit], &groups);
    in_order(bench.job_count, units.len(), work, |unit, results: Vec<Outcome>| {
        done += results.len();
        progress.tell(done);
        for (query, outcome) in units[unit].iter().zip(results) {
            outcomes[*query] = Some(outcome);
        }
        Ok(())
    })?;
    outcomes.into_iter().collect::<Option<_>>().context("a query was not asked: this is a bug")
}

impl Bench<'_> {
    /// Asks the queries at these places, all of one recording.
    fn run_unit(
        &self,
        queries: &[Query],
        places: &[usize],
        groups: &HashMap<TrackId, usize>,
    ) -> Vec<Outcome> {
        let ranges: Vec<_> = places
            .iter()
            .map(|i| {
                let Query { condition, seconds, offset_s, .. } = &queries[*i];
                *offset_s..offset_s + taken_s(condition, *seconds) + SPARE_S
            })
            .collect();
        let Some(first) = places.first() else { return Vec::new() };
        let path = &self.catalog.recordings[queries[*first].recording].path;
        match cut(path, &ranges) {
            Ok(excerpts) => places
                .iter()
                .zip(excerpts)
                .map(|(i, excerpt)| {
                    self.run_query(&queries[*i], excerpt, groups)
                        .unwrap_or_else(|error| Outcome::failed(format!("{error:#}")))
                })
                .collect(),
            Err(error) => places.iter().map(|_| Outcome::failed(format!("{error:#}"))).collect(),
        }
    }

    fn run_query(
        &self,
        query: &Query,
        excerpt: Pcm,
        groups: &HashMap<TrackId, usize>,
    ) -> Result<Outcome> {
        ensure!(excerpt.rate_hz > 0, "the recording ended before the excerpt began");
        // Dropped and deleted with all that is in it.
        let dir = tempfile::tempdir_in(&self.dir)
            .with_context(|| format!("no file can be made in {}", self.dir.display()))?;
        let file = self.make(query, excerpt, dir.path())?;
        let started = Instant::now();
        let options = DecodeOptions::default();
        let (fingerprint, _) =
            Fingerprint::from_audio(Input::Path(&file), &options, &self.params, Role::Query)?;
        let fingerprint_ms = started.elapsed().as_secs_f64() * 1e3;
        let started = Instant::now();
        let report =
            match_fingerprint(self.index, &fingerprint, &self.options, &self.params, &|| false)?;
        let search_ms = started.elapsed().as_secs_f64() * 1e3;
        let answers = report.matches.iter().map(|found| Answer::new(found, groups)).collect();
        Ok(Outcome { answers: Ok(answers), fingerprint_ms, search_ms })
    }

    /// Makes the file of a query in the folder `dir`.
    fn make(&self, query: &Query, excerpt: Pcm, dir: &Path) -> Result<PathBuf> {
        let condition = query.condition;
        let mut rng = seeded(self.seed, &query.id);
        let mut samples = match condition.change {
            Change::None => at_rate(excerpt, 1.0),
            Change::Speed(factor) => at_rate(excerpt, factor),
            Change::Stretch { tempo, pitch } => {
                self.stretch(at_rate(excerpt, 1.0), tempo, pitch, dir)?
            }
        };
        samples.truncate(whole(query.seconds * f64::from(RATE_HZ)));
        let around = self.surroundings(query, &mut rng);
        for damage in condition.damage {
            damage.apply(&mut samples, RATE_HZ, around, &mut rng);
        }
        limit_peak(&mut samples);
        let path = dir.join("query.wav");
        match condition.carrier {
            Carrier::Wav | Carrier::Coded(_) => write_wav(&path, &samples, RATE_HZ, 16, &[1.0])?,
            Carrier::Wav8Bit => write_wav(&path, &samples, RATE_HZ, 8, &[1.0])?,
            Carrier::WavMirrored => write_wav(&path, &samples, RATE_HZ, 16, &[1.0, -1.0])?,
            Carrier::Wav8Khz => {
                let step = f64::from(RATE_HZ) / f64::from(TELEPHONE_RATE_HZ);
                let narrow = damage::resample(&samples, step);
                write_wav(&path, &narrow, TELEPHONE_RATE_HZ, 16, &[1.0])?;
            }
        }
        condition.codecs().iter().try_fold(path, |path, codec| self.ffmpeg.encode(&path, *codec))
    }

    fn stretch(
        &self,
        mut samples: Vec<f32>,
        tempo: f64,
        pitch: f64,
        dir: &Path,
    ) -> Result<Vec<f32>> {
        gain(&mut samples, STRETCH_HEADROOM_DB);
        let (input, output) = (dir.join("played.wav"), dir.join("stretched.wav"));
        write_wav(&input, &samples, RATE_HZ, 16, &[1.0])?;
        self.ffmpeg.stretch(&input, tempo, pitch, &output)?;
        Ok(cut(&output, std::slice::from_ref(&(0.0..f64::MAX)))?.remove(0).samples)
    }

    /// What is mixed into a query: never a piece of its own recording, unless there is no other.
    fn surroundings(&self, query: &Query, rng: &mut fastrand::Rng) -> Surroundings<'_> {
        let others = || self.music.iter().filter(|(place, _)| *place != query.recording);
        let count = others().count();
        let music = if count > 0 { others().nth(rng.usize(..count)) } else { self.music.first() };
        let noise = (!self.noise.is_empty()).then(|| &self.noise[rng.usize(..self.noise.len())]);
        Surroundings {
            music: music.map_or(&[], |(_, samples)| samples),
            noise: noise.map_or(&[], Vec::as_slice),
        }
    }
}

impl Outcome {
    fn failed(reason: String) -> Self {
        Self { answers: Err(reason), fingerprint_ms: 0.0, search_ms: 0.0 }
    }
}

impl Answer {
    fn new(found: &Match, groups: &HashMap<TrackId, usize>) -> Self {
        Self {
            track_id: found.track_id.clone(),
            group: groups.get(&found.track_id).copied(),
            score: found.score,
            confidence: found.confidence,
            e_value: maybe(found.e_value),
            offset_s: found.reference_offset_s,
            speed: found.speed,
            pitch: found.pitch,
        }
    }
}

/// A value that a release may leave open.
fn maybe(value: impl Into<Option<f64>>) -> Option<f64> {
    value.into()
}
