//! Alignments of many windows → matches: which are one, which are alternatives, which goes first.
//!
//! Position in the flow: evidence → **alignments of the whole query** → report. A track is found
//! anew in each window, at each of its repeats, and by each pass that its change resembles.

use std::collections::HashMap;

use super::WINDOW_STEP_MS;
use super::evidence::{Alignment, Segment};
use super::mapping::Mapping;
use super::votes::Candidate;

/// Alignments of one track are told apart if they share at most this much of the query, in ms.
const OVERLAP_MAX_MS: f64 = 1_000.0;
/// Share of the best alignment's score from which another place of the track is an alternative.
const ALTERNATIVE_SHARE: f64 = 0.7;
/// Most that are followed from window to window, until it is known which hold for all of it.
const ALTERNATIVES_KEPT: usize = 20;
/// Offsets of one alignment found in two windows differ by less than this.
const SAME_OFFSET_MS: f64 = 300.0;
/// The same for the logarithms of speed and pitch.
const SAME_CHANGE_LN: f64 = 0.01;
/// Segments of a match that are nearer than this are one.
const GAP_MIN_MS: f64 = 1_000.0;

/// One alignment before it is reported.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) candidate: Candidate,
    pub(super) alignment: Alignment,
    /// The score as it counts against other alignments of the track in this window.
    pub(super) weight: f64,
    /// Other places of the track for the same stretch of the query.
    pub(super) alternatives: Vec<Alignment>,
}

/// The best alignments that may go on in a window that begins at `start_ms`, as candidates where the
/// latest window has found them.
pub(super) fn open(found: &[Found], start_ms: f64, count_max: usize) -> Vec<Candidate> {
    let mut open: Vec<&Found> =
        found.iter().filter(|found| found.alignment.end_ms() >= start_ms).collect();
    open.sort_by(|a, b| b.alignment.score.total_cmp(&a.alignment.score));
    open.iter()
        .take(count_max)
        .map(|found| Candidate { mapping: found.alignment.latest, ..found.candidate.clone() })
        .collect()
}

/// In the order in which they are to be reported: the best of each track, then the seconds of each,
/// so that a track in many pieces does not crowd out another.
pub(super) fn ranked(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.alignment.score.total_cmp(&a.alignment.score));
    let mut seen: HashMap<u32, usize> = HashMap::new();
    let place = |found: &Found| {
        let count = seen.entry(found.candidate.span.start).or_default();
        *count += 1;
        *count
    };
    let places: Vec<usize> = found.iter().map(place).collect();
    let mut ranked: Vec<(usize, Found)> = places.into_iter().zip(found).collect();
    // Stable, so that equals stay in the order of their scores.
    ranked.sort_by_key(|(place, _)| *place);
    ranked.into_iter().map(|(_, found)| found).collect()
}

/// Leaves of each track the best alignment of every stretch of the query, with the others of that
/// stretch as its alternatives: music repeats itself, and one change may look like another. A track
/// that is in the query twice stays there twice.
pub(super) fn distinct(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut kept: Vec<Found> = Vec::new();
    for fresh in found {
        let rival = kept.iter_mut().find(|other| {
            other.candidate.span == fresh.candidate.span
                && overlaps(&other.alignment, &fresh.alignment)
        });
        match rival {
            None => kept.push(fresh),
            Some(best) => {
                let is_new = |other: &Alignment| !is_same_place(other, &fresh.alignment);
                if fresh.alignment.score >= ALTERNATIVE_SHARE * best.alignment.score
                    && is_new(&best.alignment)
                    && best.alternatives.iter().all(is_new)
                {
                    best.alternatives.push(fresh.alignment);
                }
            }
        }
    }
    kept
}

/// True if two alignments tell of the same stretch of the query.
pub(super) fn overlaps(a: &Alignment, b: &Alignment) -> bool {
    let length_ms = |x: &Alignment| x.end_ms() - x.start_ms();
    let shared_ms = a.end_ms().min(b.end_ms()) - a.start_ms().max(b.start_ms());
    shared_ms > OVERLAP_MAX_MS.min(length_ms(a).min(length_ms(b)) / 2.0)
}

/// True if two alignments that overlap tell of the same part of the track.
fn is_same_place(a: &Alignment, b: &Alignment) -> bool {
    let meeting_ms = a.start_ms().max(b.start_ms()).midpoint(a.end_ms().min(b.end_ms()));
    let apart_ms = a.mapping.to_track_ms(meeting_ms) - b.mapping.to_track_ms(meeting_ms);
    apart_ms.abs() < SAME_OFFSET_MS
}

/// Joins an alignment that goes on from an earlier window, or adds it.
pub(super) fn merge(found: &mut Vec<Found>, fresh: Found) {
    let going_on = found.iter_mut().find(|old| {
        is_going_on(old, &fresh)
            && fresh.alignment.start_ms() <= old.alignment.end_ms() + f64::from(WINDOW_STEP_MS)
    });
    match going_on {
        None => found.push(fresh),
        Some(old) => extend(old, fresh),
    }
}

/// True if a later window tells of the same alignment, however long ago the last one was.
pub(super) fn is_going_on(old: &Found, fresh: &Found) -> bool {
    old.candidate.span == fresh.candidate.span
        && goes_on(old.alignment.latest, fresh.alignment.mapping)
}

/// Extends `old` by what a later window tells of the same alignment.
pub(super) fn extend(old: &mut Found, fresh: Found) {
    for alternative in fresh.alternatives {
        let known =
            old.alternatives.iter_mut().find(|known| goes_on(known.latest, alternative.mapping));
        match known {
            None => old.alternatives.push(alternative),
            Some(known) => join(known, alternative),
        }
    }
    old.alternatives.sort_by(|a, b| b.score.total_cmp(&a.score));
    old.alternatives.truncate(ALTERNATIVES_KEPT);
    join(&mut old.alignment, fresh.alignment);
}

/// Extends `old` by what a later window tells of the same alignment.
fn join(old: &mut Alignment, fresh: Alignment) {
    old.latest = fresh.latest;
    old.segments.extend(fresh.segments);
    old.segments.sort_by(|a, b| a.start_ms.total_cmp(&b.start_ms));
    let mut joined: Vec<Segment> = Vec::with_capacity(old.segments.len());
    for segment in &old.segments {
        match joined.last_mut() {
            Some(last) if segment.start_ms - last.end_ms < GAP_MIN_MS => {
                last.end_ms = last.end_ms.max(segment.end_ms);
            }
            _ => joined.push(*segment),
        }
    }
    old.segments = joined;
    // Windows overlap, so their evidence must not be added up.
    if fresh.score > old.score {
        (old.score, old.mapping) = (fresh.score, fresh.mapping);
    }
}

/// True if two windows tell of one alignment.
fn goes_on(old: Mapping, fresh: Mapping) -> bool {
    // Where the windows meet, because a small error of the speed grows with the distance.
    let meeting_ms = old.query_ms.midpoint(fresh.query_ms);
    let apart_ms = old.to_track_ms(meeting_ms) - fresh.to_track_ms(meeting_ms);
    apart_ms.abs() < SAME_OFFSET_MS
        && (old.ln_speed - fresh.ln_speed).abs() < SAME_CHANGE_LN
        && (old.ln_pitch - fresh.ln_pitch).abs() < SAME_CHANGE_LN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Family;
    use crate::units::TrackId;

    /// One window's alignment of a track that lies `track_ms` into it at `start_ms`.
    fn found(start_ms: f64, track_ms: f64, score: f64) -> Found {
        let middle_ms = start_ms + 7_500.0;
        let mapping = Mapping {
            query_ms: middle_ms,
            track_ms: track_ms + 7_500.0,
            ln_speed: 0.0,
            ln_pitch: 0.0,
        };
        let segment = Segment { start_ms, end_ms: start_ms + 15_000.0 };
        let (first, latest, segments) = (mapping, mapping, vec![segment]);
        let alignment = Alignment { score, mapping, first, latest, segments };
        let candidate = Candidate {
            track_id: TrackId::new("T").unwrap(),
            span: crate::index::Span { start: 0, len: 100_000 },
            mapping,
            family: Family::Unchanged,
        };
        Found { candidate, alignment, weight: score, alternatives: Vec::new() }
    }

    // Half a millisecond in a second is what a bad clock loses; over an hour it is two seconds.
    #[test]
    fn a_drifting_clock_does_not_break_a_match() {
        let mut all = Vec::new();
        for i in 0..480 {
            let start_ms = f64::from(i) * 7_500.0;
            // The first window scores best, so its mapping is the one that is reported.
            merge(&mut all, found(start_ms, start_ms * 1.0005, 1_000.0 - f64::from(i)));
        }
        let [only] = &all[..] else { panic!("{} pieces", all.len()) };
        let alignment = &only.alignment;
        assert_eq!(alignment.segments.len(), 1);
        let end_ms = alignment.end_ms();
        assert!((alignment.latest.to_track_ms(end_ms) - end_ms * 1.0005).abs() < 20.0);
        assert!((alignment.mapping.to_track_ms(0.0)).abs() < 20.0);
    }

    #[test]
    fn a_jump_in_the_track_is_another_match_and_a_pause_is_a_gap() {
        let mut all = vec![found(0.0, 0.0, 100.0)];
        merge(&mut all, found(7_500.0, 40_000.0, 100.0));
        assert_eq!(all.len(), 2);
        merge(&mut all, found(20_000.0, 20_000.0, 100.0));
        assert_eq!(all.len(), 2);
        let ends: Vec<_> =
            all[0].alignment.segments.iter().map(|s| (s.start_ms, s.end_ms)).collect();
        assert_eq!(ends, [(0.0, 15_000.0), (20_000.0, 35_000.0)]);
    }

    #[test]
    fn places_that_fit_the_same_stretch_are_alternatives_of_the_best() {
        let all = distinct(vec![
            found(0.0, 0.0, 100.0),
            found(0.0, 30_000.0, 90.0),
            found(0.0, 30_100.0, 85.0),
            found(0.0, 60_000.0, 60.0),
            found(16_000.0, 30_000.0, 50.0),
        ]);
        let scores: Vec<_> = all.iter().map(|found| found.alignment.score).collect();
        assert_eq!(scores, [100.0, 50.0]);
        let others: Vec<_> = all[0].alternatives.iter().map(|other| other.score).collect();
        assert_eq!(others, [90.0], "a place is told once, and only if it fits nearly as well");
    }
}
