//! What the user was told of a stream, whatever became of the connection: each match, and each stretch of
//! silence or of unknown sound, begins and ends once.
//!
//! A server that goes on with a stream tells again what may have been missed. One that has lost the
//! stream counts its matches anew, and hears the last minute a second time: a match that it finds there is
//! known by its track and its place, a stretch by its place.

mod stretches;

use std::collections::BTreeMap;

use earmark_proto::v1;

use self::stretches::Stretches;
use crate::contract::live::{LiveKind, LiveRow};
use crate::contract::to_milli;

/// A match is the same if its track lies in the same place, to so many seconds …
const SAME_OFFSET_S: f64 = 1.0;
/// … and it does not begin later than so many seconds behind the end of the one that is known.
const SAME_STRETCH_S: f64 = 6.0;
/// Most matches that are known, whatever a server tells; of more the oldest that have ended are forgotten.
const KNOWN_MAX: usize = 1_000;

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By our numbers.
    matches: BTreeMap<u64, Known>,
    /// Our number of each match of this connection's count.
    numbers: BTreeMap<u64, u64>,
    lost_s: Option<f64>,
    /// Up to here the stream was searched.
    heard_s: f64,
    /// Up to here it was when a server lost it: what is told of this is told again.
    again_to_s: Option<f64>,
    silence: Stretches,
    unknown: Stretches,
}

#[derive(Debug)]
struct Known {
    track_id: String,
    reference_offset_s: f64,
    query_end_s: f64,
    has_ended: bool,
}

impl Told {
    /// The server has lost the stream: it hears the last minute again, and counts the matches from 1.
    pub(super) fn hear_anew(&mut self) {
        self.numbers.clear();
        self.again_to_s = Some(self.heard_s);
    }

    /// What is new of a message.
    pub(super) fn news(&mut self, message: v1::MatchStreamResponse) -> Option<LiveRow> {
        let again_to_s = self.again_to_s.unwrap_or(f64::MIN);
        let is_again = message.heard_s <= again_to_s;
        self.heard_s = self.heard_s.max(message.heard_s);
        let mut row = LiveRow::from_message(message)?;
        row.heard_s = Some(to_milli(self.heard_s));
        match row.event {
            LiveKind::AudioLost => {
                let is_new = self.lost_s < row.start_s;
                self.lost_s = if is_new { row.start_s } else { self.lost_s };
                is_new.then_some(row)
            }
            LiveKind::SilenceStarted | LiveKind::SilenceEnded => {
                self.silence.news(row, is_again, again_to_s)
            }
            LiveKind::UnknownStarted | LiveKind::UnknownEnded => {
                self.unknown.news(row, is_again, again_to_s)
            }
            LiveKind::MatchStarted | LiveKind::MatchUpdated | LiveKind::MatchEnded => {
                self.news_of_match(row, is_again)
            }
        }
    }

    fn news_of_match(&mut self, mut row: LiveRow, is_again: bool) -> Option<LiveRow> {
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
        // Of a match that goes on more is known than what is heard of it again.
        if known.has_ended || (is_again && !is_first && row.event != LiveKind::MatchEnded) {
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
        self.forget_oldest();
        Some(row)
    }

    /// A stream lasts for weeks, and only the last minute of it is told again.
    fn forget_oldest(&mut self) {
        if self.matches.len() <= KNOWN_MAX {
            return;
        }
        let oldest = self.matches.iter().find(|(_, known)| known.has_ended);
        let oldest = oldest.or(self.matches.first_key_value()).map(|(number, _)| *number);
        if let Some(oldest) = oldest {
            self.matches.remove(&oldest);
            self.numbers.retain(|_, ours| *ours != oldest);
        }
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

    fn row(told: &mut Told, heard_s: f64, event: Event) -> Option<LiveRow> {
        told.news(v1::MatchStreamResponse { heard_s, event: Some(event) })
    }

    fn news(told: &mut Told, heard_s: f64, event: Event) -> Option<(LiveKind, u64)> {
        let row = row(told, heard_s, event)?;
        Some((row.event, row.match_id.unwrap()))
    }

    fn unknown(start_s: f64, end_s: Option<f64>) -> Event {
        Event::Stretch(v1::Stretch { kind: v1::stretch::Kind::Unknown.into(), start_s, end_s })
    }

    #[test]
    fn what_a_server_tells_again_is_no_news_and_what_was_missed_is() {
        let mut told = Told::default();
        let a = |end_s| found(1, "a", [0.0, end_s], 5.0);
        let began = news(&mut told, 3.0, Event::MatchStarted(a(2.0)));
        assert_eq!(began, Some((LiveKind::MatchStarted, 1)));
        let ended = news(&mut told, 15.0, Event::MatchEnded(a(9.0)));
        assert_eq!(ended, Some((LiveKind::MatchEnded, 1)));
        assert_eq!(news(&mut told, 15.0, Event::MatchEnded(a(9.0))), None);
        let missed = Event::MatchUpdated(found(2, "b", [9.0, 12.0], -9.0));
        assert_eq!(news(&mut told, 15.0, missed), Some((LiveKind::MatchStarted, 2)));
    }

    #[test]
    fn a_server_that_has_lost_the_stream_does_not_tell_it_twice() {
        let mut told = Told::default();
        let a = |id, end_s| found(id, "a", [0.0, end_s], 5.0);
        let b = |id, end_s| found(id, "b", [9.0, end_s], -9.1);
        news(&mut told, 3.0, Event::MatchStarted(a(1, 2.0)));
        news(&mut told, 12.0, Event::MatchStarted(b(2, 12.0)));
        news(&mut told, 15.0, Event::MatchEnded(a(1, 9.0)));
        told.hear_anew();
        assert_eq!(news(&mut told, 3.0, Event::MatchStarted(a(1, 2.0))), None);
        assert_eq!(news(&mut told, 12.0, Event::MatchStarted(b(2, 12.0))), None);
        assert_eq!(news(&mut told, 15.5, Event::MatchEnded(a(1, 8.9))), None);
        let goes_on = news(&mut told, 22.0, Event::MatchUpdated(b(2, 22.0)));
        assert_eq!(goes_on, Some((LiveKind::MatchUpdated, 2)));
        // The same track once more, from its beginning.
        let later = Event::MatchStarted(found(3, "a", [20.0, 22.0], -20.0));
        assert_eq!(news(&mut told, 23.0, later), Some((LiveKind::MatchStarted, 3)));
    }

    #[test]
    fn a_match_that_goes_on_is_known_again_and_ends_once() {
        let mut told = Told::default();
        let a = |end_s| found(1, "a", [0.0, end_s], 5.0);
        news(&mut told, 3.0, Event::MatchStarted(a(2.0)));
        told.hear_anew();
        let again = news(&mut told, 3.4, Event::MatchStarted(a(2.0)));
        assert_eq!(again, Some((LiveKind::MatchUpdated, 1)));
        assert_eq!(
            news(&mut told, 15.0, Event::MatchEnded(a(9.0))),
            Some((LiveKind::MatchEnded, 1))
        );
    }

    #[test]
    fn a_match_that_lasts_is_not_forgotten_over_thousands_of_others() {
        let mut told = Told::default();
        let lasts = |end_s| found(1, "station", [0.0, end_s], 0.0);
        news(&mut told, 3.0, Event::MatchStarted(lasts(2.0)));
        for number in 2..3 * KNOWN_MAX as u64 {
            let from_s = number as f64 * 10.0;
            let other = found(number, "other", [from_s, from_s + 5.0], -from_s);
            assert!(news(&mut told, from_s, Event::MatchStarted(other.clone())).is_some());
            assert!(news(&mut told, from_s + 5.0, Event::MatchEnded(other)).is_some());
            assert!(told.matches.len() <= KNOWN_MAX && told.numbers.len() <= KNOWN_MAX);
        }
        let ended = news(&mut told, 40_000.0, Event::MatchEnded(lasts(40_000.0)));
        assert_eq!(ended, Some((LiveKind::MatchEnded, 1)));
    }

    #[test]
    fn stretches_are_told_once_and_time_does_not_go_back() {
        let mut told = Told::default();
        assert!(row(&mut told, 5.0, unknown(0.0, None)).is_some());
        assert!(row(&mut told, 12.0, unknown(0.0, Some(10.0))).is_some());
        told.hear_anew();
        assert_eq!(row(&mut told, 5.0, unknown(0.0, None)), None);
        // It is found out a little later than the first time.
        assert_eq!(row(&mut told, 12.4, unknown(0.0, Some(10.3))), None);
        told.hear_anew();
        let found = found(1, "a", [10.0, 12.0], 5.0);
        let row = row(&mut told, 12.2, Event::MatchStarted(found)).unwrap();
        assert_eq!(row.heard_s, Some(12.4));
    }
}
