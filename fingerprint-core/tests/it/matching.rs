//! Searches over real recordings: changes told by their kind, short tracks anywhere in a query,
//! offsets that do not drift, tracks that occur twice.
//!
//! Changes of speed, tempo and pitch are made on the peaks. That leaves out what a phase vocoder
//! does to the sound, and keeps what is tested here: which pass finds a change, and what it says.

use std::path::Path;
use std::sync::LazyLock;

use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Index, MemoryIndex, Metadata, NewTrack};
use fingerprint_core::matching::{
    Match, MatchError, MatchOptions, MatchStatus, SpeedSearch, match_fingerprint,
};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::peaks::Peak;
use fingerprint_core::units::{ContentHash, TrackId};

const TRACKS: [&str; 6] = [
    "armygeddon.m4a",
    "awakening.mp3",
    "cold_day.mp3",
    "mountain.flac",
    "palace.ogg",
    "robot_dity.ogg",
];

fn fingerprint(name: &str, role: Role) -> Fingerprint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/catalog").join(name);
    let (options, params) = (DecodeOptions::default(), Params::default());
    Fingerprint::from_audio(Input::Path(&path), &options, &params, role).unwrap().0
}

fn new_track(id: &str, fingerprint: Fingerprint) -> NewTrack {
    NewTrack { id: TrackId::new(id).unwrap(), metadata: Metadata::default(), fingerprint }
}

pub(crate) static CATALOG: LazyLock<MemoryIndex> = LazyLock::new(|| {
    let index = MemoryIndex::new(&Params::default());
    let tracks = TRACKS.map(|name| new_track(name, fingerprint(name, Role::Track)));
    index.add(&tracks).unwrap();
    index
});

fn query_of(mut peaks: Vec<Peak>) -> Fingerprint {
    peaks.sort_unstable();
    let duration_ms = u64::from(peaks.last().map_or(0, |peak| peak.time_ms)) + 128;
    Fingerprint { duration_ms, content_hash: ContentHash([0; 32]), level_db: -20.0, peaks }
}

/// The peaks between two times of a recording, moved to begin at `at_ms`.
pub(crate) fn cut(name: &str, from_ms: u32, to_ms: u32, at_ms: u32) -> Vec<Peak> {
    let peaks = fingerprint(name, Role::Query).peaks;
    let within = peaks.into_iter().filter(|peak| (from_ms..to_ms).contains(&peak.time_ms));
    within.map(|peak| Peak { time_ms: peak.time_ms - from_ms + at_ms, ..peak }).collect()
}

/// The same peaks `speed` times as fast and `pitch` times as high.
pub(crate) fn changed(peaks: &[Peak], speed: f64, pitch: f64) -> Vec<Peak> {
    let change = |peak: &Peak| Peak {
        time_ms: (f64::from(peak.time_ms) / speed).round() as u32,
        freq: (f64::from(peak.freq) * pitch).round() as u16,
        ..*peak
    };
    peaks.iter().map(change).collect()
}

/// Peaks of another recording, thinned out: something that is not in the catalog.
pub(crate) fn foreign(duration_ms: u32) -> Vec<Peak> {
    let mut rng = fastrand::Rng::with_seed(3);
    (0..duration_ms / 20)
        .map(|_| Peak {
            time_ms: rng.u32(0..duration_ms),
            freq: rng.u16(700..20_000),
            level: 100,
            rank: rng.u8(0..6),
        })
        .collect()
}

fn search(index: &dyn Index, peaks: Vec<Peak>, options: &MatchOptions) -> Vec<Match> {
    let query = query_of(peaks);
    match_fingerprint(index, &query, options, &Params::default(), &|| false).unwrap().matches
}

fn best(peaks: Vec<Peak>) -> Match {
    search(&*CATALOG, peaks, &MatchOptions::default()).remove(0)
}

#[test]
fn a_change_is_told_by_its_kind_and_factor() {
    for name in TRACKS {
        let clip = cut(name, 6_000, 18_000, 0);
        for factor in [0.9, 0.96, 1.0, 1.04, 1.08] {
            for (speed, pitch) in [(factor, factor), (factor, 1.0), (1.0, factor)] {
                let found = best(changed(&clip, speed, pitch));
                assert_eq!(found.track_id.as_str(), name, "{speed} {pitch}");
                assert!((found.speed - speed).abs() < 0.003, "{name} {speed} {pitch}: {found:?}");
                assert!((found.pitch - pitch).abs() < 0.003, "{name} {speed} {pitch}: {found:?}");
                let offset_s = found.reference_offset_s - 6.0;
                assert!(offset_s.abs() < 0.1, "{name} {speed} {pitch}: {found:?}");
            }
        }
    }
}

#[test]
fn what_is_unchanged_has_speed_and_pitch_one_exactly() {
    let found = best(cut("palace.ogg", 9_000, 20_000, 0));
    assert!((found.speed - 1.0).abs() < f64::EPSILON && (found.pitch - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_short_track_is_found_wherever_it_lies_in_the_query() {
    let index = MemoryIndex::new(&Params::default());
    let jingle = query_of(cut("palace.ogg", 9_000, 12_500, 0));
    index.add(&[new_track("before", fingerprint("mountain.flac", Role::Track))]).unwrap();
    index.add(&[new_track("jingle", jingle)]).unwrap();
    index.add(&[new_track("after", fingerprint("cold_day.mp3", Role::Track))]).unwrap();
    for duration_ms in [10_000, 15_000, 40_000] {
        for at_ms in (0..duration_ms - 3_500).step_by(1_300) {
            let mut peaks = foreign(duration_ms);
            peaks.extend(cut("palace.ogg", 9_000, 12_500, at_ms));
            let found = search(&index, peaks, &MatchOptions::default());
            let found = found.first().unwrap_or_else(|| panic!("{at_ms} of {duration_ms}"));
            assert_eq!(found.track_id.as_str(), "jingle", "{at_ms} of {duration_ms}");
            let offset_ms = found.reference_offset_s * 1e3 + f64::from(at_ms);
            assert!(offset_ms.abs() < 50.0, "{at_ms} of {duration_ms}: {found:?}");
        }
    }
}

#[test]
fn offsets_do_not_drift_in_long_queries() {
    const HOUR_MS: u32 = 3_600_000;
    let mut peaks = cut("awakening.mp3", 4_000, 14_000, HOUR_MS);
    // Hard to see, so that a fit of the speed would be off.
    peaks.retain(|peak| peak.time_ms % 3 == 0);
    peaks.extend(
        foreign(20_000).iter().map(|p| Peak { time_ms: p.time_ms + HOUR_MS - 5_000, ..*p }),
    );
    let options = MatchOptions { speed_search: SpeedSearch::Off, ..MatchOptions::default() };
    let found = search(&*CATALOG, peaks, &options).remove(0);
    assert_eq!(found.track_id.as_str(), "awakening.mp3");
    assert!((found.reference_offset_s + 3_600.0 - 4.0).abs() < 0.05, "{found:?}");
}

#[test]
fn a_track_that_is_cut_or_occurs_twice_has_two_matches() {
    let mut peaks = cut("armygeddon.m4a", 2_000, 8_000, 0);
    peaks.extend(cut("armygeddon.m4a", 17_000, 23_000, 6_000));
    let mut found = search(&*CATALOG, peaks, &MatchOptions::default());
    found.sort_by(|a, b| a.query_start_s.total_cmp(&b.query_start_s));
    let offsets: Vec<_> = found.iter().map(|m| m.reference_offset_s.round()).collect();
    assert_eq!(offsets, [2.0, 11.0], "{found:?}");
}

#[test]
fn a_changed_track_beside_an_unchanged_one_is_found() {
    let mut peaks = cut("palace.ogg", 3_000, 9_000, 0);
    let faster = changed(&cut("mountain.flac", 5_000, 11_000, 0), 1.06, 1.06);
    peaks.extend(faster.iter().map(|peak| Peak { time_ms: peak.time_ms + 6_000, ..*peak }));
    let found = search(&*CATALOG, peaks, &MatchOptions::default());
    let ids: Vec<_> = found.iter().map(|found| found.track_id.as_str()).collect();
    assert!(ids.contains(&"palace.ogg") && ids.contains(&"mountain.flac"), "{found:?}");
}

#[test]
fn tracks_that_play_at_once_are_both_found() {
    for (a, b) in [("palace.ogg", "mountain.flac"), ("cold_day.mp3", "robot_dity.ogg")] {
        let mut peaks = cut(a, 3_000, 13_000, 0);
        // The other one softer, as under a voice; its strongest peaks only.
        let under = cut(b, 5_000, 15_000, 0).into_iter().filter(|peak| peak.rank == 0);
        peaks.extend(under.map(|peak| Peak { level: peak.level.saturating_sub(12), ..peak }));
        let found = search(&*CATALOG, peaks, &MatchOptions::default());
        let ids: Vec<_> = found.iter().map(|found| found.track_id.as_str()).collect();
        assert!(ids.contains(&a) && ids.contains(&b), "{found:?}");
    }
}

#[test]
fn all_copies_of_a_recording_are_found() {
    let index = MemoryIndex::new(&Params::default());
    let copy = |i: usize| new_track(&format!("copy{i}"), fingerprint("palace.ogg", Role::Track));
    index.add(&(0..6).map(copy).collect::<Vec<_>>()).unwrap();
    let found = search(&index, cut("palace.ogg", 3_000, 13_000, 0), &MatchOptions::default());
    assert_eq!(found.len(), 6, "{found:?}");
}

#[test]
fn a_track_in_many_pieces_does_not_crowd_out_another() {
    // Six pieces of one track, each from a place of its own, and a short one of another track.
    let mut peaks: Vec<Peak> = (0..6)
        .flat_map(|i| {
            cut("cold_day.mp3", (i * 7 % 6) * 4_000, (i * 7 % 6) * 4_000 + 9_000, i * 9_000)
        })
        .collect();
    peaks.extend(cut("robot_dity.ogg", 8_000, 13_000, 54_000));
    let options = MatchOptions { matches_max: 2, ..MatchOptions::default() };
    let found = search(&*CATALOG, peaks, &options);
    assert!(found.iter().any(|found| found.track_id.as_str() == "robot_dity.ogg"), "{found:?}");
}

#[test]
fn what_is_not_in_the_catalog_has_no_match_and_a_cancelled_search_no_answer() {
    let query = query_of(foreign(12_000));
    let (options, params) = (MatchOptions::default(), Params::default());
    let report = match_fingerprint(&*CATALOG, &query, &options, &params, &|| false).unwrap();
    assert_eq!((report.status, report.matches.len()), (MatchStatus::NoMatch, 0));
    let cancelled = match_fingerprint(&*CATALOG, &query, &options, &params, &|| true);
    assert!(matches!(cancelled, Err(MatchError::Cancelled)));
}

/// A fingerprint as dense as the wire allows must cost no more than memory and time of a long one.
#[test]
fn made_up_density_is_bounded() {
    let dense = (0..15_000).flat_map(|ms| {
        [0, 40, 80].map(|f| Peak { time_ms: ms, freq: 4_000 + f, level: 9, rank: 0 })
    });
    let found = search(&*CATALOG, dense.collect(), &MatchOptions::default());
    assert!(found.is_empty(), "{found:?}");
}
