//! Whether an answer to a clip is right.

use earmark_proto::v1;

use crate::ledger::State;

/// How far a place in the track may be off, in seconds.
const OFFSET_ERROR_MAX_S: f64 = 0.5;

/// What is in a clip.
pub(crate) struct Truth<'a> {
    /// The recording that it was cut from.
    pub(crate) track_id: &'a str,
    /// Where in it the clip begins, in seconds.
    pub(crate) from_s: f64,
    /// Whether the recording was there.
    pub(crate) state: State,
}

/// What is reported of one track.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) track_id: String,
    /// Track time at query time 0 in seconds, and that of other places that fit as well.
    pub(crate) offsets_s: Vec<f64>,
}

impl Named {
    pub(crate) fn of(found: &v1::Match) -> Self {
        // Tracks here are played at their own speed, so query and track time differ by a constant.
        let other = |other: &v1::Alternative| other.reference_start_s - found.query_start_s;
        let offsets_s = std::iter::once(found.reference_offset_s)
            .chain(found.alternatives.iter().map(other))
            .collect();
        Self { track_id: found.track_id.clone(), offsets_s }
    }
}

/// What is wrong with what was named, if anything is.
pub(crate) fn judge(truth: &Truth<'_>, named: &[Named]) -> Option<String> {
    let Truth { track_id, from_s, state } = truth;
    if let Some(other) = named.iter().find(|named| named.track_id != *track_id) {
        return Some(format!("{track_id} at {from_s} s was taken for {other:?}"));
    }
    let is_near = |offset: &f64| (offset - from_s).abs() <= OFFSET_ERROR_MAX_S;
    match state {
        State::Present if named.is_empty() => {
            Some(format!("{track_id} at {from_s} s was not found, and it is there"))
        }
        State::Absent if !named.is_empty() => {
            Some(format!("{track_id} at {from_s} s was found, and it is not there"))
        }
        _ if !named.is_empty() && !named.iter().flat_map(|n| &n.offsets_s).any(is_near) => {
            Some(format!("{track_id} at {from_s} s was found elsewhere: {named:?}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_be_wrong_is_told() {
        let named =
            |id: &str, offset_s| Named { track_id: id.to_owned(), offsets_s: vec![99.0, offset_s] };
        let told = |state, named: &[Named]| {
            judge(&Truth { track_id: "a", from_s: 4.0, state }, named).unwrap_or_default()
        };
        for (state, answer, words) in [
            (State::Present, vec![named("a", 4.1)], ""),
            (State::Present, vec![], "not found"),
            (State::Present, vec![named("a", 9.0)], "elsewhere"),
            (State::Present, vec![named("a", 4.1), named("b", 0.0)], "taken for"),
            (State::Absent, vec![], ""),
            (State::Absent, vec![named("a", 4.0)], "is not there"),
            (State::Unsure, vec![], ""),
            (State::Unsure, vec![named("a", 4.0)], ""),
            (State::Unsure, vec![named("b", 4.0)], "taken for"),
        ] {
            let told = told(state, &answer);
            assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{told}");
        }
    }
}
