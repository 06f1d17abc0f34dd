//! Between the messages of a stream and the types of the core.

use earmark_proto::v1;
use earmark_proto::v1::match_stream_response::Event;
use fingerprint_core::matching::live::{LiveEvent, LiveMatch, LiveOptions, Stretch, StretchKind};
use tonic::Status;

use crate::convert;
use crate::reason::Reason;

/// Most false events an hour that a client may put up with.
const FALSE_EVENTS_MAX: f64 = 1_000.0;
/// Longest time between two updates, in seconds.
const UPDATE_S_MAX: u32 = 3_600;
/// Longest gap, in seconds: less than a window.
const GAP_S_MAX: u32 = 12;

/// The options of a stream; unset means the defaults.
pub(crate) fn options(options: Option<v1::StreamOptions>) -> Result<LiveOptions, Status> {
    let default = LiveOptions::default();
    let Some(options) = options else { return Ok(default) };
    let refused = |field: &str, value: String, expected: &str| {
        Reason::ArgumentInvalid
            .status(format!("header.options.{field} is {value}, it must be {expected}"))
    };
    let false_events_max = options.max_false_events.unwrap_or(default.false_events_max);
    if !(false_events_max > 0.0 && false_events_max <= FALSE_EVENTS_MAX) {
        let expected = "above 0 and at most 1000";
        return Err(refused("max_false_events", false_events_max.to_string(), expected));
    }
    let confidence_min = options.min_confidence;
    if !(0.0..=1.0).contains(&confidence_min) {
        return Err(refused("min_confidence", confidence_min.to_string(), "0 to 1"));
    }
    let update_s = options.update_interval_s;
    if update_s > UPDATE_S_MAX {
        return Err(refused("update_interval_s", update_s.to_string(), "at most 3600"));
    }
    let gap_s = options.max_gap_s;
    if gap_s > GAP_S_MAX || gap_s == 1 {
        return Err(refused("max_gap_s", gap_s.to_string(), "2 to 12, or 0"));
    }
    let silence_db = options.silence_db.unwrap_or(f64::from(default.silence_db));
    if !(-100.0..=0.0).contains(&silence_db) {
        return Err(refused("silence_db", silence_db.to_string(), "-100 to 0"));
    }
    let ms =
        |seconds: u32, default_ms: u32| if seconds == 0 { default_ms } else { seconds * 1_000 };
    Ok(LiveOptions {
        false_events_max,
        confidence_min,
        speed_search: convert::speed_search(options.speed_search, "header.options")?,
        update_ms: ms(update_s, default.update_ms),
        gap_max_ms: ms(gap_s, default.gap_max_ms),
        #[expect(clippy::cast_possible_truncation, reason = "a level needs no double precision")]
        silence_db: silence_db as f32,
    })
}

/// An event of the core.
pub(crate) fn event(event: LiveEvent) -> Event {
    match event {
        LiveEvent::MatchStarted(found) => Event::MatchStarted(live_match(found)),
        LiveEvent::MatchUpdated(found) => Event::MatchUpdated(live_match(found)),
        LiveEvent::MatchEnded(found) => Event::MatchEnded(live_match(found)),
        LiveEvent::Stretch(stretch) => Event::Stretch(stretch_message(stretch)),
    }
}

/// A match of a stream.
pub(crate) fn live_match(LiveMatch { id, found }: LiveMatch) -> v1::StreamMatch {
    v1::StreamMatch { match_id: id, r#match: Some(convert::match_message(found)) }
}

fn stretch_message(Stretch { kind, start_s, end_s }: Stretch) -> v1::Stretch {
    let kind = match kind {
        StretchKind::Silent => v1::stretch::Kind::Silent,
        StretchKind::Unknown => v1::stretch::Kind::Unknown,
    };
    v1::Stretch { kind: kind.into(), start_s, end_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let set = |change: fn(&mut v1::StreamOptions)| {
            let mut message = v1::StreamOptions::default();
            change(&mut message);
            options(Some(message))
        };
        assert_eq!(options(None).unwrap(), LiveOptions::default());
        assert_eq!(set(|_| {}).unwrap(), LiveOptions::default());
        let chosen = set(|o| (o.update_interval_s, o.max_gap_s) = (3_600, 12)).unwrap();
        assert_eq!((chosen.update_ms, chosen.gap_max_ms), (3_600_000, 12_000));
        type Change = fn(&mut v1::StreamOptions);
        let refused: [(Change, &str); 8] = [
            (|o| o.max_false_events = Some(0.0), "max_false_events"),
            (|o| o.max_false_events = Some(f64::NAN), "max_false_events"),
            (|o| o.min_confidence = 1.5, "min_confidence"),
            (|o| o.update_interval_s = 3_601, "update_interval_s"),
            (|o| o.max_gap_s = 13, "max_gap_s"),
            (|o| o.max_gap_s = 1, "max_gap_s"),
            (|o| o.silence_db = Some(1.0), "silence_db"),
            (|o| o.speed_search = 9, "speed_search"),
        ];
        for (change, name) in refused {
            assert!(set(change).unwrap_err().message().contains(name), "{name}");
        }
    }
}
