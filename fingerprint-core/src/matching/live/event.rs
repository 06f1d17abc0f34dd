//! What a stream tells while it goes on.

use crate::matching::Match;

/// Something that became known of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// A track is heard. Its match is as it is known so far.
    MatchStarted(LiveMatch),
    /// It goes on: longer, surer, or in a better place.
    MatchUpdated(LiveMatch),
    /// It is not heard any more. The last word about it.
    MatchEnded(LiveMatch),
    /// Silence, or audio in which something is heard, has begun or ended.
    Stretch(Stretch),
}

/// A match of a stream. Its times count from the start of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveMatch {
    /// Number of the match in this stream, from 1. A track that is left and comes again has another.
    pub id: u64,
    /// As of a clip; its score and what follows from it are those of the best 15 s so far.
    pub found: Match,
}

/// A stretch of a stream in which no track is heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Why none is.
    pub kind: StretchKind,
    /// Where it begins, in seconds of the stream.
    pub start_s: f64,
    /// Where it ends; `None` while it lasts.
    pub end_s: Option<f64>,
}

/// Why no track is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StretchKind {
    /// There is no sound, see [`super::LiveOptions::silence_db`].
    Silent,
    /// There is sound, but no track of the index was found in it.
    Unknown,
}
