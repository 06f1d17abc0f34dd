//! `earmark restore`: makes an index of a backup.

use anyhow::Result;
use fingerprint_core::index::backup;
use fingerprint_core::params::Params;

use crate::args::RestoreArgs;
use crate::report;

/// Runs the command and gives its exit code.
pub(crate) fn run(args: &RestoreArgs) -> Result<u8> {
    let params = Params::default();
    let restored = backup::restore(&args.folder, args.backup, &args.index, &params)?;
    report::backups::print(&[restored], args.format)?;
    Ok(0)
}
