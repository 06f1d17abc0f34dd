//! `earmark match`: clips are worked on side by side and answered in the order of the arguments.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use crossbeam_channel::{Receiver, bounded};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::matching::MatchOptions;
use fingerprint_core::params::{Params, Role};

use crate::args::{Format, MatchArgs};
use crate::catalog::{self, Audio, Catalog, read_limited};
use crate::contract::{QueryRow, Status, to_milli};
use crate::guard;
use crate::report::matches;

/// The argument that means standard input.
const STDIN: &str = "-";

/// How the command ended; the order is that of the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    NothingMatched,
    Matched,
    Failed,
}

/// What a worker needs for a clip.
struct Matcher<'a> {
    catalog: &'a dyn Catalog,
    options: MatchOptions,
    params: Params,
    send_audio: bool,
}

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &MatchArgs) -> Result<u8> {
    if args.files.iter().filter(|file| is_stdin(file)).count() > 1 {
        bail!("standard input (-) can be read only once");
    }
    let target = args.target.resolve()?;
    target.check_send_audio(args.send_audio)?;
    let catalog = catalog::open(&target, args.reading.access(), "match")?;
    let options = MatchOptions {
        matches_max: args.max_matches.into(),
        confidence_min: args.min_confidence,
        false_accepts_max: args.max_false_accepts,
        speed_search: args.speed_search.into(),
    };
    let (params, send_audio) = (Params::default(), args.send_audio);
    let matcher = Matcher { catalog: &*catalog, options, params, send_audio };
    let outcome = match_all(&matcher, &args.files, args.format, job_count(args.jobs))?;
    Ok(match outcome {
        Outcome::Matched => 0,
        Outcome::NothingMatched => 1,
        Outcome::Failed => 2,
    })
}

/// Threads to use: as said, or one for each processor.
pub(crate) fn job_count(jobs: Option<u16>) -> usize {
    jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
}

fn match_all(
    matcher: &Matcher<'_>,
    files: &[PathBuf],
    format: Format,
    jobs: usize,
) -> Result<Outcome> {
    thread::scope(|scope| {
        let (to_workers, work) = bounded::<(usize, &PathBuf)>(jobs);
        let (done, answers) = bounded(jobs);
        for _ in 0..jobs.min(files.len()) {
            let (work, done) = (work.clone(), done.clone());
            scope.spawn(move || {
                for (place, path) in work {
                    if done.send((place, matcher.answer(path))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((work, done));
        // Ends by itself when the workers do, which is when printing fails.
        scope.spawn(move || files.iter().enumerate().try_for_each(|job| to_workers.send(job)));
        print_in_order(answers, format)
    })
}

/// Prints answers in the order of their places, each as soon as those before it are out.
fn print_in_order(answers: Receiver<(usize, QueryRow)>, format: Format) -> Result<Outcome> {
    matches::print_header(format)?;
    let mut outcome = Outcome::NothingMatched;
    let mut early = BTreeMap::new();
    let mut next_place = 0;
    for (place, row) in answers {
        early.insert(place, row);
        while let Some(row) = early.remove(&next_place) {
            matches::print(&row, format)?;
            outcome = outcome.max(match row.status {
                Status::Matched => Outcome::Matched,
                Status::NoMatch | Status::TooShort | Status::Silent => Outcome::NothingMatched,
                Status::Error => Outcome::Failed,
            });
            next_place += 1;
        }
    }
    Ok(outcome)
}

impl Matcher<'_> {
    fn answer(&self, path: &Path) -> QueryRow {
        let started = Instant::now();
        // A file that trips a decoder must not take the other answers with it.
        let search = || self.catalog.search(self.read(path)?, &self.options);
        let searched = guard::catch("answering for this file", search).flatten();
        let query = path.to_string_lossy().into_owned();
        let elapsed_ms = to_milli(started.elapsed().as_secs_f64() * 1e3);
        match searched {
            Ok(answer) => QueryRow {
                query,
                duration_s: Some(answer.duration_s),
                elapsed_ms,
                status: answer.status.into(),
                matches: answer.matches,
                error: None,
            },
            Err(error) => QueryRow {
                query,
                duration_s: None,
                elapsed_ms,
                status: Status::Error,
                matches: Vec::new(),
                error: Some(format!("{error:#}")),
            },
        }
    }

    fn read(&self, path: &Path) -> Result<Audio> {
        if self.send_audio {
            return Ok(if is_stdin(path) {
                Audio::Bytes(read_limited(io::stdin().lock(), "standard input")?)
            } else {
                Audio::File(path.to_owned())
            });
        }
        let input =
            if is_stdin(path) { Input::Stream(Box::new(io::stdin())) } else { Input::Path(path) };
        let options = DecodeOptions::default();
        let clip = Fingerprint::from_audio(input, &options, &self.params, Role::Query);
        let (clip, _) = clip.map_err(|error| match error.to_string() {
            text if is_stdin(path) => anyhow!(text.replace("the audio stream", "standard input")),
            _ => error.into(),
        })?;
        Ok(Audio::Fingerprint(clip))
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}
