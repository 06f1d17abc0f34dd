//! What was heard in a stream, in all.

use std::collections::BTreeMap;

use crate::contract::MatchRow;
use crate::contract::live::{LiveKind, LiveRow, LiveSummary};

/// The latest word about each match.
#[derive(Debug, Default)]
pub(super) struct Playlist {
    matches: BTreeMap<u64, MatchRow>,
}

impl Playlist {
    /// Takes an event.
    pub(super) fn note(&mut self, row: LiveRow) {
        let is_match = matches!(
            row.event,
            LiveKind::MatchStarted | LiveKind::MatchUpdated | LiveKind::MatchEnded
        );
        if let (true, Some(id), Some(found)) = (is_match, row.match_id, row.found) {
            self.matches.insert(id, found);
        }
    }

    /// All of it, of a stream of `duration_s` seconds.
    pub(super) fn summary(self, duration_s: f64) -> LiveSummary {
        let mut matches: Vec<MatchRow> = self.matches.into_values().collect();
        matches.sort_by(|a, b| a.query_start_s.total_cmp(&b.query_start_s));
        let (mut recognised_s, mut until_s) = (0.0, 0.0);
        for found in &matches {
            let from_s = found.query_start_s.max(until_s);
            recognised_s += (found.query_end_s - from_s).max(0.0);
            until_s = found.query_end_s.max(until_s);
        }
        let milli = |seconds: f64| (seconds * 1e3).round() / 1e3;
        LiveSummary {
            event: "summary",
            duration_s: milli(duration_s),
            recognised_s: milli(recognised_s),
            matches,
        }
    }
}
