//! `earmark ingest`: many files in, tracks in the catalog out.
//!
//! ```text
//! manifest, walk ─▶ bounded queue ─▶ workers: journal, tags, decode ─▶ bounded queue ─▶ writer
//! ```
//!
//! One feeder, a worker for each processor, one writer. The writer takes the files in the order in
//! which they were listed, so that the result does not depend on which was decoded faster; the
//! feeder is at most [`AHEAD_PER_JOB`] files a worker ahead of it. So memory does not grow with the
//! catalog; what does is what the journal and the claims know (about 300 bytes a file). A file that fails is a row of the report and never the end of the job.

mod claims;
mod item;
mod journal;
mod manifest;
mod tags;
mod walk;
mod work;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Sender, bounded};

use crate::args::{IngestArgs, Target};
use crate::catalog::{self, Access, Catalog};
use crate::interrupt::{self, Stop};
use crate::match_cmd::job_count;
use crate::report;
use crate::report::progress::Progress;
use crate::report::summary;
use claims::Claims;
use item::{Entry, Flow, Visit};
use journal::Journal;
use manifest::Manifest;
use work::Worker;
use write::Writer;

/// Files that each worker may be ahead of the writer: enough that the others go on while one reads
/// a recording sixteen times as long as the rest.
const AHEAD_PER_JOB: usize = 16;
/// Exit code if a file failed.
const EXIT_FAILED: u8 = 2;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &IngestArgs) -> Result<u8> {
    let target = args.target.resolve()?;
    target.check_send_audio(args.send_audio)?;
    if args.paths.iter().any(|path| path.as_os_str() == "-") {
        bail!(
            "ingest reads no standard input, because a track needs a file to be found again; save it first"
        );
    }
    if args.manifest.is_none() && args.paths.iter().all(|path| !path.exists()) {
        let names: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: no such file or folder", names.join(", "));
    }
    // A manifest that cannot be read at all is found out before anything is made.
    let manifest = args.manifest.as_deref().map(Manifest::open).transpose()?;
    let sources = Sources { paths: args.paths.clone(), manifest };
    let catalog = catalog::open(&target, Access::Create, "ingest")?;
    let journal = open_journal(args, &target)?;
    let progress = Arc::new(Progress::new("file"));
    let stop = Arc::new(Stop::default());
    let shown = Arc::clone(&progress);
    interrupt::watch(&stop, move || {
        shown.note("stopping: files in hand are finished; once more stops at once");
    })?;
    let mut writer = Writer::new(&*catalog, &journal, &progress, args.report.as_deref())?;
    let jobs = job_count(args.jobs);
    let written = ingest_all(&sources, &*catalog, &journal, &mut writer, args, jobs, &stop);
    progress.finish();
    // An interrupted job shall end now; the run that completes it compacts.
    let compacted = if written.is_ok() && !stop.is_requested() {
        compact_if_worth(&*catalog, &writer)
    } else {
        Ok(())
    };
    let (mut summary, reported) = writer.finish();
    summary.interrupted = stop.exit_code().is_some();
    // What was done is told before what went wrong at the end.
    summary::print(&summary, args.format)?;
    written.and(reported).and(compacted)?;
    Ok(match stop.exit_code() {
        Some(code) => code,
        // A folder that is empty is most often one that is not mounted.
        None if summary.failed > 0 || summary.files == 0 => EXIT_FAILED,
        None => 0,
    })
}

/// Compacts if much of the catalog was written. That rewrites all of it, which a few new tracks in a
/// large catalog are not worth: the store compacts bit by bit anyway.
fn compact_if_worth(catalog: &dyn Catalog, writer: &Writer<'_>) -> Result<()> {
    let written = writer.written_count();
    if written > 0 && written.saturating_mul(10) >= catalog.stats()?.index.track_count {
        catalog.compact()?;
    }
    Ok(())
}

/// Everything that is to be ingested; can be gone through more than once.
struct Sources {
    paths: Vec<PathBuf>,
    manifest: Option<Manifest>,
}

impl Sources {
    fn visit(&self, visit: Visit<'_>) {
        // The manifest first: of a file that is in both, its entry is the one that says something.
        if let Some(manifest) = &self.manifest
            && manifest.visit(visit).is_break()
        {
            return;
        }
        // The flow is of no more interest: this is the last source.
        let _: Flow = walk::walk(&self.paths, visit);
    }
}

/// The journal. One that was asked for must be there; without the usual one a job can do.
fn open_journal(args: &IngestArgs, target: &Target) -> Result<Journal> {
    match journal_path(args, target).and_then(|path| Journal::open(&path)) {
        Err(error) if args.journal.is_none() => {
            report::note(&format!("{error:#}; going on without it"));
            Ok(Journal::default())
        }
        journal => journal,
    }
}

/// Feeder, workers and writer until all is done or a stop is requested.
fn ingest_all(
    sources: &Sources,
    catalog: &dyn Catalog,
    journal: &Journal,
    writer: &mut Writer<'_>,
    args: &IngestArgs,
    jobs: usize,
    stop: &Stop,
) -> Result<()> {
    let worker = Worker::new(catalog, journal, args.force, args.send_audio);
    let progress = writer.progress();
    thread::scope(|scope| {
        let (to_workers, entries) = bounded::<(u64, Entry)>(jobs);
        // Holds a token for each file between feeder and writer.
        let (tokens, returned) = bounded(jobs * AHEAD_PER_JOB);
        let (to_writer, results) = bounded(jobs);
        for _ in 0..jobs {
            let (entries, to_writer, worker) = (entries.clone(), to_writer.clone(), &worker);
            scope.spawn(move || {
                for (place, entry) in entries {
                    // What was queued before a stop is left for the next run.
                    if stop.is_requested() || to_writer.send((place, worker.work(entry))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((entries, to_writer));
        scope.spawn(move || feed(sources, &tokens, &to_workers, stop));
        if progress.wants_total() {
            scope.spawn(move || count(sources, progress, stop));
        }
        // It owns the other end of the tokens, so that the feeder ends with it.
        writer.drain(&results, returned).inspect_err(|_| stop.fail())
    })
}

/// Hands out what is to be done, as fast as it is taken.
fn feed(sources: &Sources, tokens: &Sender<()>, to_workers: &Sender<(u64, Entry)>, stop: &Stop) {
    let mut claims = Claims::default();
    let mut place = 0;
    sources.visit(&mut |entry| {
        let entry = claims.check(entry);
        if tokens.send(()).is_err()
            || stop.is_requested()
            || to_workers.send((place, entry)).is_err()
        {
            return Flow::Break(());
        }
        place += 1;
        Flow::Continue(())
    });
}

/// Goes through the sources a second time, ahead of the workers, so that the progress bar knows
/// its end without a list of all files in memory.
fn count(sources: &Sources, progress: &Progress, stop: &Stop) {
    let mut total = 0;
    sources.visit(&mut |_| {
        total += 1;
        if stop.is_requested() { Flow::Break(()) } else { Flow::Continue(()) }
    });
    progress.set_total(total);
}

/// The journal that belongs to a catalog: beside the index folder (RocksDB owns what is inside),
/// or in the user's state folder for a server.
fn journal_path(args: &IngestArgs, target: &Target) -> Result<PathBuf> {
    if let Some(path) = &args.journal {
        return Ok(path.clone());
    }
    match target {
        Target::Index(dir) => journal_beside(dir),
        Target::Server { url, .. } => {
            let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
            let state = folder("XDG_STATE_HOME").map(PathBuf::from);
            let home = || folder("HOME").map(|home| Path::new(&home).join(".local/state"));
            let Some(state) = state.or_else(home) else {
                bail!("neither XDG_STATE_HOME nor HOME is set; say where with --journal FILE")
            };
            let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            let name: String =
                authority.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
            Ok(state.join("earmark").join(format!("{name}.journal")))
        }
    }
}

/// The journal of an index folder, which must exist: beside it, with its name and `.journal`.
pub(crate) fn journal_beside(dir: &Path) -> Result<PathBuf> {
    // Links and `..` are resolved, so that the same index finds the same journal.
    let dir = dir.canonicalize().with_context(|| format!("index {}", dir.display()))?;
    let Some(name) = dir.file_name() else {
        bail!("index {} has no name; say where with --journal FILE", dir.display())
    };
    let mut name = name.to_owned();
    name.push(".journal");
    Ok(dir.with_file_name(name))
}
