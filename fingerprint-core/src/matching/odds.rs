//! Score → odds: how often a query that is not in the index scores as high.
//!
//! Position in the flow: alignments → **matches**. Two things make a wrong answer, and they are
//! kept apart:
//!
//! *Chance.* Music that has nothing in common aligns a little. [`Odds::e_value`] is the expected
//! number of chance alignments this good, as BLAST gives it for sequences:
//!
//! ```text
//! E(S) = 0.01 · windows · (hours / 12)^0.1 · exp(−(S − s)/τ)
//! s = 10.8 + 2.4·x nats,  τ = 2.1 + 0.5·x nats,  x = ln(10 s / length) / ln(10 s / 3 s) ≥ 0
//! ```
//!
//! It is fitted, not derived: a textbook exponent of one per nat is off by orders of magnitude,
//! because peaks of music are not independent. It grows little with the index, because however
//! large that is, the same number of candidates is weighed.
//!
//! *Relation.* Recordings that differ may share a loop, a sample or a player's notes, above all
//! those of one album. How often depends on the catalog and not on the score's arithmetic; that
//! part of [`Odds::false_accepts`] is an assumption, stated at [`RELATED_SHARE`].
//!
//! `ARCHITECTURE.md`, "Odds", has what was measured.

/// False accepts per query that are put up with, unless the caller says otherwise.
pub(super) const FALSE_ACCEPTS_MAX: f64 = 1e-4;
/// Chance alignments of a 10 s query in 12 hours of music that reach [`CHANCE_SCORE`].
const CHANCE_RATE: f64 = 0.01;
/// See [`CHANCE_RATE`], in nats.
const CHANCE_SCORE: f64 = 10.8;
/// Nats in which chance alignments become rarer by e.
const CHANCE_FOLD: f64 = 2.1;
/// Length of an index, in seconds, for which the rate holds.
const INDEX_S: f64 = 12.0 * 3600.0;
/// Growth of the rate with the index: 1 to 300 hours showed none; this is on the safe side.
const INDEX_EXPONENT: f64 = 0.1;
/// Queries from this length on, in seconds, follow the formula without a correction …
const LONG_S: f64 = 10.0;
/// … and at this length it is whole: fewer peaks let more alignments look good.
const SHORT_S: f64 = 3.0;
/// What a short query adds to [`CHANCE_SCORE`], in nats.
const SHORT_SCORE: f64 = 2.4;
/// What it adds to [`CHANCE_FOLD`], in nats.
const SHORT_FOLD: f64 = 0.5;
/// Length, in seconds, below which nothing was measured and the correction grows no more.
const LENGTH_MIN_S: f64 = 1.0;
/// Share of foreign queries that are taken to be related to something in the index, one in 480. Of
/// game music beside other tracks of the same game it was one in ten.
const RELATED_SHARE: f64 = 2.1e-3;
/// Nats in which shared material becomes rarer by e.
const RELATED_FOLD: f64 = 15.2;
/// Score, in nats, at which half of the answers to queries of three draws were right, foreign ones of
/// the same albums among them.
const EVEN_SCORE: f64 = 37.0;
/// Nats over which that share falls and rises by e.
const EVEN_FOLD: f64 = 9.5;
/// Confidence never exceeds one minus this: no more was measured.
const DOUBT_MIN: f64 = 1e-6;

/// The odds of one query against one index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    /// Chance alignments expected at [`Odds::score`].
    rate: f64,
    score: f64,
    fold: f64,
}

impl Odds {
    /// For an index of `index_s` seconds and a query of `query_s` seconds, searched in this many
    /// windows.
    pub(super) fn new(index_s: f64, query_s: f64, windows: usize) -> Self {
        let shortness =
            (LONG_S / query_s.clamp(LENGTH_MIN_S, LONG_S)).ln() / (LONG_S / SHORT_S).ln();
        Self {
            rate: CHANCE_RATE
                * windows.max(1) as f64
                * (index_s.max(1.0) / INDEX_S).powf(INDEX_EXPONENT),
            score: CHANCE_SCORE + SHORT_SCORE * shortness,
            fold: CHANCE_FOLD + SHORT_FOLD * shortness,
        }
    }

    /// Chance alignments that reach `score` (nats), expected per query.
    pub(super) fn e_value(&self, score: f64) -> f64 {
        self.rate * (-(score - self.score) / self.fold).exp()
    }

    /// False accepts per query at this score, by chance or by relation.
    pub(super) fn false_accepts(&self, score: f64) -> f64 {
        self.e_value(score) + RELATED_SHARE * (-score / RELATED_FOLD).exp()
    }

    /// Least score of a match, in nats, so that there are at most `false_accepts_max` false accepts
    /// per query, which must be positive.
    pub(super) fn score_min(&self, false_accepts_max: f64) -> f64 {
        // Falls to nothing over this range; where it begins below the rate, everything is let through.
        let (mut low, mut high) = (0.0, 1_000.0);
        while high - low > 1e-3 {
            let middle = f64::midpoint(low, high);
            if self.false_accepts(middle) > false_accepts_max {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Share of answers with this score that are right, 0 to 1: a logistic curve fitted to queries
    /// of which three in four were in the index and one in four was not, with other tracks of the
    /// same albums in the index; less what chance takes away.
    pub(super) fn confidence(&self, score: f64) -> f64 {
        let is_same = 1.0 / (1.0 + (-(score - EVEN_SCORE) / EVEN_FOLD).exp());
        (is_same * (-self.e_value(score)).exp()).min(1.0 - DOUBT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: f64 = 3_600.0;

    fn usual() -> Odds {
        Odds::new(12.0 * HOUR_S, 10.0, 1)
    }

    #[test]
    fn the_threshold_gives_the_rate_that_was_asked_for() {
        for odds in [usual(), Odds::new(HOUR_S, 2.0, 1), Odds::new(6_000.0 * HOUR_S, 3_600.0, 479)]
        {
            for rate in [1e-6, 1e-4, 1e-2] {
                let score = odds.score_min(rate);
                assert!((odds.false_accepts(score) / rate - 1.0).abs() < 1e-2, "{rate}: {score}");
            }
        }
    }

    #[test]
    fn more_music_and_shorter_and_longer_queries_ask_for_more() {
        let score = |odds: Odds| odds.score_min(1e-2);
        assert!(score(Odds::new(6_000.0 * HOUR_S, 10.0, 1)) > score(usual()));
        assert!(score(Odds::new(12.0 * HOUR_S, 3.0, 1)) > score(usual()) + 2.0);
        assert!(score(Odds::new(12.0 * HOUR_S, 60.0, 8)) > score(usual()) + 2.0);
    }

    // Measured: 1 % of 5,300 queries of 10 s reached 10.8 nats by chance, of 5,986 of 3 s 13.2, of
    // 398 of 60 s 14.7.
    #[test]
    fn e_values_are_what_was_measured() {
        for (seconds, windows, score) in [(10.0, 1, 10.8), (3.0, 1, 13.2), (60.0, 8, 14.7)] {
            let e_value = Odds::new(11.0 * HOUR_S, seconds, windows).e_value(score);
            assert!((0.005..0.02).contains(&e_value), "{seconds} s: {e_value}");
        }
    }

    #[test]
    fn confidence_rises_with_the_score_and_never_claims_certainty() {
        let odds = usual();
        let scores = [0.0, 10.0, 20.0, 40.0, 60.0, 100.0, 1e4];
        let confidences = scores.map(|score| odds.confidence(score));
        assert!(confidences.is_sorted(), "{confidences:?}");
        assert!(confidences[0] < 0.05 && confidences[5] > 0.99 && confidences[6] < 1.0);
    }
}
