//! Catalogs of any size whose landmarks are spread like those of real music.
//!
//! What a search costs, and what it mistakes for what, depends on how many postings share a key.
//! Random peaks would spread them evenly and make any index look good. So synthetic tracks are
//! made of real constellations, changed until no search can find the original in them:
//!
//! - each track is put together from pieces of 8 to 24 s of several recordings;
//! - each piece has two voices: below a random crossover one recording at 0.65 to 0.78 times its
//!   speed, above it another one at 1.25 to 1.6 times. Both lie beyond
//!   [`REACH`](fingerprint_core::hash::REACH), pitch and tempo alike, and the two together fill the
//!   whole band, which one shifted recording would leave empty at an end;
//! - tempo follows pitch from −3 to +11 %: peaks keep their density in time and frequency, and
//!   make up for a loss of 4 to 8 % where voices meet;
//! - half of the voices run backwards;
//! - some pieces are repeats of earlier ones, as music repeats itself.
//!
//! [`LandmarkStatistics`] tells how well that works. Of 8 hours of game music, real and made of it:
//! 62.0 and 61.0 peaks a second, 80.2 and 78.4 postings; the bucket of a posting has 28.7 and 30.9
//! of them. Single keys are less crowded than in music with loops: the fullest hundredth of the keys
//! has 4.5 % of the postings instead of 9.6 %. A track follows from its number and the seed
//! alone, so a catalog is never held in memory, and any part of it can be made again.

use std::ops::Range;

use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Metadata, NewTrack};
use fingerprint_core::landmark::reference_landmarks;
use fingerprint_core::params::{BIN_HZ, FREQ_STEPS_PER_BIN, Params};
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};

use crate::seeded;

/// Length of a track in seconds.
const TRACK_S: Range<f64> = 120.0..300.0;
/// Length of a piece in seconds; less if a recording is shorter.
const PIECE_S: Range<f64> = 8.0..24.0;
/// Recordings below this length in seconds are not used: their pieces would be crumbs.
const SOURCE_MIN_S: f64 = 5.0;
/// Pitch of the lower and of the upper voice over that of the recording.
const LOWER_PITCH: Range<f64> = 0.65..0.78;
const UPPER_PITCH: Range<f64> = 1.25..1.6;
/// Tempo of a voice over its pitch.
const WARP: Range<f64> = 0.97..1.11;
/// Share of pieces that repeat an earlier one of the track.
const REPEATED: f64 = 0.4;
/// Level of a made-up fingerprint in dB: what music is mastered to, about.
const LEVEL_DB: f32 = -15.0;

/// Postings of one recording in a second, and how evenly they are spread over keys.
///
/// Occupancy grows with the amount of music: only samples of about one length can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LandmarkStatistics {
    /// Seconds of audio in the sample.
    pub duration_s: f64,
    /// Stored peaks a second.
    pub peaks_per_s: f64,
    /// Postings a second.
    pub postings_per_s: f64,
    /// Share of all postings that is in the fullest hundredth of the keys in use, 0 to 1.
    pub fullest_key_share: f64,
    /// Mean postings of a key in use.
    pub key_occupancy: f64,
    /// Mean postings of a bucket in use; a bucket is one row of the index.
    pub bucket_occupancy: f64,
    /// Mean postings of the bucket of a posting: what a query meets that looks up a random posting.
    pub bucket_occupancy_met: f64,
}

/// Collects [`LandmarkStatistics`], 8 bytes a posting.
#[derive(Debug, Default)]
pub struct LandmarkCounter {
    duration_s: f64,
    peak_count: usize,
    /// Bucket and cell of each posting.
    keys: Vec<(u32, u16)>,
}

/// Makes tracks out of the constellations of real ones.
#[derive(Debug)]
pub struct SyntheticCatalog {
    sources: Vec<Source>,
    seed: u64,
    params: Params,
}

#[derive(Debug)]
struct Source {
    duration_ms: f64,
    peaks: Vec<Peak>,
}

/// One recording as it sounds in a piece.
struct Voice<'a> {
    source: &'a Source,
    pitch: f64,
    /// Milliseconds of the recording in one of the piece.
    tempo: f64,
    is_reversed: bool,
}

impl LandmarkCounter {
    /// Counts one track.
    pub fn push(&mut self, fingerprint: &Fingerprint, params: &Params) {
        self.duration_s += fingerprint.duration_ms as f64 / 1e3;
        self.peak_count += fingerprint.peaks.len();
        let landmarks = reference_landmarks(&fingerprint.peaks, 0..fingerprint.peaks.len(), params);
        self.keys.extend(landmarks.iter().map(|l| (l.key.bucket, l.key.cell)));
    }

    /// Seconds of audio counted so far.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.duration_s
    }

    /// What was counted.
    #[must_use]
    pub fn finish(mut self) -> LandmarkStatistics {
        self.keys.sort_unstable();
        let mut by_key: Vec<usize> = self.keys.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
        let by_bucket = || self.keys.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len);
        by_key.sort_unstable_by(|a, b| b.cmp(a));
        let fullest: usize = by_key.iter().take(by_key.len().div_ceil(100)).sum();
        let posting_count = self.keys.len();
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let duration_s = self.duration_s.max(1e-3);
        LandmarkStatistics {
            duration_s: self.duration_s,
            peaks_per_s: self.peak_count as f64 / duration_s,
            postings_per_s: posting_count as f64 / duration_s,
            fullest_key_share: share(fullest, posting_count),
            key_occupancy: share(posting_count, by_key.len()),
            bucket_occupancy: share(posting_count, by_bucket().count()),
            bucket_occupancy_met: share(by_bucket().map(|n| n * n).sum(), posting_count),
        }
    }
}

impl SyntheticCatalog {
    /// A catalog made of `sources`, which must be fingerprints of
    /// [`Role::Track`](fingerprint_core::params::Role::Track). Recordings below 5 s are left out;
    /// `None` if all are.
    #[must_use]
    pub fn new(
        sources: impl IntoIterator<Item = Fingerprint>,
        seed: u64,
        params: &Params,
    ) -> Option<Self> {
        let sources: Vec<_> = sources
            .into_iter()
            .map(|f| Source { duration_ms: f.duration_ms as f64, peaks: f.peaks })
            .filter(|source| source.duration_ms >= SOURCE_MIN_S * 1e3)
            .collect();
        (!sources.is_empty()).then_some(Self { sources, seed, params: *params })
    }

    /// Tracks 0, 1, 2, … until they last `hours` or a little more. Made one by one as they are
    /// taken.
    pub fn tracks(&self, hours: f64) -> impl Iterator<Item = NewTrack> + '_ {
        let mut left_ms = hours * 3.6e6;
        (0_u64..).map_while(move |number| {
            let track = (left_ms > 0.0).then(|| self.track(number))?;
            left_ms -= track.fingerprint.duration_ms as f64;
            Some(track)
        })
    }

    /// The track of this number, with the id `synthetic-SEED-NUMBER`. Takes about a millisecond
    /// and depends on nothing but the sources, the seed and the number.
    ///
    /// # Panics
    ///
    /// Never: the id is plain.
    #[must_use]
    pub fn track(&self, number: u64) -> NewTrack {
        let id = format!("synthetic-{}-{number}", self.seed);
        let mut rng = seeded(self.seed, &id);
        let duration_ms = f64::from(whole(between(&TRACK_S, &mut rng) * 1e3));
        let mut peaks = Vec::new();
        let mut at_ms = 0.0;
        let mut drawn: Vec<fastrand::Rng> = Vec::new();
        while at_ms < duration_ms {
            // What was drawn for a piece is drawn again by a generator in the same state.
            let is_repeat = !drawn.is_empty() && rng.f64() < REPEATED;
            let mut of_piece = if is_repeat {
                drawn[rng.usize(..drawn.len())].clone()
            } else {
                drawn.push(rng.fork());
                drawn[drawn.len() - 1].clone()
            };
            at_ms += self.piece(at_ms, duration_ms - at_ms, &mut of_piece, &mut peaks);
        }
        // Two voices may meet at one place.
        peaks.sort_unstable();
        peaks.dedup_by_key(|peak| (peak.time_ms, peak.freq));
        let mut content_hash = [0; 32];
        rng.fill(&mut content_hash);
        NewTrack {
            id: TrackId::new(id).expect("letters, digits and hyphens make an id"),
            metadata: Metadata::default(),
            fingerprint: Fingerprint {
                duration_ms: u64::from(whole(duration_ms)),
                content_hash: ContentHash(content_hash),
                level_db: LEVEL_DB,
                peaks,
            },
        }
    }

    /// Appends a piece of at most `left_ms` that begins at `at_ms`; says how long it became.
    fn piece(
        &self,
        at_ms: f64,
        left_ms: f64,
        rng: &mut fastrand::Rng,
        peaks: &mut Vec<Peak>,
    ) -> f64 {
        let mut voice = |range| {
            let source = &self.sources[rng.usize(..self.sources.len())];
            let pitch = between(range, rng);
            let tempo = pitch * between(&WARP, rng);
            Voice { source, pitch, tempo, is_reversed: rng.bool() }
        };
        let (lower, upper) = (voice(&LOWER_PITCH), voice(&UPPER_PITCH));
        let wanted_ms = between(&PIECE_S, rng) * 1e3;
        let len_ms = wanted_ms.min(lower.longest_ms()).min(upper.longest_ms()).min(left_ms);
        let steps_per_hz = f64::from(FREQ_STEPS_PER_BIN) / f64::from(BIN_HZ);
        let low = f64::from(self.params.band_low_hz) * steps_per_hz;
        let high = f64::from(self.params.band_high_hz) * steps_per_hz;
        // Where both voices have peaks; by its logarithm, as frequencies are heard.
        let crossing = (low * upper.pitch).ln()..(high * lower.pitch).ln();
        let crossover = between(&crossing, rng).exp();
        lower.sing(at_ms, len_ms, low..crossover, rng, peaks);
        upper.sing(at_ms, len_ms, crossover..high, rng, peaks);
        len_ms
    }
}

impl Voice<'_> {
    fn longest_ms(&self) -> f64 {
        self.source.duration_ms / self.tempo
    }

    /// Appends the peaks of a random stretch of the recording that fall into the band `freqs`, in
    /// steps of [`Peak::freq`], after the change.
    fn sing(
        &self,
        at_ms: f64,
        len_ms: f64,
        freqs: Range<f64>,
        rng: &mut fastrand::Rng,
        peaks: &mut Vec<Peak>,
    ) {
        let taken_ms = len_ms * self.tempo;
        let start_ms = rng.f64() * (self.source.duration_ms - taken_ms).max(0.0);
        let of_source = &self.source.peaks;
        let from = of_source.partition_point(|peak| f64::from(peak.time_ms) < start_ms);
        let heard = of_source[from..]
            .iter()
            .take_while(|peak| f64::from(peak.time_ms) < start_ms + taken_ms);
        peaks.extend(heard.filter_map(|peak| {
            let since_ms = f64::from(peak.time_ms) - start_ms;
            let since_ms = if self.is_reversed { taken_ms - since_ms } else { since_ms };
            let freq = f64::from(peak.freq) * self.pitch;
            freqs.contains(&freq).then(|| Peak {
                time_ms: whole(at_ms + since_ms / self.tempo),
                freq: u16::try_from(whole(freq)).unwrap_or(u16::MAX),
                ..*peak
            })
        }));
    }
}

fn between(range: &Range<f64>, rng: &mut fastrand::Rng) -> f64 {
    range.start + (range.end - range.start) * rng.f64()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` from float saturates; times and frequencies are positive"
)]
fn whole(x: f64) -> u32 {
    // Down, so that no peak lies behind the end of its track.
    x as u32
}

#[cfg(test)]
mod tests {
    use fingerprint_core::index::{Index, MemoryIndex};
    use fingerprint_core::matching::{MatchOptions, match_fingerprint};
    use fingerprint_core::params::Role;

    use super::*;
    use crate::{Pcm, catalog};

    fn synthetic() -> SyntheticCatalog {
        let sources = catalog().into_iter().map(|track| track.fingerprint);
        SyntheticCatalog::new(sources, 7, &Params::default()).unwrap()
    }

    #[test]
    fn tracks_follow_from_seed_and_number() {
        let catalog = synthetic();
        let track = catalog.track(3);
        assert_eq!(track.id.as_str(), "synthetic-7-3");
        assert_eq!(track.fingerprint, synthetic().tracks(1.0).nth(3).unwrap().fingerprint);
        assert_ne!(track.fingerprint.peaks, catalog.track(4).fingerprint.peaks);
        let fingerprint = track.fingerprint;
        assert!(fingerprint.peaks.is_sorted());
        assert!(u64::from(fingerprint.peaks.last().unwrap().time_ms) <= fingerprint.duration_ms);
        let hours: f64 =
            catalog.tracks(0.5).map(|t| t.fingerprint.duration_ms as f64 / 3.6e6).sum();
        assert!((0.5..0.6).contains(&hours), "{hours} hours");
        assert!(SyntheticCatalog::new([], 7, &Params::default()).is_none());
    }

    #[test]
    fn postings_are_spread_like_those_of_music() {
        let params = Params::default();
        let (mut real, mut made) = (LandmarkCounter::default(), LandmarkCounter::default());
        catalog().iter().for_each(|track| real.push(&track.fingerprint, &params));
        for track in synthetic().tracks(real.duration_s() / 3_600.0) {
            made.push(&track.fingerprint, &params);
        }
        let (real, made) = (real.finish(), made.finish());
        let ratio = |value: fn(&LandmarkStatistics) -> f64| value(&made) / value(&real);
        let [peaks, postings] = [ratio(|s| s.peaks_per_s), ratio(|s| s.postings_per_s)];
        assert!((0.85..1.15).contains(&peaks), "{made:?} for {real:?}");
        assert!((0.85..1.15).contains(&postings), "{made:?} for {real:?}");
        // Not more evenly than music. More crowded here, because the excerpts of testdata are too
        // short to repeat themselves as synthetic tracks do; of whole recordings both are alike.
        let met = ratio(|s| s.bucket_occupancy_met);
        assert!((0.9..3.0).contains(&met), "{made:?} for {real:?}");
    }

    #[test]
    fn no_recording_is_found_in_what_was_made_of_it() {
        let params = Params::default();
        let index = MemoryIndex::new(&params);
        index.add(&synthetic().tracks(1.0).collect::<Vec<_>>()).unwrap();
        for path in ["catalog/cold_day.mp3", "catalog/palace.ogg", "catalog/chaos_god.aac"] {
            let clip = Pcm::decode(path).cut(5, 10).fingerprint(Role::Query);
            let options = MatchOptions::default();
            let report = match_fingerprint(&index, &clip, &options, &params, &|| false).unwrap();
            assert!(report.matches.is_empty(), "{path}: {:?}", report.matches);
        }
    }

    #[test]
    fn statistics_of_a_sample_counted_by_hand() {
        let params = Params::default();
        let peak = |time_ms, freq| Peak { time_ms, freq, level: 100, rank: 0 };
        // Three pairs: twice the same key, once another bucket.
        let peaks = vec![
            peak(0, 4_000),
            peak(100, 4_100),
            peak(5_000, 4_000),
            peak(5_100, 4_100),
            peak(9_000, 9_000),
            peak(9_200, 9_500),
        ];
        let fingerprint = Fingerprint {
            duration_ms: 10_000,
            content_hash: ContentHash([0; 32]),
            level_db: LEVEL_DB,
            peaks,
        };
        let mut counter = LandmarkCounter::default();
        counter.push(&fingerprint, &params);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} instead of {b}");
        let statistics = counter.finish();
        close(statistics.duration_s, 10.0);
        close(statistics.peaks_per_s, 0.6);
        close(statistics.postings_per_s, 0.3);
        close(statistics.fullest_key_share, 2.0 / 3.0);
        close(statistics.key_occupancy, 1.5);
        close(statistics.bucket_occupancy, 1.5);
        close(statistics.bucket_occupancy_met, (4.0 + 1.0) / 3.0);
    }
}
