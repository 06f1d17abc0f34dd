//! The whole recognition table on any folder of audio, with one command.
//!
//! ```text
//! folder ─ catalog ─▶ index            (a share of the recordings is held out)
//!        └ plan ─▶ excerpts ─ damage ─▶ files ─ decode, fingerprint, match ─▶ answers
//!                                             answers ─ score ─▶ report: table and TSV
//! ```
//!
//! Everything that is drawn follows from the seed and from names, never from the order in which
//! threads finish: two runs differ in their times alone.

mod args;
mod audio;
mod catalog;
mod condition;
mod ffmpeg;
mod plan;
mod report;
mod run;
mod score;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use earmark_benches::find::find;
use earmark_benches::work::tell;
use fingerprint_core::index::RocksIndex;
use fingerprint_core::matching::MatchOptions;
use fingerprint_core::params::Params;

use crate::args::Cli;
use crate::condition::Condition;
use crate::ffmpeg::Ffmpeg;
use crate::plan::Counts;
use crate::report::Results;
use crate::run::Bench;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("recognition: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    // What is wrong with the command line is told before hours of work.
    let conditions = condition::named(&cli.conditions)?;
    let noise_files = cli.noise.as_deref().map(find).transpose().context("--noise")?;
    let noise_files = noise_files.unwrap_or_default().files;
    if let Some(path) = &cli.output {
        let why = || format!("--output: {} cannot be written; give another", path.display());
        fs::write(path, "").with_context(why)?;
    }
    let params = Params::default();
    let dir = tempfile::tempdir().context("no temporary folder can be made; set TMPDIR")?;
    let index_dir = cli.index.clone().unwrap_or_else(|| dir.path().join("index"));
    let index = RocksIndex::create_or_open(&index_dir, &params).context("--index")?;

    let (catalog, sources) = catalog::build(cli, &noise_files, &index, &params)?;
    ensure!(
        !catalog.indexed.is_empty(),
        "{} has no recording to index: {} files were too short (--shortest), {} could not be \
         read, {} were held out (--held-out)",
        cli.folder.display(),
        catalog.skipped.short_count,
        catalog.skipped.refused.len(),
        catalog.held_out.len(),
    );
    let distractors = (cli.distractors > 0.0)
        .then(|| catalog::add_distractors(&index, sources, cli, &params))
        .transpose()?;
    index.compact().context("the index cannot be compacted")?;

    let job_count = cli.job_count();
    let bench = Bench {
        catalog: &catalog,
        index: &index,
        options: MatchOptions { speed_search: cli.speed_search.into(), ..MatchOptions::default() },
        params,
        ffmpeg: Ffmpeg::find(),
        music: run::other_music(&catalog, cli.seed, job_count)?,
        noise: run::noises(&noise_files, cli.seed, job_count).context("--noise")?,
        dir: dir.path().to_owned(),
        seed: cli.seed,
        job_count,
    };
    let (conditions, mut notes) = possible(conditions, &bench);
    let counts = Counts {
        queries: usize::try_from(cli.queries)?,
        negatives: usize::try_from(cli.negatives)?,
    };
    let plan = plan::draw(&catalog, &conditions, &cli.lengths, counts, cli.seed);
    notes.extend(plan.rows.iter().enumerate().filter_map(|(row, of)| {
        let is_empty = plan.queries.iter().all(|query| query.row != row);
        is_empty.then(|| {
            format!("{} at {} s: no recording is long enough", of.condition.name, of.seconds)
        })
    }));
    let outcomes = run::run(&bench, &plan)?;
    let judge = |(query, outcome)| score::judge(query, outcome);
    let judged: Vec<_> = plan.queries.iter().zip(&outcomes).map(judge).collect();
    let results = Results {
        catalog: &catalog,
        plan: &plan,
        outcomes: &outcomes,
        judged: &judged,
        distractors: distractors.as_ref(),
        notes: &notes,
        job_count,
    };
    if let Some(path) = &cli.output {
        fs::write(path, report::tsv(&results))
            .with_context(|| format!("--output: {} cannot be written", path.display()))?;
    }
    io::stdout().lock().write_all(report::text(&results).as_bytes())?;
    Ok(())
}

/// The conditions that can be made, and why the others cannot.
fn possible(
    conditions: Vec<&'static Condition>,
    bench: &Bench<'_>,
) -> (Vec<&'static Condition>, Vec<String>) {
    let mut notes = Vec::new();
    let lacks = |condition: &Condition| {
        if condition.needs_noise() && bench.noise.is_empty() {
            return Some("needs --noise FOLDER with audio files".to_owned());
        }
        if condition.needs_music() && bench.music.is_empty() {
            return Some("needs recordings that are held out (--held-out)".to_owned());
        }
        bench.ffmpeg.lacks(condition)
    };
    let is_possible = |condition: &&'static Condition| match lacks(condition) {
        None => true,
        Some(reason) => {
            notes.push(format!("{}: {reason}", condition.name));
            false
        }
    };
    let possible = conditions.into_iter().filter(is_possible).collect();
    if bench.ffmpeg.stretcher() == Some("atempo") {
        notes.push("rubberband for tempo and pitch: this ffmpeg has atempo only".to_owned());
    }
    (possible, notes)
}
