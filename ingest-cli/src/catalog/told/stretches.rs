//! What was told of one kind of stretches, silence or unknown sound, which never overlap.

use crate::contract::live::LiveRow;

/// The end of a stretch that is heard again may be found so many seconds later.
const SAME_END_S: f64 = 1.0;

/// The stretches of one kind.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// Where the one begins that lasts.
    open_s: Option<f64>,
    /// Where the last one ended.
    ended_s: f64,
}

impl Stretches {
    /// What is new of the beginning or the end of a stretch; `is_again` of what is heard again, up to `again_to_s`.
    pub(super) fn news(
        &mut self,
        row: LiveRow,
        is_again: bool,
        again_to_s: f64,
    ) -> Option<LiveRow> {
        let start_s = row.start_s?;
        // It lies behind all that was heard twice, and behind that which lasts, whose end was lost then.
        if self.open_s.is_some_and(|open_s| start_s > again_to_s.max(open_s + SAME_END_S)) {
            self.open_s = None;
        }
        match (row.end_s, self.open_s) {
            (None, Some(_)) => None,
            (None, None) => {
                if is_again || start_s < self.ended_s {
                    return None;
                }
                self.open_s = Some(start_s);
                Some(row)
            }
            // One before that which lasts.
            (Some(end_s), Some(open_s)) if end_s <= open_s => None,
            (Some(end_s), Some(open_s)) => {
                self.open_s = None;
                self.ended_s = end_s;
                // Whoever began to hear in the middle of it does not know where it begins.
                Some(LiveRow { start_s: Some(open_s), ..row })
            }
            (Some(end_s), None) => {
                if is_again || end_s <= self.ended_s + SAME_END_S {
                    return None;
                }
                self.ended_s = end_s;
                Some(row)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fingerprint_core::matching::live::{LiveEvent, Stretch, StretchKind};

    use super::*;

    /// Start and end of what is told of a stretch.
    fn told(
        stretches: &mut Stretches,
        start_s: f64,
        end_s: Option<f64>,
        is_again: bool,
    ) -> Option<(Option<f64>, Option<f64>)> {
        let again_to_s = if is_again { 60.0 } else { 0.0 };
        let stretch = Stretch { kind: StretchKind::Silent, start_s, end_s };
        let row = LiveRow::from_event(LiveEvent::Stretch(stretch), None);
        stretches.news(row, is_again, again_to_s).map(|row| (row.start_s, row.end_s))
    }

    #[test]
    fn stretches_one_after_the_other_are_all_told() {
        let mut stretches = Stretches::default();
        for (start_s, end_s) in [(0.0, 3.0), (3.0, 3.5), (3.6, 9.0)] {
            assert!(told(&mut stretches, start_s, None, false).is_some());
            let ended = told(&mut stretches, start_s, Some(end_s), false);
            assert_eq!(ended, Some((Some(start_s), Some(end_s))));
        }
    }

    #[test]
    fn one_that_lasts_ends_once_and_where_it_began() {
        let mut stretches = Stretches::default();
        told(&mut stretches, 0.0, None, false);
        told(&mut stretches, 0.0, Some(20.0), false);
        told(&mut stretches, 50.0, None, false);
        // Heard again from the tenth second on.
        assert_eq!(told(&mut stretches, 10.0, None, true), None);
        assert_eq!(told(&mut stretches, 10.0, Some(20.0), true), None);
        assert_eq!(told(&mut stretches, 50.1, None, true), None);
        let ended = told(&mut stretches, 50.1, Some(70.0), false);
        assert_eq!(ended, Some((Some(50.0), Some(70.0))));
        assert_eq!(told(&mut stretches, 50.1, Some(70.2), false), None);
    }

    #[test]
    fn one_whose_end_was_lost_does_not_take_the_next() {
        let mut stretches = Stretches::default();
        for (start_s, end_s) in [(5.0, None), (300.0, None), (300.0, Some(310.0))] {
            let expected = Some((Some(start_s), end_s));
            assert_eq!(told(&mut stretches, start_s, end_s, false), expected);
        }
        told(&mut stretches, 400.0, None, false);
        // Of this one both ends are in one word.
        let ended = told(&mut stretches, 500.0, Some(510.0), false);
        assert_eq!(ended, Some((Some(500.0), Some(510.0))));
    }

    #[test]
    fn one_of_which_the_beginning_was_missed_is_told_whole() {
        let mut stretches = Stretches::default();
        let ended = told(&mut stretches, 5.0, Some(9.0), false);
        assert_eq!(ended, Some((Some(5.0), Some(9.0))));
    }
}
