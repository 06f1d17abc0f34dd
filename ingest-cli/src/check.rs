//! `earmark check`: is the index whole, and can it be made so?

use std::time::Instant;

use anyhow::Result;
use fingerprint_core::index::{CheckProgress, RocksIndex};
use fingerprint_core::params::Params;

use crate::args::CheckArgs;
use crate::folder::explain;
use crate::report::check::{CheckRow, print};
use crate::report::progress::Progress;

/// Exit code if something is or was wrong.
const EXIT_FAULTY: u8 = 1;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &CheckArgs) -> Result<u8> {
    let dir = args.folder.resolve()?;
    let params = Params::default();
    let started = Instant::now();
    let progress = Progress::new("part");
    let on_progress = |at: CheckProgress| {
        progress.set_total(at.total);
        progress.show(at.done, || at.step.to_owned());
    };
    let is_whole = if args.repair {
        let repaired = RocksIndex::repair(&dir, &params, &on_progress);
        progress.finish();
        let report = repaired.map_err(|e| explain(e, &dir))?;
        let row = CheckRow::repaired(&report, started.elapsed().as_secs_f64());
        print(&row, args.format)?;
        row.is_whole()
    } else {
        let checked = RocksIndex::check(&dir, &params, &on_progress);
        progress.finish();
        let report = checked.map_err(|e| explain(e, &dir))?;
        let row = CheckRow::checked(&report, started.elapsed().as_secs_f64());
        print(&row, args.format)?;
        row.is_whole()
    };
    Ok(if is_whole { 0 } else { EXIT_FAULTY })
}
