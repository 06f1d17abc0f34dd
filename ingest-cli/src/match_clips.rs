//! `earmark match`: clips are matched on all cores and printed in the order of the arguments.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::bail;
use crossbeam_channel::bounded;
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Index, RocksIndex};
use fingerprint_core::matching::{MatchOptions, MatchReport, match_fingerprint};
use fingerprint_core::params::Params;

use crate::args::{Format, MatchArgs};
use crate::report::{self, QueryReport};

/// How the command ended, as grep says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    NothingMatched,
    Matched,
    Failed,
}

pub(crate) fn run(args: &MatchArgs) -> anyhow::Result<Outcome> {
    if !(0.0..=1.0).contains(&args.min_confidence) {
        bail!("--min-confidence must lie between 0 and 1, found {}", args.min_confidence);
    }
    let params = Params::default();
    let index = RocksIndex::open(&args.index.index, &params)?;
    let options =
        MatchOptions { matches_max: args.max_matches, confidence_min: args.min_confidence };
    let mut outcome = Outcome::NothingMatched;
    let mut waiting = std::collections::BTreeMap::new();
    let mut next = 0;
    thread::scope(|scope| {
        let (to_workers, work) = bounded::<(usize, &PathBuf)>(8);
        let (done, results) = bounded(8);
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (work, done) = (work.clone(), done.clone());
            let (index, options, params) = (&index, &options, &params);
            scope.spawn(move || {
                for (i, path) in work {
                    if done.send((i, match_one(index, path, options, params))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((work, done));
        scope.spawn(move || args.files.iter().enumerate().try_for_each(|job| to_workers.send(job)));
        for (i, answer) in results {
            waiting.insert(i, answer);
            while let Some(answer) = waiting.remove(&next) {
                print(&answer, args.format, next == 0)?;
                outcome = outcome.max(match answer.status {
                    "matched" => Outcome::Matched,
                    "error" => Outcome::Failed,
                    _ => Outcome::NothingMatched,
                });
                next += 1;
            }
        }
        Ok(outcome)
    })
}

fn print(answer: &QueryReport, format: Format, first: bool) -> anyhow::Result<()> {
    match format {
        Format::Human => Ok(report::human(answer)?),
        Format::Json => report::json(answer),
        Format::Csv => report::csv(answer, first),
    }
}

fn match_one(
    index: &dyn Index,
    path: &Path,
    options: &MatchOptions,
    params: &Params,
) -> QueryReport {
    let started = Instant::now();
    let answer = search(index, path, options, params);
    let elapsed_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let query = path.display().to_string();
    match answer {
        Ok((duration_s, found)) => QueryReport {
            query,
            duration_s: Some(duration_s),
            elapsed_ms,
            status: report::status_name(found.status),
            matches: found.matches.into_iter().map(Into::into).collect(),
            error: None,
        },
        Err(error) => QueryReport {
            query,
            duration_s: None,
            elapsed_ms,
            status: "error",
            matches: Vec::new(),
            error: Some(format!("{error:#}")),
        },
    }
}

fn search(
    index: &dyn Index,
    path: &Path,
    options: &MatchOptions,
    params: &Params,
) -> anyhow::Result<(f64, MatchReport)> {
    let input = if path == Path::new("-") {
        Input::Stream(Box::new(io::stdin().lock()))
    } else {
        Input::Path(path)
    };
    let (fingerprint, _) = Fingerprint::from_audio(input, &DecodeOptions::default(), params)?;
    let found = match_fingerprint(index, &fingerprint, options, params)?;
    Ok((fingerprint.duration_s(), found))
}
