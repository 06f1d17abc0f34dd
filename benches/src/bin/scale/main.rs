//! How the index grows: size, speed, memory and recall with a thousand to a million tracks.
//!
//! ```text
//! folder ─ sources ─▶ fingerprints ─▶ planted tracks, synthetic tracks ─▶ index
//!        └──────────▶ damaged clips ─▶ searches, warm and cold        ─▶ table
//! ```
//!
//! Four in five recordings are planted among synthetic tracks, which are made of all of them
//! ([`earmark_benches::synthetic`]). Damaged clips of the planted ones must be found, clips of the
//! others must not. The index grows from one size to the next, and each size is measured after
//! `compact`, on one thread.

mod clips;
mod grow;
mod measure;
mod system;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use earmark_benches::synthetic::{LandmarkCounter, SyntheticCatalog};
use earmark_benches::work::tell;
use fingerprint_core::index::{Index, NewTrack, RocksIndex};
use fingerprint_core::params::Params;
use tikv_jemallocator::Jemalloc;

use crate::table::{Grown, Row};

/// That of the programs.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures an index that grows with synthetic tracks: one row for each number of tracks.
#[derive(Debug, Parser)]
#[command(name = "scale", max_term_width = 100)]
struct Cli {
    /// Folder of recordings, best an hour of them or more; subfolders count
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder of the index, which stays there. If it has tracks of an earlier run with the same
    /// recordings and seed, it goes on growing from there
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Numbers of tracks at which to measure, ascending
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1000,10000,100000")]
    tracks: Vec<u64>,
    /// Searches with a cold page cache at each size (needs root to drop it)
    #[arg(long, value_name = "N", default_value_t = 60)]
    cold: usize,
    /// What is drawn at random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("scale: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let params = Params::default();
    ensure!(cli.tracks.is_sorted(), "--tracks: give numbers in ascending order");
    let mut index = RocksIndex::create_or_open(&cli.index, &params).context("--index")?;
    let clips::Recordings { planted, sources, clips } =
        clips::prepare(&cli.folder, cli.seed, &params)?;
    tell(&format!("{} recordings planted, {} clips", planted.len(), clips.len()));
    let mut real = LandmarkCounter::default();
    sources.iter().for_each(|source| real.push(source, &params));
    let catalog = SyntheticCatalog::new(sources, cli.seed, &params)
        .context("no recording is long enough to make synthetic ones of")?;
    tell(&compare(real, &catalog, &params));

    let planted_count = planted.len() as u64;
    index.add(&planted.into_iter().collect::<Vec<NewTrack>>())?;
    let mut rows = Vec::new();
    let mut made = index.timeline().len() as u64 - planted_count;
    for tracks in &cli.tracks {
        let wanted = tracks.saturating_sub(planted_count);
        tell(&format!("growing to {tracks} tracks"));
        let growth = grow::grow(&index, &catalog, made..wanted.max(made), &clips, &params)?;
        made = wanted.max(made);
        tell("searching as it has grown");
        // Ends what is under way in the background.
        drop(index);
        index = RocksIndex::open(&cli.index, &params)?;
        let grown = Grown {
            segment_count: index.stats()?.segments_by_size.iter().map(|c| c.segment_count).sum(),
            plain: measure::plain(&index, &clips, &params)?,
        };
        tell("compacting");
        let compacting = system::timed(|| index.compact())?;
        drop(index);
        index = RocksIndex::open(&cli.index, &params)?;
        tell("searching");
        let warm = measure::warm(&index, &clips, &params)?;
        let stats = index.stats()?;
        let memory = system::resident_mib();
        drop(index);
        let opening = std::time::Instant::now();
        index = RocksIndex::open(&cli.index, &params)?;
        let opening = opening.elapsed();
        let cold = measure::cold(&index, &clips, cli.cold, &params)?;
        let bytes = system::folder_bytes(&cli.index)?;
        rows.push(Row { stats, bytes, growth, grown, compacting, opening, warm, cold, memory });
        io::stdout().lock().write_all(table::text(&rows).as_bytes())?;
    }
    Ok(())
}

/// Statistics of real and of synthetic tracks, of about one length.
fn compare(real: LandmarkCounter, catalog: &SyntheticCatalog, params: &Params) -> String {
    let mut made = LandmarkCounter::default();
    for track in catalog.tracks(real.duration_s() / 3_600.0) {
        made.push(&track.fingerprint, params);
    }
    format!("real      {:?}\nsynthetic {:?}", real.finish(), made.finish())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["scale", "music", "--index", "catalog", "--tracks", "10,20"]);
        assert_eq!(cli.tracks, [10, 20]);
    }

    /// The whole of it, on the recordings of testdata, small.
    #[test]
    fn an_index_grows_and_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("index");
        let folder = earmark_benches::testdata("catalog");
        let arguments = |tracks: &str| {
            let index = index.to_str().unwrap();
            let folder = folder.to_str().unwrap();
            Cli::parse_from(["scale", folder, "--index", index, "--tracks", tracks, "--cold", "0"])
        };
        run(&arguments("30,40")).unwrap();
        // Goes on where the run before has stopped.
        run(&arguments("45")).unwrap();
        let index = RocksIndex::open(&index, &Params::default()).unwrap();
        assert_eq!(index.timeline().len(), 45);
    }
}
