//! The timeline: which live track lies where.
//!
//! Position in the flow: votes → **tracks**. A snapshot that readers share. Changes make a new one,
//! which shares all parts with the old one that have not changed: adding to an index of a million
//! tracks copies a few hundred entries.

use std::ops::Range;
use std::sync::Arc;

use super::{IndexError, POSITION_MS, Span};
use crate::units::TrackId;

/// Most entries of a part.
const PART_LEN: usize = 512;

type Entry = (Span, TrackId);

/// The live tracks, in the order of the timeline: the resident table that turns positions into
/// tracks. A snapshot; later changes make a new one.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Ascending by `span.start`, never overlapping, none empty.
    parts: Vec<Arc<Vec<Entry>>>,
    len: usize,
    /// Steps of all spans together.
    step_count: u64,
}

/// Parts of the timeline, ascending.
#[derive(Debug)]
pub(super) struct Holes(Vec<Range<u32>>);

impl Holes {
    pub(super) fn contains(&self, position: u32) -> bool {
        let behind = self.0.partition_point(|hole| hole.start <= position);
        behind.checked_sub(1).is_some_and(|i| self.0[i].contains(&position))
    }
}

impl Timeline {
    /// Sorts `entries` by position.
    ///
    /// # Errors
    ///
    /// [`IndexError::Corrupt`] if two spans overlap or one is empty.
    pub fn new(mut entries: Vec<(Span, TrackId)>) -> Result<Self, IndexError> {
        entries.sort_unstable();
        Self::default().changed(&[], entries)
    }

    /// The timeline without the spans in `removed`, which are ascending, and with `added`, which
    /// are ascending and lie behind all others.
    ///
    /// # Errors
    ///
    /// [`IndexError::Corrupt`] if two spans overlap or one is empty.
    pub(super) fn changed(
        &self,
        removed: &[Span],
        added: impl IntoIterator<Item = (Span, TrackId)>,
    ) -> Result<Self, IndexError> {
        let mut next = self.clone();
        for span in removed {
            next.remove(*span);
        }
        for entry in added {
            next.push(entry)?;
        }
        Ok(next)
    }

    fn remove(&mut self, span: Span) {
        let Some(place) = self.part_at(span.start) else { return };
        let part = Arc::make_mut(&mut self.parts[place]);
        let Ok(at) = part.binary_search_by_key(&span, |(span, _)| *span) else { return };
        part.remove(at);
        self.len -= 1;
        self.step_count -= u64::from(span.len);
        if part.is_empty() {
            self.parts.remove(place);
        }
    }

    fn push(&mut self, (span, id): Entry) -> Result<(), IndexError> {
        if span.len == 0 || span.start.checked_add(span.len).is_none() {
            return Err(IndexError::Corrupt { what: format!("span of track {id} is invalid") });
        }
        if let Some((last, other)) = self.parts.last().and_then(|part| part.last())
            && last.end() > span.start
        {
            let what = format!("spans of tracks {other} and {id} overlap");
            return Err(IndexError::Corrupt { what });
        }
        self.len += 1;
        self.step_count += u64::from(span.len);
        match self.parts.last_mut().filter(|part| part.len() < PART_LEN) {
            Some(part) => Arc::make_mut(part).push((span, id)),
            None => self.parts.push(Arc::new(vec![(span, id)])),
        }
        Ok(())
    }

    /// The part in which a span that begins at `position` or before would be.
    fn part_at(&self, position: u32) -> Option<usize> {
        let begins =
            |part: &Arc<Vec<Entry>>| part.first().is_some_and(|(span, _)| span.start <= position);
        self.parts.partition_point(begins).checked_sub(1)
    }

    /// The live track at `position`, if any.
    #[must_use]
    pub fn locate(&self, position: u32) -> Option<(Span, &TrackId)> {
        let part = &self.parts[self.part_at(position)?];
        let after = part.partition_point(|(span, _)| span.start <= position);
        let (span, id) = part.get(after.checked_sub(1)?)?;
        (position < span.end()).then_some((*span, id))
    }

    /// The parts of `stretch` that belong to no live track.
    pub(super) fn holes(&self, stretch: Range<u32>) -> Holes {
        let mut holes = Vec::new();
        let mut start = stretch.start;
        for (span, _) in self.entries().take_while(|(span, _)| span.start < stretch.end) {
            if span.start > start {
                holes.push(start..span.start);
            }
            start = start.max(span.end());
        }
        if start < stretch.end {
            holes.push(start..stretch.end);
        }
        Holes(holes)
    }

    /// All live tracks in the order of the timeline.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &(Span, TrackId)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// Length of the live tracks together, in seconds, to about [`POSITION_MS`] a track.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.step_count as f64 * f64::from(POSITION_MS) / 1e3
    }

    /// Live tracks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no track is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(start: u32, len: u32) -> (Span, TrackId) {
        (Span { start, len }, TrackId::new(format!("t{start}")).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn changes_are_those_of_a_list(
            gaps in proptest::collection::vec((0_u32..3, 1_u32..4), 0..2_000),
            removed in proptest::collection::btree_set(0_usize..2_000, 0..300),
            ask in 0_u32..6_000,
        ) {
            let mut position = 0;
            let all: Vec<_> = gaps.iter().map(|(gap, len)| {
                let start = position + gap;
                position = start + len;
                entry(start, *len)
            }).collect();
            let (first, second) = all.split_at(all.len() / 2);
            let mut timeline = Timeline::new(first.to_vec()).unwrap();
            timeline = timeline.changed(&[], second.to_vec()).unwrap();
            let gone: Vec<_> = removed.iter().filter_map(|i| all.get(*i)).map(|e| e.0).collect();
            let before = timeline.clone();
            timeline = timeline.changed(&gone, []).unwrap();
            prop_assert_eq!(before.entries().cloned().collect::<Vec<_>>(), all.clone());
            let kept: Vec<_> = all.into_iter().filter(|e| !gone.contains(&e.0)).collect();
            prop_assert_eq!(timeline.entries().cloned().collect::<Vec<_>>(), kept.clone());
            prop_assert_eq!(timeline.len(), kept.len());
            let steps: u32 = kept.iter().map(|(span, _)| span.len).sum();
            prop_assert!((timeline.duration_s() - f64::from(steps) * 0.128).abs() < 1e-6);
            let there = kept.iter().find(|(span, _)| span.contains(ask));
            prop_assert_eq!(timeline.locate(ask), there.map(|(span, id)| (*span, id)));
            let is_hole = (100..3_000).contains(&ask) && there.is_none();
            prop_assert_eq!(timeline.holes(100..3_000).contains(ask) && (100..3_000).contains(&ask), is_hole);
        }
    }

    #[test]
    fn overlapping_spans_are_refused() {
        assert!(Timeline::new(vec![entry(5, 5), entry(0, 6)]).is_err());
        assert!(Timeline::new(vec![entry(5, 0)]).is_err());
        assert!(Timeline::new(vec![entry(u32::MAX, 2)]).is_err());
        assert!(Timeline::new(vec![entry(5, 5), entry(0, 5)]).is_ok());
    }
}
