//! `earmark ingest`: workers decode and fingerprint, one writer adds in batches.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Added, Change, Index, NewTrack, RocksIndex};
use fingerprint_core::params::Params;
use fingerprint_core::units::TrackId;
use serde::Serialize;

use crate::args::IngestArgs;
use crate::manifest::{self, Item};
use crate::report::{json, note};

/// Tracks that one synced write covers.
const BATCH_LEN: usize = 32;

/// One row of `--report`.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    track_id: String,
    status: &'static str,
    duration_s: f64,
    duplicate_of: String,
    error: String,
}

/// What is printed at the end.
#[derive(Debug, Default, Serialize)]
struct Summary {
    files: usize,
    added: u64,
    replaced: u64,
    updated: u64,
    unchanged: u64,
    duplicates: u64,
    failed: u64,
    audio_s: f64,
    elapsed_s: f64,
}

type Done = (Item, Result<Fingerprint, String>);

/// Runs the command; true if no file failed.
pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut items = manifest::walk(&args.paths)?;
    if let Some(path) = &args.manifest {
        items.extend(manifest::read(path)?);
    }
    let params = Params::default();
    let index = RocksIndex::create_or_open(&args.index.index, &params)?;
    let mut writer = Writer::new(&index, items.len(), args)?;
    thread::scope(|scope| {
        // Both queues are short: memory stays bounded however fast either side is.
        let (to_workers, work) = bounded::<Item>(8);
        let (done, results) = bounded::<Done>(8);
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (work, done) = (work.clone(), done.clone());
            scope.spawn(move || {
                for item in work {
                    let result = fingerprint(&item, &params);
                    if done.send((item, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((work, done));
        scope.spawn(move || items.into_iter().try_for_each(|item| to_workers.send(item)));
        writer.drain(&results)
    })?;
    writer.finish(started)
}

fn fingerprint(item: &Item, params: &Params) -> Result<Fingerprint, String> {
    let input = Input::Path(&item.path);
    match Fingerprint::from_audio(input, &DecodeOptions::default(), params) {
        Ok((fingerprint, _)) => Ok(fingerprint),
        Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// Collects fingerprints into batches and keeps the books.
struct Writer<'a> {
    index: &'a RocksIndex,
    batch: Vec<(Item, NewTrack)>,
    summary: Summary,
    done: usize,
    report: Option<csv::Writer<std::fs::File>>,
}

impl<'a> Writer<'a> {
    fn new(index: &'a RocksIndex, files: usize, args: &IngestArgs) -> anyhow::Result<Self> {
        let report = args.report.as_ref().map(|path| {
            csv::Writer::from_path(path)
                .with_context(|| format!("{}: could not be written", path.display()))
        });
        let summary = Summary { files, ..Summary::default() };
        Ok(Self { index, batch: Vec::new(), summary, done: 0, report: report.transpose()? })
    }

    fn drain(&mut self, results: &Receiver<Done>) -> anyhow::Result<()> {
        for (item, result) in results {
            self.done += 1;
            match result {
                Ok(fingerprint) => self.take(item, fingerprint)?,
                Err(error) => {
                    note(&format!("[{}/{}] failed: {error}", self.done, self.summary.files));
                    self.summary.failed += 1;
                    self.row(&item, "", "failed", 0.0, &[], &error)?;
                }
            }
        }
        self.flush()
    }

    fn take(&mut self, item: Item, fingerprint: Fingerprint) -> anyhow::Result<()> {
        let id = item.track_id.clone();
        let id = id.unwrap_or_else(|| TrackId::from_content(&fingerprint.content_hash));
        // One batch must not name a track twice.
        if self.batch.len() == BATCH_LEN || self.batch.iter().any(|(_, track)| track.id == id) {
            self.flush()?;
        }
        let metadata = item.metadata.clone();
        self.batch.push((item, NewTrack { id, metadata, fingerprint }));
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let (items, tracks): (Vec<_>, Vec<_>) = self.batch.drain(..).unzip();
        let added = self.index.add(&tracks)?;
        for ((item, track), added) in items.iter().zip(&tracks).zip(added) {
            self.count(item, track, &added)?;
        }
        if !items.is_empty() {
            note(&format!(
                "[{}/{}] {:.0} s of audio",
                self.done, self.summary.files, self.summary.audio_s
            ));
        }
        Ok(())
    }

    fn count(&mut self, item: &Item, track: &NewTrack, added: &Added) -> anyhow::Result<()> {
        let summary = &mut self.summary;
        let (counter, status) = match added.change {
            Change::Inserted => (&mut summary.added, "added"),
            Change::Replaced => (&mut summary.replaced, "replaced"),
            Change::MetadataUpdated => (&mut summary.updated, "updated"),
            Change::Unchanged => (&mut summary.unchanged, "unchanged"),
        };
        *counter += 1;
        summary.duplicates += u64::from(!added.duplicate_of.is_empty());
        let duration_s = track.fingerprint.duration_s();
        summary.audio_s += duration_s;
        if let Some(other) = added.duplicate_of.first() {
            note(&format!("{}: same audio as track {other}", item.path.display()));
        }
        self.row(item, track.id.as_str(), status, duration_s, &added.duplicate_of, "")
    }

    fn row(
        &mut self,
        item: &Item,
        track_id: &str,
        status: &'static str,
        duration_s: f64,
        duplicate_of: &[TrackId],
        error: &str,
    ) -> anyhow::Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        let duplicates: Vec<_> = duplicate_of.iter().map(TrackId::as_str).collect();
        report.serialize(Row {
            path: item.path.display().to_string(),
            track_id: track_id.to_owned(),
            status,
            duration_s,
            duplicate_of: duplicates.join(" "),
            error: error.to_owned(),
        })?;
        Ok(())
    }

    fn finish(mut self, started: Instant) -> anyhow::Result<bool> {
        if let Some(report) = &mut self.report {
            report.flush()?;
        }
        self.summary.elapsed_s = started.elapsed().as_secs_f64();
        let by_name: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(serde_json::to_value(&self.summary)?)?;
        json(&by_name)?;
        Ok(self.summary.failed == 0)
    }
}
