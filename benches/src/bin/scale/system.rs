//! What the operating system knows: memory, files, the page cache. Linux only; elsewhere unknown.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Resident memory of this process in MiB; NaN if it is unknown.
pub(crate) fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Bytes of all files in a folder.
///
/// # Errors
///
/// If it cannot be listed.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

/// Makes the system forget what it has read; false if it may not be told to.
pub(crate) fn drop_page_cache() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// How long something takes.
///
/// # Errors
///
/// Its own.
pub(crate) fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}
