//! `earmark tracks`: list, show and remove what the catalog holds.

use anyhow::Result;

use crate::args::TracksCommand;
use crate::catalog::{self, Access};
use crate::report;
use crate::report::tracks::TrackPrinter;

/// Exit code if a track was not there.
const EXIT_MISSING: u8 = 1;

/// Runs the command and gives its exit code.
pub(crate) fn run(command: &TracksCommand) -> Result<u8> {
    let mut missing_count = 0_u64;
    match command {
        TracksCommand::List { target, format, limit, reading } => {
            let catalog = catalog::open(&target.resolve()?, reading.access(), "tracks list")?;
            let mut printer = TrackPrinter::new(*format);
            catalog.tracks(limit.unwrap_or(u64::MAX), &mut |track| {
                printer.print(track)?;
                Ok(true)
            })?;
            printer.finish()?;
        }
        TracksCommand::Show { ids, target, format, reading } => {
            let catalog = catalog::open(&target.resolve()?, reading.access(), "tracks show")?;
            for id in ids {
                if let Some(track) = catalog.track(id)? {
                    report::tracks::show(track, *format)?;
                } else {
                    missing_count += 1;
                    report::note(&format!("there is no track {id}"));
                }
            }
        }
        TracksCommand::Remove { ids, target, format } => {
            let catalog = catalog::open(&target.resolve()?, Access::Existing, "tracks remove")?;
            for id in ids {
                let was_there = catalog.remove(id)?;
                missing_count += u64::from(!was_there);
                report::tracks::print_removed(id, was_there, *format)?;
            }
        }
    }
    Ok(if missing_count == 0 { 0 } else { EXIT_MISSING })
}
