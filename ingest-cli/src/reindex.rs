//! `earmark reindex`: a new index of what an old one holds, without its audio.

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use fingerprint_core::index::{FORMAT_VERSION, ReindexEvent, Reindexed};
use fingerprint_core::params::Params;

use crate::args::ReindexArgs;
use crate::contract::to_milli;
use crate::folder;
use crate::ingest::journal_beside;
use crate::interrupt::{self, Stop};
use crate::report;
use crate::report::progress::Progress;
use crate::report::reindex::{self as printed, ReindexRow};

/// Exit code if tracks are missing in the new index.
const EXIT_FAILED: u8 = 2;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &ReindexArgs) -> Result<u8> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new("track"));
    let stop = Arc::new(Stop::default());
    let shown = Arc::clone(&progress);
    interrupt::watch(&stop, move || {
        shown.note("stopping: tracks in hand are written; once more stops at once");
    })?;
    let result = copy(args, &progress, &stop, started);
    progress.finish();
    let result = result?;
    let kept_journal = if result.is_complete { keep_journal(args) } else { Ok(()) };
    let row = ReindexRow {
        old_index: args.old.display().to_string(),
        new_index: args.new.display().to_string(),
        old_format_version: result.old_format_version,
        format_version: FORMAT_VERSION,
        copied: result.copied_count,
        kept: result.kept_count,
        removed: result.removed_count,
        damaged: result.damaged_count,
        audio_s: to_milli(result.duration_s),
        elapsed_s: to_milli(started.elapsed().as_secs_f64()),
        old_bytes: folder::bytes(&args.old)?,
        new_bytes: folder::bytes(&args.new)?,
        complete: result.is_complete,
    };
    printed::print(&row, args.format)?;
    if let Err(error) = kept_journal {
        report::note(&format!("{error:#}; ingest will read all files again"));
    }
    Ok(match stop.exit_code() {
        Some(code) if !result.is_complete => code,
        _ if result.damaged_count > 0 => EXIT_FAILED,
        _ => 0,
    })
}

/// Copies, telling how far it is, until all is done or a stop is requested.
fn copy(
    args: &ReindexArgs,
    progress: &Progress,
    stop: &Stop,
    started: Instant,
) -> Result<Reindexed> {
    let mut on_event = |event: ReindexEvent<'_>| {
        match event {
            ReindexEvent::Tracks { done, total, duration_s } => {
                progress.set_total(total);
                progress.show(done, || printed::so_far(duration_s, started.elapsed()));
            }
            ReindexEvent::Damaged { what } => progress.note(&format!("left out: {what}")),
            ReindexEvent::Merging => progress.note("all tracks are copied; merging their postings"),
            // The enum is open to new variants of a later core.
            _ => {}
        }
        if stop.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let params = Params::default();
    let copied = fingerprint_core::index::reindex(&args.old, &args.new, &params, &mut on_event);
    copied.with_context(|| format!("reindexing {} failed", args.old.display()))
}

/// Lets ingesting into the new index go on where it stopped with the old one. What the journal says is
/// checked against the catalog whenever it is used.
fn keep_journal(args: &ReindexArgs) -> Result<()> {
    let (old, new) = (journal_beside(&args.old)?, journal_beside(&args.new)?);
    if !old.exists() || new.exists() {
        return Ok(());
    }
    // By a name of its own first, so that no half of it is taken for the whole.
    let part = new.with_extension("journal.part");
    fs::copy(&old, &part)
        .and_then(|_| fs::rename(&part, &new))
        .with_context(|| format!("journal {} cannot be copied", old.display()))
}
