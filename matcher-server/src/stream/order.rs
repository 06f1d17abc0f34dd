//! Pieces of a stream that come late, early or twice → pieces in order, and what was lost.
//!
//! Positions and lengths are in one unit, which the caller chooses: samples of a channel, or
//! milliseconds. What comes early waits until what is missing has come, or until so much waits that it
//! is taken for lost.

use std::collections::BTreeMap;

/// Most pieces that wait, however short they are.
const WAITING_MAX: usize = 1_024;

/// A piece of a stream.
pub(crate) trait Piece {
    /// Its length.
    fn length(&self) -> u64;
    /// Takes this much, less than its length, away from its beginning.
    fn cut_front(&mut self, count: u64);
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ordered<P> {
    /// The next piece.
    Piece(P),
    /// What lies between these positions did not come.
    Lost { from: u64, to: u64 },
}

/// Puts the pieces of one stream in order.
#[derive(Debug)]
pub(crate) struct Order<P> {
    /// Everything before has come out.
    next: u64,
    /// Pieces that came early, by their positions.
    waiting: BTreeMap<u64, P>,
    /// How far what waits may reach beyond `next`.
    wait_max: u64,
    /// Their lengths together.
    waiting_length: u64,
    /// What came too late, or twice.
    late: u64,
}

impl<P: Piece> Order<P> {
    /// A stream that begins at position 0.
    pub(crate) fn new(wait_max: u64) -> Self {
        Self { next: 0, waiting: BTreeMap::new(), wait_max, waiting_length: 0, late: 0 }
    }

    /// Position behind all that has come out.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Position behind what was sent last, as far as is known: where a piece without one begins.
    pub(crate) fn end(&self) -> u64 {
        let last = self.waiting.last_key_value();
        last.map_or(self.next, |(at, piece)| (at + piece.length()).max(self.next))
    }

    /// Length of what came too late, or twice.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Takes the next piece, which follows the one before if it has no position, and hands out what is
    /// in order now.
    pub(crate) fn push(
        &mut self,
        position: Option<u64>,
        piece: P,
        out: &mut impl FnMut(Ordered<P>),
    ) {
        let position = position.unwrap_or_else(|| self.end());
        if position <= self.next {
            self.hand_out(position, piece, out);
        } else {
            match self.waiting.get(&position) {
                Some(known) if known.length() >= piece.length() => self.late += piece.length(),
                _ => {
                    self.waiting_length += piece.length();
                    if let Some(known) = self.waiting.insert(position, piece) {
                        self.waiting_length -= known.length();
                        self.late += known.length();
                    }
                }
            }
        }
        self.hand_out_waiting(out);
        while self.waits_too_long() {
            self.give_up(out);
        }
    }

    /// Hands out all that waits, when nothing more will come.
    pub(crate) fn finish(&mut self, out: &mut impl FnMut(Ordered<P>)) {
        while !self.waiting.is_empty() {
            self.give_up(out);
        }
    }

    fn waits_too_long(&self) -> bool {
        self.end() - self.next > self.wait_max
            || self.waiting_length > self.wait_max
            || self.waiting.len() > WAITING_MAX
    }

    /// Takes what is missing before the first piece that waits for lost.
    fn give_up(&mut self, out: &mut impl FnMut(Ordered<P>)) {
        let Some((position, piece)) = self.waiting.pop_first() else { return };
        self.waiting_length -= piece.length();
        if position > self.next {
            out(Ordered::Lost { from: self.next, to: position });
            self.next = position;
        }
        self.hand_out(position, piece, out);
        self.hand_out_waiting(out);
    }

    fn hand_out_waiting(&mut self, out: &mut impl FnMut(Ordered<P>)) {
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= self.next
        {
            let (position, piece) = first.remove_entry();
            self.waiting_length -= piece.length();
            self.hand_out(position, piece, out);
        }
    }

    /// Hands out what is new of a piece that does not begin behind `next`.
    fn hand_out(&mut self, position: u64, mut piece: P, out: &mut impl FnMut(Ordered<P>)) {
        let end = position + piece.length();
        let known = self.next - position;
        if end <= self.next {
            self.late += piece.length();
            return;
        }
        if known > 0 {
            self.late += known;
            piece.cut_front(known);
        }
        self.next = end;
        out(Ordered::Piece(piece));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Piece for Vec<u64> {
        fn length(&self) -> u64 {
            self.len() as u64
        }

        fn cut_front(&mut self, count: u64) {
            self.drain(..usize::try_from(count).unwrap());
        }
    }

    const WAIT_MAX: u64 = 20;

    /// Each number is its own position.
    fn piece(from: u64, len: u64) -> Vec<u64> {
        (from..from + len).collect()
    }

    /// Pushes all, and returns what came out and how much was late.
    fn ordered(pieces: &[(Option<u64>, Vec<u64>)]) -> (Vec<Ordered<Vec<u64>>>, u64) {
        let (mut order, mut out) = (Order::new(WAIT_MAX), Vec::new());
        for (position, piece) in pieces {
            order.push(*position, piece.clone(), &mut |next| out.push(next));
        }
        order.finish(&mut |next| out.push(next));
        (out, order.late())
    }

    fn at(from: u64, len: u64) -> (Option<u64>, Vec<u64>) {
        (Some(from), piece(from, len))
    }

    #[test]
    fn what_is_late_fills_its_gap_and_what_comes_twice_is_passed_over() {
        let (out, late) = ordered(&[at(0, 5), at(10, 5), at(10, 3), at(5, 5), at(13, 4), at(2, 3)]);
        let numbers: Vec<u64> = out
            .iter()
            .flat_map(|next| match next {
                Ordered::Piece(piece) => piece.clone(),
                Ordered::Lost { .. } => panic!("nothing was lost"),
            })
            .collect();
        assert_eq!(numbers, piece(0, 17));
        assert_eq!(late, 3 + 2 + 3);
    }

    #[test]
    fn what_does_not_come_is_lost_once_too_much_waits() {
        let mut order = Order::new(WAIT_MAX);
        let mut out = Vec::new();
        order.push(Some(5), piece(5, 15), &mut |next| out.push(next));
        assert!(out.is_empty(), "twenty may wait");
        order.push(None, piece(20, 1), &mut |next| out.push(next));
        let lost = Ordered::Lost { from: 0, to: 5 };
        assert_eq!(out, [lost, Ordered::Piece(piece(5, 15)), Ordered::Piece(piece(20, 1))]);
        order.push(Some(0), piece(0, 5), &mut |_| panic!("it comes too late"));
        assert_eq!((order.next(), order.late()), (21, 5));
    }

    proptest! {
        // Whatever comes: in order, once, and nothing is lost that came in time.
        #[test]
        fn everything_comes_out_in_order_and_once(
            pieces in proptest::collection::vec((0_u64..60, 1_u64..8, any::<bool>()), 1..60),
        ) {
            let pieces: Vec<_> = pieces
                .into_iter()
                // One without a position may lie anywhere, so its numbers say nothing.
                .map(|(from, len, told)| if told { at(from, len) } else { at(from / 2, len) })
                .collect();
            let (out, late) = ordered(&pieces);
            let mut next = 0;
            let mut taken = 0;
            for ordered in &out {
                match ordered {
                    Ordered::Piece(piece) => {
                        prop_assert_eq!(piece[0], next);
                        prop_assert!(piece.windows(2).all(|pair| pair[1] == pair[0] + 1));
                        next += piece.length();
                        taken += piece.length();
                    }
                    Ordered::Lost { from, to } => {
                        prop_assert_eq!(*from, next);
                        prop_assert!(to > from);
                        next = *to;
                    }
                }
            }
            let sent: u64 = pieces.iter().map(|(_, piece)| piece.length()).sum();
            prop_assert_eq!(sent, taken + late);
        }
    }
}
