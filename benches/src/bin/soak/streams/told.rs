//! What the server has told of a stream, and whether it contradicts itself.

use std::collections::BTreeMap;
use std::ops::Range;

use earmark_proto::v1;
use earmark_proto::v1::match_stream_response::Event;
use earmark_proto::v1::stretch::Kind;

/// A match, as it was told last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) track_id: String,
    /// Where it lies in the stream, in seconds.
    pub(super) at_s: Range<f64>,
    pub(super) has_ended: bool,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By the server's numbers.
    pub(super) heard: BTreeMap<u64, Heard>,
    /// Stretches of silence that have ended, in seconds.
    pub(super) silent_s: Vec<Range<f64>>,
    /// True once another connection goes on: then some things are told twice, and some were lost.
    pub(super) is_resumed: bool,
    /// How far it has been searched, as told on this connection.
    pub(super) heard_s: f64,
    /// What cannot be.
    pub(super) contradictions: Vec<String>,
}

impl Told {
    pub(super) fn take(&mut self, answer: &v1::MatchStreamResponse) {
        if answer.heard_s < self.heard_s {
            let words = format!("heard {} s, and then {} s", self.heard_s, answer.heard_s);
            self.contradictions.push(words);
        }
        self.heard_s = answer.heard_s;
        match &answer.event {
            Some(Event::MatchStarted(it)) => {
                if self.heard.contains_key(&it.match_id) {
                    self.contradictions.push(format!("match {} begins twice", it.match_id));
                }
                self.note(it, false);
            }
            Some(Event::MatchUpdated(it)) => self.go_on(it, false),
            Some(Event::MatchEnded(it)) => self.go_on(it, true),
            Some(Event::Stretch(stretch)) => {
                if let (Kind::Silent, Some(end_s)) = (stretch.kind(), stretch.end_s) {
                    self.silent_s.push(stretch.start_s..end_s);
                }
            }
            Some(Event::Progress(_)) => {}
            // Everything was sent, and in order.
            Some(Event::Started(_) | Event::AudioLost(_)) | None => {
                self.contradictions.push(format!("{:?}", answer.event));
            }
        }
    }

    fn go_on(&mut self, it: &v1::StreamMatch, ends: bool) {
        let known = self.heard.get(&it.match_id);
        if !self.is_resumed && known.is_none_or(|heard| heard.has_ended) {
            self.contradictions.push(format!("match {} goes on and is not open", it.match_id));
        }
        self.note(it, ends);
    }

    fn note(&mut self, it: &v1::StreamMatch, has_ended: bool) {
        let found = it.r#match.clone().unwrap_or_default();
        let at_s = found.query_start_s..found.query_end_s;
        let heard = Heard { track_id: found.track_id, at_s, has_ended };
        self.heard.insert(it.match_id, heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(heard_s: f64, event: Event) -> v1::MatchStreamResponse {
        v1::MatchStreamResponse { heard_s, event: Some(event) }
    }

    fn of(match_id: u64) -> v1::StreamMatch {
        v1::StreamMatch { match_id, r#match: Some(v1::Match::default()) }
    }

    #[test]
    fn contradictions_are_seen() {
        let told = |events: Vec<v1::MatchStreamResponse>, is_resumed| {
            let mut told = Told { is_resumed, ..Told::default() };
            events.iter().for_each(|event| told.take(event));
            (told.contradictions.len(), told.heard.values().filter(|heard| heard.has_ended).count())
        };
        let start = || event(1.0, Event::MatchStarted(of(1)));
        let update = || event(2.0, Event::MatchUpdated(of(1)));
        let end = || event(3.0, Event::MatchEnded(of(1)));
        assert_eq!(told(vec![start(), update(), end()], false), (0, 1));
        assert_eq!(told(vec![start(), start()], false), (1, 0));
        assert_eq!(told(vec![start(), end(), end()], false), (1, 1));
        assert_eq!(told(vec![update()], false), (1, 0));
        assert_eq!(told(vec![update(), end()], true), (0, 1));
        assert_eq!(told(vec![end(), end()], true), (0, 1));
        assert_eq!(told(vec![end(), start()], true).0, 2);
        assert_eq!(told(vec![event(1.0, Event::AudioLost(v1::AudioLost::default()))], true).0, 1);
    }
}
