//! What is printed and written: the table, the sums below it, and the rows of the file.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::catalog::{Catalog, Distractors};
use crate::plan::{Plan, Query};
use crate::run::{Answer, Outcome};
use crate::score::{Judged, Tally, Verdict, operating_point, percentile, tally, wilson};

/// Pairs of recordings listed that are taken for one another, and broken files and queries.
const LISTED_MAX: usize = 10;

/// All that a run found out.
#[derive(Debug)]
pub(crate) struct Results<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) plan: &'a Plan,
    pub(crate) outcomes: &'a [Outcome],
    pub(crate) judged: &'a [Judged],
    pub(crate) distractors: Option<&'a Distractors>,
    /// What was left out, and why.
    pub(crate) notes: &'a [String],
    pub(crate) job_count: usize,
}

/// The text for standard output.
pub(crate) fn text(results: &Results<'_>) -> String {
    let mut text = catalog_lines(results.catalog);
    if let Some(distractors) = results.distractors {
        text += &distractor_lines(distractors);
    }
    text += "\n";
    text += &table(results);
    text += "\n";
    text += &sums(results);
    text += &confusions(results);
    text += &failures(results);
    for note in results.notes {
        text += &format!("left out: {note}\n");
    }
    text
}

fn catalog_lines(catalog: &Catalog) -> String {
    let hours = |places: &[usize]| catalog.duration_s(places) / 3_600.0;
    let (indexed, held_out) = (&catalog.indexed, &catalog.held_out);
    let skipped = &catalog.skipped;
    let mut lines = format!(
        "{} recordings indexed ({:.2} h), {} held out ({:.2} h); passed over: {} too short, {} with \
         the same audio as another, {} not to be read\n",
        indexed.len(),
        hours(indexed),
        held_out.len(),
        hours(held_out),
        skipped.short_count,
        skipped.duplicate_count,
        skipped.refused.len(),
    );
    for refused in skipped.refused.iter().take(LISTED_MAX) {
        lines += &format!("  {refused}\n");
    }
    lines
}

fn distractor_lines(distractors: &Distractors) -> String {
    let Distractors { track_count, hours, real, synthetic } = distractors;
    let mut lines = format!("{track_count} synthetic tracks indexed ({hours:.2} h)\n");
    let mut line = |name: &str, values: [&str; 6]| {
        let [hours, peaks, postings, fullest, bucket, met] = values;
        let _ = writeln!(
            lines,
            "  {name:<10} {hours:>8} {peaks:>9} {postings:>12} {fullest:>18} {bucket:>15} {met:>12}"
        );
    };
    line(
        "sample",
        ["hours", "peaks/s", "postings/s", "in fullest 1% keys", "postings/bucket", "met/posting"],
    );
    for (name, statistics) in [("real", real), ("synthetic", synthetic)] {
        let values = [
            format!("{:.2}", statistics.duration_s / 3_600.0),
            format!("{:.2}", statistics.peaks_per_s),
            format!("{:.2}", statistics.postings_per_s),
            format!("{:.2} %", 100.0 * statistics.fullest_key_share),
            format!("{:.2}", statistics.bucket_occupancy),
            format!("{:.2}", statistics.bucket_occupancy_met),
        ];
        line(name, values.each_ref().map(String::as_str));
    }
    lines
}

fn table(results: &Results<'_>) -> String {
    let mut table = String::new();
    let mut line = |cells: [String; 12]| {
        let [name, s, n, hits, interval, wrong, placed, offset, factor, negatives, answered, range] =
            cells;
        let _ = writeln!(
            table,
            "{name:<16} {s:>4} {n:>7} {hits:>6} {interval:>12} {wrong:>5} {placed:>8} {offset:>9} \
             {factor:>17} {negatives:>8} {answered:>8} {range:>12}"
        );
    };
    line(
        [
            "condition",
            "s",
            "queries",
            "hit %",
            "(95 %)",
            "wrong",
            "placed %",
            "offset ms",
            "factor error %",
            "held out",
            "answered",
            "(95 %)",
        ]
        .map(str::to_owned),
    );
    for (place, row) in results.plan.rows.iter().enumerate() {
        let of_row = results.plan.queries.iter().zip(results.judged);
        let tally = tally(of_row.filter(|(query, _)| query.row == place).map(|(_, judged)| judged));
        line(cells(row.condition.name, &row.seconds.to_string(), &tally));
    }
    line(cells("all", "", &tally(results.judged)));
    table
}

fn cells(name: &str, seconds: &str, tally: &Tally) -> [String; 12] {
    let factor = match (percentile(&tally.factor_errors, 50), tally.factor_errors.last()) {
        (Some(median), Some(max)) => format!("{:.3} .. {:.3}", 100.0 * median, 100.0 * max),
        _ => "-".to_owned(),
    };
    [
        name.to_owned(),
        seconds.to_owned(),
        tally.query_count.to_string(),
        percent(tally.hit_count, tally.query_count),
        interval(tally.hit_count, tally.query_count),
        tally.wrong_count.to_string(),
        percent(tally.placed_count, tally.query_count),
        percentile(&tally.offset_errors_s, 50)
            .map_or_else(|| "-".to_owned(), |error| format!("{:.0}", error * 1e3)),
        factor,
        tally.negative_count.to_string(),
        tally.answered_count.to_string(),
        interval(tally.answered_count, tally.negative_count),
    ]
}

fn percent(count: usize, total: usize) -> String {
    if total == 0 {
        return "-".to_owned();
    }
    format!("{:.1}", 100.0 * count as f64 / total as f64)
}

fn interval(count: usize, total: usize) -> String {
    wilson(count, total)
        .map_or_else(|| "-".to_owned(), |(l, h)| format!("{:.1}-{:.1}", 100.0 * l, 100.0 * h))
}

/// The meaning of the columns, operating points and times.
fn sums(results: &Results<'_>) -> String {
    let mut sums =
        "hit: the best answer is the right track. placed: and within 0.5 s of the right \
                    place. offset ms: median distance from it, of hits. factor error: median and \
                    largest error of speed or pitch, of hits.\n"
            .to_owned();
    let query_count = tally(results.judged).query_count;
    for (what, share) in [("0", 0.0), ("at most 1 %", 0.01)] {
        let Some(point) = operating_point(results.judged, share) else {
            sums += "no recording was held out: hits at a rate of wrong answers are not known\n";
            break;
        };
        let _ = writeln!(
            sums,
            "hits with {what} of the held-out queries answered: {} % ({}), by a score above {:.1}",
            percent(point.hit_count, query_count),
            interval(point.hit_count, query_count),
            point.above_score,
        );
    }
    let answered = || results.outcomes.iter().filter(|outcome| outcome.answers.is_ok());
    for (what, mut times) in [
        ("search", answered().map(|o| o.search_ms).collect::<Vec<_>>()),
        ("decoding and fingerprint", answered().map(|o| o.fingerprint_ms).collect()),
    ] {
        times.sort_by(f64::total_cmp);
        if let (Some(p50), Some(p99)) = (percentile(&times, 50), percentile(&times, 99)) {
            let _ = writeln!(
                sums,
                "{what}: {p50:.1} ms (p50), {p99:.1} ms (p99) a query, {} at a time",
                results.job_count,
            );
        }
    }
    sums
}

/// Which recordings were taken for which tracks, the most frequent pairs first.
fn confusions(results: &Results<'_>) -> String {
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    for ((query, outcome), judged) in
        results.plan.queries.iter().zip(results.outcomes).zip(results.judged)
    {
        if !matches!(judged.verdict, Verdict::Wrong | Verdict::Answered) {
            continue;
        }
        if let Some(best) = outcome.answers.as_ref().ok().and_then(|answers| answers.first()) {
            let name = &results.catalog.recordings[query.recording].name;
            *counts.entry((name, best.track_id.as_str())).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
    let mut lines =
        "taken for another; listen whether they are the same (--same) or share parts:\n".to_owned();
    for ((name, track), count) in pairs.iter().take(LISTED_MAX) {
        let _ = writeln!(lines, "  {count} x {name} for {track}");
    }
    if pairs.len() > LISTED_MAX {
        let _ = writeln!(lines, "  and {} more pairs", pairs.len() - LISTED_MAX);
    }
    lines
}

fn failures(results: &Results<'_>) -> String {
    let failed = |(query, outcome): (&Query, &Outcome)| {
        outcome.answers.as_ref().err().map(|reason| format!("  {}: {reason}\n", query.id))
    };
    let lines: Vec<_> =
        results.plan.queries.iter().zip(results.outcomes).filter_map(failed).collect();
    if lines.is_empty() {
        return String::new();
    }
    let listed: String = lines.iter().take(LISTED_MAX).map(String::as_str).collect();
    format!("{} queries could not be made and are not counted:\n{listed}", lines.len())
}

/// The file of `--output`: a row for each query. Times come last, because they alone differ from
/// run to run.
pub(crate) fn tsv(results: &Results<'_>) -> String {
    let mut tsv = "qid\tcondition\tseconds\tsource\tindexed\toffset_s\tspeed\tpitch\tverdict\t\
                   track\tscore\tconfidence\te_value\tfound_offset_s\tfound_speed\tfound_pitch\t\
                   answers\tfingerprint_ms\tsearch_ms\n"
        .to_owned();
    for ((query, outcome), judged) in
        results.plan.queries.iter().zip(results.outcomes).zip(results.judged)
    {
        let answers = outcome.answers.as_deref().unwrap_or_default();
        let all: Vec<_> = answers.iter().map(as_json).collect();
        let _ = writeln!(
            tsv,
            "{}\t{}\t{}\t{}\t{}\t{:.3}\t{}\t{}\t{}\t{}\t{}\t{:.1}\t{:.1}",
            query.id,
            query.condition.name,
            query.seconds,
            field(&results.catalog.recordings[query.recording].name),
            query.is_indexed,
            query.offset_s,
            query.condition.speed(),
            query.condition.pitch(),
            judged.verdict.name(),
            answers.first().map_or_else(|| "\t".repeat(6), best_fields),
            // JSON escapes tabs and line breaks itself.
            serde_json::Value::from(all),
            outcome.fingerprint_ms,
            outcome.search_ms,
        );
    }
    tsv
}

fn best_fields(best: &Answer) -> String {
    format!(
        "{}\t{:.2}\t{}\t{}\t{:.3}\t{:.5}\t{:.5}",
        field(best.track_id.as_str()),
        best.score,
        best.confidence,
        best.e_value.map_or_else(String::new, |value| format!("{value:e}")),
        best.offset_s,
        best.speed,
        best.pitch,
    )
}

fn as_json(answer: &Answer) -> serde_json::Value {
    json!({
        "track": answer.track_id.as_str(),
        "score": answer.score,
        "confidence": answer.confidence,
        "e_value": answer.e_value,
        "offset_s": answer.offset_s,
        "speed": answer.speed,
        "pitch": answer.pitch,
    })
}

/// A text as one field: names of files may hold anything.
fn field(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_on_one_line_and_in_one_column() {
        assert_eq!(field("a\tb\nc\\d"), "a\\tb\\nc\\\\d");
    }

    #[test]
    fn shares_of_nothing_are_not_numbers() {
        assert_eq!((percent(0, 0), interval(0, 0)), ("-".to_owned(), "-".to_owned()));
        assert_eq!(
            (percent(29, 30), interval(29, 30)),
            ("96.7".to_owned(), "83.3-99.4".to_owned())
        );
    }
}
