//! `earmark stats`: sizes and counts of the catalog.

use anyhow::Result;

use crate::args::StatsArgs;
use crate::catalog;
use crate::report;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &StatsArgs) -> Result<u8> {
    let catalog = catalog::open(&args.target.resolve()?, args.reading.access(), "stats")?;
    report::stats::print(&catalog.stats()?, args.format)?;
    Ok(0)
}
