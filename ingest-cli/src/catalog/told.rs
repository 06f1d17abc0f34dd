//! What the user was told of a stream, whatever became of the connection: each match begins and ends once.
//!
//! A server that goes on with a stream tells again what may have been missed. One that has lost the
//! stream counts its matches anew, and hears the last minute a second time: what it finds there is
//! known by its track and its place.

use std::collections::BTreeMap;

use earmark_proto::v1;

use crate::contract::live::{LiveKind, LiveRow};

/// A match is the same if its track lies in the same place, to so many seconds …
const SAME_OFFSET_S: f64 = 1.0;
/// … and it does not begin later than so many seconds behind the end of the one that is known.
const SAME_STRETCH_S: f64 = 6.0;

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By our numbers.
    matches: BTreeMap<u64, Known>,
    /// Our number of each match of this connection's count.
    numbers: BTreeMap<u64, u64>,
    lost_s: Option<f64>,
}

#[derive(Debug)]
struct Known {
    track_id: String,
    reference_offset_s: f64,
    query_end_s: f64,
    has_ended: bool,
}

impl Told {
    /// The server counts the matches of the stream from 1 again.
    pub(super) fn count_anew(&mut self) {
        self.numbers.clear();
    }

    /// What is new of a message.
    pub(super) fn news(&mut self, message: v1::MatchStreamResponse) -> Option<LiveRow> {
        let mut row = LiveRow::from_message(message)?;
        if row.event == LiveKind::AudioLost {
            let is_new = self.lost_s < row.start_s;
            self.lost_s = if is_new { row.start_s } else { self.lost_s };
            return is_new.then_some(row);
        }
        let (Some(id), Some(found)) = (row.match_id, &row.found) else { return Some(row) };
        let number = self.numbers.get(&id).copied().unwrap_or_else(|| {
            let is_same = |known: &Known| {
                known.track_id == found.track_id
                    && (known.reference_offset_s - found.reference_offset_s).abs() < SAME_OFFSET_S
                    && found.query_start_s < known.query_end_s + SAME_STRETCH_S
            };
            let known = self.matches.iter().rev().find(|(number, known)| {
                !self.numbers.values().any(|taken| taken == *number) && is_same(known)
            });
            let next = self.matches.last_key_value().map_or(1, |(last, _)| last + 1);
            known.map_or(next, |(number, _)| *number)
        });
        self.numbers.insert(id, number);
        let is_first = !self.matches.contains_key(&number);
        let known = self.matches.entry(number).or_insert_with(|| Known {
            track_id: found.track_id.clone(),
            reference_offset_s: found.reference_offset_s,
            query_end_s: found.query_end_s,
            has_ended: false,
        });
        if known.has_ended {
            return None;
        }
        known.query_end_s = known.query_end_s.max(found.query_end_s);
        known.reference_offset_s = found.reference_offset_s;
        known.has_ended = row.event == LiveKind::MatchEnded;
        row.match_id = Some(number);
        row.event = match row.event {
            // Its beginning was missed.
            LiveKind::MatchUpdated if is_first => LiveKind::MatchStarted,
            LiveKind::MatchStarted if !is_first => LiveKind::MatchUpdated,
            event => event,
        };
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use earmark_proto::v1::match_stream_response::Event;

    use super::*;

    fn found(id: u64, track_id: &str, query: [f64; 2], reference_offset_s: f64) -> v1::StreamMatch {
        let found = v1::Match {
            track_id: track_id.to_owned(),
            query_start_s: query[0],
            query_end_s: query[1],
            reference_offset_s,
            ..v1::Match::default()
        };
        v1::StreamMatch { match_id: id, r#match: Some(found) }
    }

    fn news(told: &mut Told, event: Event) -> Option<(LiveKind, u64)> {
        let row = told.news(v1::MatchStreamResponse { heard_s: 0.0, event: Some(event) })?;
        Some((row.event, row.match_id.unwrap()))
    }

    #[test]
    fn what_a_server_tells_again_is_no_news_and_what_was_missed_is() {
        let mut told = Told::default();
        let a = |end_s| found(1, "a", [0.0, end_s], 5.0);
        assert_eq!(news(&mut told, Event::MatchStarted(a(2.0))), Some((LiveKind::MatchStarted, 1)));
        assert_eq!(news(&mut told, Event::MatchEnded(a(9.0))), Some((LiveKind::MatchEnded, 1)));
        assert_eq!(news(&mut told, Event::MatchEnded(a(9.0))), None);
        let missed = Event::MatchUpdated(found(2, "b", [9.0, 12.0], -9.0));
        assert_eq!(news(&mut told, missed), Some((LiveKind::MatchStarted, 2)));
    }

    #[test]
    fn a_server_that_has_lost_the_stream_does_not_tell_it_twice() {
        let mut told = Told::default();
        let a = |id, end_s| found(id, "a", [0.0, end_s], 5.0);
        news(&mut told, Event::MatchStarted(a(1, 2.0)));
        news(&mut told, Event::MatchEnded(a(1, 9.0)));
        news(&mut told, Event::MatchStarted(found(2, "b", [9.0, 12.0], -9.0)));
        told.count_anew();
        assert_eq!(news(&mut told, Event::MatchStarted(a(1, 2.0))), None);
        assert_eq!(news(&mut told, Event::MatchEnded(a(1, 8.9))), None);
        let again = Event::MatchStarted(found(2, "b", [9.0, 12.0], -9.1));
        assert_eq!(news(&mut told, again), Some((LiveKind::MatchUpdated, 2)));
        // The same track once more, from its beginning.
        let later = Event::MatchStarted(found(3, "a", [20.0, 22.0], -20.0));
        assert_eq!(news(&mut told, later), Some((LiveKind::MatchStarted, 3)));
    }
}
