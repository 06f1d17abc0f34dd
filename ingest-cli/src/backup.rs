//! `earmark backup`: makes backups of a catalog in use, lists and verifies them.

use std::path::Path;

use anyhow::{Context, Result};
use fingerprint_core::index::backup;

use crate::args::BackupArgs;
use crate::catalog::{self, Access};
use crate::report;

/// Exit code if something is damaged.
const EXIT_DAMAGED: u8 = 2;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &BackupArgs) -> Result<u8> {
    let folder = args.folder.as_deref();
    if args.verify {
        return verify(folder.context("which backups? earmark backup FOLDER --verify")?, args);
    }
    let backups = match folder {
        // No index is needed for that.
        Some(folder) if args.list => backup::list(folder)?,
        None if args.list => open(args)?.backups(None)?,
        _ => vec![open(args)?.back_up(folder, args.keep)?],
    };
    report::backups::print(&backups, args.format)?;
    Ok(0)
}

fn open(args: &BackupArgs) -> Result<Box<dyn catalog::Catalog>> {
    catalog::open(&args.target()?, Access::Existing, "backup")
}

fn verify(folder: &Path, args: &BackupArgs) -> Result<u8> {
    let damages = backup::verify(folder, None)?;
    report::backups::print_damages(&damages, args.format)?;
    Ok(if damages.is_empty() { 0 } else { EXIT_DAMAGED })
}
