//! Answers judged and counted.

use crate::plan::Query;
use crate::run::{Answer, Outcome};

/// An offset counts as right within this many seconds.
pub(crate) const OFFSET_TOLERANCE_S: f64 = 0.5;

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The best answer is its recording, or one that is said to be the same.
    Hit,
    /// The best answer is another track.
    Wrong,
    /// No answer, though it is indexed.
    Missed,
    /// Held out, and answered all the same.
    Answered,
    /// Held out and not answered, as it should be.
    Quiet,
    /// It could not be made.
    Failed,
}

impl Verdict {
    /// As it is reported.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Wrong => "wrong",
            Self::Missed => "missed",
            Self::Answered => "answered",
            Self::Quiet => "quiet",
            Self::Failed => "failed",
        }
    }
}

/// What one query adds to the counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Of the best answer, if there is one.
    pub(crate) score: Option<f64>,
    /// Distance from the right offset in seconds, for hits.
    pub(crate) offset_error_s: Option<f64>,
    /// The larger of the relative errors of speed and pitch, for hits.
    pub(crate) factor_error: Option<f64>,
}

/// Counts of some queries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) query_count: usize,
    pub(crate) hit_count: usize,
    pub(crate) wrong_count: usize,
    /// Hits at the right offset.
    pub(crate) placed_count: usize,
    pub(crate) negative_count: usize,
    pub(crate) answered_count: usize,
    pub(crate) failed_count: usize,
    /// Of hits, ascending.
    pub(crate) offset_errors_s: Vec<f64>,
    /// Of hits, ascending.
    pub(crate) factor_errors: Vec<f64>,
}

/// The least score that is answered, and what it leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OperatingPoint {
    /// Answers must be above this score.
    pub(crate) above_score: f64,
    pub(crate) hit_count: usize,
}

/// Judges the outcome of a query.
pub(crate) fn judge(query: &Query, outcome: &Outcome) -> Judged {
    let judged =
        |verdict, score| Judged { verdict, score, offset_error_s: None, factor_error: None };
    let best = match &outcome.answers {
        Err(_) => return judged(Verdict::Failed, None),
        Ok(answers) => answers.first(),
    };
    match (best, query.is_indexed) {
        (None, true) => judged(Verdict::Missed, None),
        (None, false) => judged(Verdict::Quiet, None),
        (Some(best), false) => judged(Verdict::Answered, Some(best.score)),
        (Some(best), true) if best.group != Some(query.group) => {
            judged(Verdict::Wrong, Some(best.score))
        }
        (Some(best), true) => Judged {
            verdict: Verdict::Hit,
            score: Some(best.score),
            offset_error_s: Some((best.offset_s - query.offset_s).abs()),
            factor_error: Some(factor_error(best, query)),
        },
    }
}

fn factor_error(answer: &Answer, query: &Query) -> f64 {
    let relative = |found: f64, expected: f64| (found / expected - 1.0).abs();
    relative(answer.speed, query.condition.speed())
        .max(relative(answer.pitch, query.condition.pitch()))
}

/// Counts queries.
pub(crate) fn tally<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> Tally {
    let mut tally = Tally::default();
    for judged in judged {
        match judged.verdict {
            Verdict::Hit | Verdict::Wrong | Verdict::Missed => tally.query_count += 1,
            Verdict::Answered | Verdict::Quiet => tally.negative_count += 1,
            Verdict::Failed => tally.failed_count += 1,
        }
        tally.hit_count += usize::from(judged.verdict == Verdict::Hit);
        tally.wrong_count += usize::from(judged.verdict == Verdict::Wrong);
        tally.answered_count += usize::from(judged.verdict == Verdict::Answered);
        tally.placed_count +=
            usize::from(judged.offset_error_s.is_some_and(|error| error <= OFFSET_TOLERANCE_S));
        tally.offset_errors_s.extend(judged.offset_error_s);
        tally.factor_errors.extend(judged.factor_error);
    }
    tally.offset_errors_s.sort_by(f64::total_cmp);
    tally.factor_errors.sort_by(f64::total_cmp);
    tally
}

/// The lowest threshold of the score at which at most `share_max` of the held-out queries are
/// answered. `None` without any held-out query.
pub(crate) fn operating_point(judged: &[Judged], share_max: f64) -> Option<OperatingPoint> {
    let is_negative = |j: &&Judged| matches!(j.verdict, Verdict::Answered | Verdict::Quiet);
    let negative_count = judged.iter().filter(is_negative).count();
    if negative_count == 0 {
        return None;
    }
    let mut scores: Vec<_> =
        judged.iter().filter(is_negative).filter_map(|judged| judged.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let allowed = crate::audio::whole((negative_count as f64 * share_max + 1e-9).floor());
    // The first one that must not be answered any more; 0 if the built-in threshold does.
    let above_score = scores.get(allowed).copied().unwrap_or(0.0);
    let is_hit = |judged: &&Judged| {
        judged.verdict == Verdict::Hit && judged.score.is_some_and(|score| score > above_score)
    };
    Some(OperatingPoint { above_score, hit_count: judged.iter().filter(is_hit).count() })
}

/// The 95 % confidence interval of a share of which `count` of `total` were seen, both ends 0 to 1
/// (E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927).
pub(crate) fn wilson(count: usize, total: usize) -> Option<(f64, f64)> {
    const Z: f64 = 1.959_964;
    if total == 0 {
        return None;
    }
    let (n, share) = (total as f64, count as f64 / total as f64);
    let centre = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some((((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0)))
}

/// The smallest of `sorted` that `percent` of them do not exceed. `None` of none.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use fingerprint_core::units::TrackId;

    use super::*;
    use crate::condition::named;

    fn query(is_indexed: bool) -> Query {
        Query {
            id: "q".to_owned(),
            row: 0,
            condition: named(&["speed+3".to_owned()]).unwrap()[0],
            seconds: 10.0,
            recording: 40,
            group: 4,
            is_indexed,
            offset_s: 20.0,
        }
    }

    fn outcome(groups: &[Option<usize>]) -> Outcome {
        let answer = |group: &Option<usize>| Answer {
            track_id: TrackId::new("track").unwrap(),
            group: *group,
            score: 100.0,
            confidence: 1.0,
            e_value: None,
            offset_s: 20.4,
            speed: 1.03,
            pitch: 1.0403,
        };
        let answers = Ok(groups.iter().map(answer).collect());
        Outcome { answers, fingerprint_ms: 1.0, search_ms: 1.0 }
    }

    #[test]
    fn the_best_answer_decides() {
        let verdict = |is_indexed, groups: &[Option<usize>]| {
            judge(&query(is_indexed), &outcome(groups)).verdict
        };
        assert_eq!(verdict(true, &[Some(4), Some(5)]), Verdict::Hit);
        assert_eq!(verdict(true, &[Some(5), Some(4)]), Verdict::Wrong);
        // A distractor is as wrong as another recording.
        assert_eq!(verdict(true, &[None]), Verdict::Wrong);
        assert_eq!(verdict(true, &[]), Verdict::Missed);
        assert_eq!(verdict(false, &[Some(5)]), Verdict::Answered);
        assert_eq!(verdict(false, &[]), Verdict::Quiet);
        let hit = judge(&query(true), &outcome(&[Some(4)]));
        assert!((hit.offset_error_s.unwrap() - 0.4).abs() < 1e-9);
        // The pitch is off by a hundredth, the speed is right.
        assert!((hit.factor_error.unwrap() - 0.01).abs() < 1e-9);
        let tally = tally(&[hit, judge(&query(true), &outcome(&[]))]);
        assert_eq!((tally.query_count, tally.hit_count, tally.placed_count), (2, 1, 1));
    }

    #[test]
    fn operating_points_answer_no_more_than_they_may() {
        let judged =
            |verdict, score| Judged { verdict, score, offset_error_s: None, factor_error: None };
        let mut all = vec![judged(Verdict::Quiet, None); 97];
        all.extend([90.0, 50.0, 70.0].map(|s| judged(Verdict::Answered, Some(s))));
        all.extend([60.0, 80.0, 95.0, 70.0].map(|s| judged(Verdict::Hit, Some(s))));
        all.push(judged(Verdict::Wrong, Some(200.0)));
        let point = |above_score, hit_count| Some(OperatingPoint { above_score, hit_count });
        assert_eq!(operating_point(&all, 0.0), point(90.0, 1));
        // One of a hundred may be answered: that of 90.
        assert_eq!(operating_point(&all, 0.01), point(70.0, 2));
        assert_eq!(operating_point(&all, 0.5), point(0.0, 4));
        assert_eq!(operating_point(&all[100..], 0.0), None);
    }

    #[test]
    fn intervals_are_those_of_the_textbook() {
        let (low, high) = wilson(8, 10).unwrap();
        assert!((low - 0.490).abs() < 0.001 && (high - 0.943).abs() < 0.001);
        let (low, high) = wilson(0, 30).unwrap();
        assert!(low.abs() < 1e-12 && (high - 0.114).abs() < 0.001);
        assert_eq!(wilson(0, 0), None);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 50), Some(2.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
