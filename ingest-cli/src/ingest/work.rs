//! What a worker does with one file: is it done already, which tags has it, what does it sound
//! like.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use fingerprint_core::decode::{DecodeOptions, DecodeSummary, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::Metadata;
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::TrackId;

use super::item::{Entry, Item};
use super::journal::{Done, Journal, Stamp};
use super::tags;
use crate::catalog::{Audio, Catalog, Recording};
use crate::contract::FILE_ATTRIBUTE;
use crate::guard;

/// Turns files into recordings; shared by all worker threads.
pub(super) struct Worker<'a> {
    catalog: &'a dyn Catalog,
    journal: &'a Journal,
    /// Read also what the journal knows.
    force: bool,
    send_audio: bool,
    params: Params,
}

/// One file, worked on.
pub(super) struct Worked {
    pub(super) path: PathBuf,
    /// Time since the worker took the file, in milliseconds.
    pub(super) elapsed_ms: f64,
    pub(super) outcome: Result<Outcome>,
}

/// What came of it.
pub(super) enum Outcome {
    /// It was listed before.
    Repeated,
    /// The catalog has it already.
    Done {
        track_id: TrackId,
        duration_s: f64,
        /// True if the id derives from the content.
        is_derived: bool,
    },
    /// To be added.
    Ready {
        recording: Box<Recording>,
        stamp: Stamp,
        /// What is worth telling although the file is fine.
        remark: Option<String>,
    },
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        catalog: &'a dyn Catalog,
        journal: &'a Journal,
        force: bool,
        send_audio: bool,
    ) -> Self {
        Self { catalog, journal, force, send_audio, params: Params::default() }
    }

    /// Works on one file. Never fails as a whole: what goes wrong is told in the result.
    pub(super) fn work(&self, entry: Entry) -> Worked {
        let started = Instant::now();
        let (path, outcome) = match entry {
            Entry::Refused { path, reason } => (path, Err(anyhow!(reason))),
            Entry::Repeated { path } => (path, Ok(Outcome::Repeated)),
            Entry::File(item) => {
                let path = item.path.clone();
                // A file that trips a decoder must not end the job.
                (path, guard::catch("reading this file", || self.read(item)).flatten())
            }
        };
        Worked { path, elapsed_ms: started.elapsed().as_secs_f64() * 1e3, outcome }
    }

    fn read(&self, item: Item) -> Result<Outcome> {
        let context = || format!("{}: could not be read", item.path.display());
        // Before the audio: a change while it is read is then noticed by the next run.
        let file = std::fs::metadata(&item.path).with_context(context)?;
        let stamp = Stamp::new(&item, &file).with_context(context)?;
        if let Some((done, duration_s)) = self.find_done(&stamp) {
            let is_derived = item.track_id.is_none();
            return Ok(Outcome::Done { track_id: done.track_id, duration_s, is_derived });
        }
        let mut metadata = item.metadata;
        tags::fill(&item.path, &mut metadata);
        if item.track_id.is_none() && metadata.title.is_none() {
            keep_file_name(&item.path, &mut metadata);
        }
        let (audio, remark) = if self.send_audio {
            (Audio::File(item.path), None)
        } else {
            let options = DecodeOptions::default();
            let (fingerprint, decoded) = Fingerprint::from_audio(
                Input::Path(&item.path),
                &options,
                &self.params,
                Role::Track,
            )?;
            (Audio::Fingerprint(fingerprint), remark(&decoded))
        };
        let recording = Box::new(Recording { id: item.track_id, metadata, audio });
        Ok(Outcome::Ready { recording, stamp, remark })
    }

    /// The journal's word for it, if the catalog agrees, and the length of the track.
    fn find_done(&self, stamp: &Stamp) -> Option<(Done, f64)> {
        if self.force {
            return None;
        }
        let done = self.journal.lookup(stamp)?;
        // A catalog in trouble is noticed when something is added; here it costs a reading.
        let track = self.catalog.track(&done.track_id).ok()??;
        (track.content_hash == done.content_hash).then_some((done, track.duration_s))
    }
}

/// Keeps the name of a file of which nothing else is known, so that a match can be recognised.
fn keep_file_name(path: &Path, metadata: &mut Metadata) {
    if let Some(name) = path.file_name() {
        let name = name.to_string_lossy().into_owned();
        metadata.attributes.entry(FILE_ATTRIBUTE.to_owned()).or_insert(name);
    }
}

fn remark(decoded: &DecodeSummary) -> Option<String> {
    let count = decoded.bad_packet_count;
    (count > 0).then(|| {
        format!("{count} damaged packet{} skipped", if count == 1 { " was" } else { "s were" })
    })
}
