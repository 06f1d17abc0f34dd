//! What `earmark monitor --format json` prints: the contract that other programs rely on, under the
//! rules of [`super`].

use earmark_proto::v1;
use earmark_proto::v1::match_stream_response::Event;
use fingerprint_core::matching::live::{LiveEvent, LiveMatch, Stretch, StretchKind};
use serde::Serialize;

use super::{MatchRow, to_milli};

/// Something that became known of a stream: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LiveRow {
    pub(crate) event: LiveKind,
    /// Up to here the stream was searched; null if that is not known any more.
    pub(crate) heard_s: Option<f64>,
    pub(crate) match_id: Option<u64>,
    #[serde(rename = "match")]
    pub(crate) found: Option<MatchRow>,
    pub(crate) start_s: Option<f64>,
    pub(crate) end_s: Option<f64>,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LiveKind {
    MatchStarted,
    MatchUpdated,
    MatchEnded,
    SilenceStarted,
    SilenceEnded,
    UnknownStarted,
    UnknownEnded,
    AudioLost,
}

/// The last line: what was heard in all.
#[derive(Debug, Serialize)]
pub(crate) struct LiveSummary {
    pub(crate) event: &'static str,
    pub(crate) duration_s: f64,
    /// Time in which at least one track was heard.
    pub(crate) recognised_s: f64,
    /// In the order of their beginnings.
    pub(crate) matches: Vec<MatchRow>,
}

impl LiveRow {
    /// Of an event of this process.
    pub(crate) fn from_event(event: LiveEvent, heard_s: Option<f64>) -> Self {
        let of_match = |event, LiveMatch { id, found }| Self::of_match(event, id, found.into());
        let row = match event {
            LiveEvent::MatchStarted(found) => of_match(LiveKind::MatchStarted, found),
            LiveEvent::MatchUpdated(found) => of_match(LiveKind::MatchUpdated, found),
            LiveEvent::MatchEnded(found) => of_match(LiveKind::MatchEnded, found),
            LiveEvent::Stretch(Stretch { kind, start_s, end_s }) => {
                Self::of_stretch(kind, start_s, end_s)
            }
        };
        Self { heard_s: heard_s.map(to_milli), ..row }
    }

    /// Of a message of a server; `None` if it tells nothing of the audio.
    pub(crate) fn from_message(message: v1::MatchStreamResponse) -> Option<Self> {
        let of_match = |event, found: v1::StreamMatch| {
            Some(Self::of_match(event, found.match_id, found.r#match?.into()))
        };
        let row = match message.event? {
            Event::MatchStarted(found) => of_match(LiveKind::MatchStarted, found)?,
            Event::MatchUpdated(found) => of_match(LiveKind::MatchUpdated, found)?,
            Event::MatchEnded(found) => of_match(LiveKind::MatchEnded, found)?,
            Event::Stretch(stretch) => {
                let kind = match stretch.kind() {
                    v1::stretch::Kind::Silent => StretchKind::Silent,
                    v1::stretch::Kind::Unknown => StretchKind::Unknown,
                    v1::stretch::Kind::Unspecified => return None,
                };
                Self::of_stretch(kind, stretch.start_s, stretch.end_s)
            }
            Event::AudioLost(lost) => Self::lost(lost.start_s, lost.end_s),
            Event::Started(_) | Event::Progress(_) => return None,
        };
        Some(Self { heard_s: Some(to_milli(message.heard_s)), ..row })
    }

    /// Audio that did not come.
    pub(crate) fn lost(start_s: f64, end_s: f64) -> Self {
        Self::stretch(LiveKind::AudioLost, start_s, Some(end_s))
    }

    fn of_match(event: LiveKind, id: u64, found: MatchRow) -> Self {
        Self {
            event,
            heard_s: None,
            match_id: Some(id),
            found: Some(found),
            start_s: None,
            end_s: None,
        }
    }

    fn of_stretch(kind: StretchKind, start_s: f64, end_s: Option<f64>) -> Self {
        let event = match (kind, end_s) {
            (StretchKind::Silent, None) => LiveKind::SilenceStarted,
            (StretchKind::Silent, Some(_)) => LiveKind::SilenceEnded,
            (StretchKind::Unknown, None) => LiveKind::UnknownStarted,
            (StretchKind::Unknown, Some(_)) => LiveKind::UnknownEnded,
        };
        Self::stretch(event, start_s, end_s)
    }

    fn stretch(event: LiveKind, start_s: f64, end_s: Option<f64>) -> Self {
        Self {
            event,
            heard_s: None,
            match_id: None,
            found: None,
            start_s: Some(to_milli(start_s)),
            end_s: end_s.map(to_milli),
        }
    }
}
