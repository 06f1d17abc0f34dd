//! The catalog in this process: an index folder, opened through `fingerprint-core`.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::backup::{self, Backup};
use fingerprint_core::index::{
    Added, FollowerIndex, Index, IndexError, NewTrack, RocksIndex, TrackRecord,
};
use fingerprint_core::listening::Listener;
use fingerprint_core::matching::live::{LiveEvent, LiveOptions, Surroundings};
use fingerprint_core::matching::{MatchOptions, match_fingerprint};
use fingerprint_core::params::Params;
use fingerprint_core::units::TrackId;
use tempfile::TempDir;

use super::{Access, AddError, Answer, Audio, Catalog, Follower, Recording, Stats, Stored, Track};
use crate::contract::live::LiveRow;
use crate::folder::with_folder;

/// Tracks read from the index at a time.
const PAGE_LEN: usize = 500;
/// Commands that know `--read-only`.
const READERS: [&str; 5] = ["match", "monitor", "stats", "tracks list", "tracks show"];

/// An index folder that this process has opened.
pub(super) struct EmbeddedCatalog {
    index: Opened,
    params: Params,
}

enum Opened {
    Writer(RocksIndex),
    /// With its folder for temporary files, which is deleted after it.
    Follower {
        index: FollowerIndex,
        _scratch: TempDir,
    },
}

impl Opened {
    fn get(&self) -> &dyn Index {
        match self {
            Self::Writer(index) => index,
            Self::Follower { index, .. } => index,
        }
    }

    /// # Errors
    ///
    /// [`IndexError::ReadOnly`].
    fn writer(&self) -> Result<&RocksIndex, IndexError> {
        match self {
            Self::Writer(index) => Ok(index),
            Self::Follower { index, .. } => {
                Err(IndexError::ReadOnly { path: index.path().to_owned() })
            }
        }
    }
}

impl EmbeddedCatalog {
    pub(super) fn open(dir: &Path, access: Access, command: &str) -> Result<Self> {
        let params = Params::default();
        let opened = match access {
            Access::Existing => RocksIndex::open(dir, &params).map(Opened::Writer),
            Access::ReadOnly => {
                let scratch =
                    tempfile::tempdir().context("no folder for temporary files can be made")?;
                let index = RocksIndex::follow(dir, scratch.path(), &params);
                index.map(|index| Opened::Follower { index, _scratch: scratch })
            }
            Access::Create => {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("folder {} cannot be made", dir.display()))?;
                RocksIndex::create_or_open(dir, &params).map(Opened::Writer)
            }
        };
        let index = opened.map_err(|e| match e {
            IndexError::InUse { .. } => anyhow!(
                "{e}: earmark {command} --server http://127.0.0.1:50051 … (the address that the \
                 server printed when it started){}",
                if READERS.contains(&command) { "; or add --read-only" } else { "" }
            ),
            e => with_folder(e, dir),
        })?;
        Ok(Self { index, params })
    }

    /// Adds one by one, so that a track at fault does not take its neighbours with it.
    fn add_each(&self, tracks: &[NewTrack]) -> Vec<Result<Stored, AddError>> {
        let add = |track: &NewTrack| match self.index.get().add(std::slice::from_ref(track)) {
            Ok(added) => added
                .into_iter()
                .next()
                .map(|added| stored(track, added))
                .ok_or_else(|| AddError::Catalog(anyhow!("the index gave no answer"))),
            Err(e) => Err(AddError::Catalog(e.into())),
        };
        tracks.iter().map(add).collect()
    }
}

impl Catalog for EmbeddedCatalog {
    fn add(&self, tracks: Vec<Recording>) -> Vec<Result<Stored, AddError>> {
        let mut refused = Vec::new();
        let mut new_tracks = Vec::with_capacity(tracks.len());
        for (place, track) in tracks.into_iter().enumerate() {
            match local(track.audio) {
                Ok(fingerprint) => {
                    let content = || TrackId::from_content(&fingerprint.content_hash);
                    let id = track.id.unwrap_or_else(content);
                    new_tracks.push(NewTrack { id, metadata: track.metadata, fingerprint });
                }
                Err(e) => refused.push((place, AddError::Track(e))),
            }
        }
        let mut results = match self.index.get().add(&new_tracks) {
            Ok(added) => {
                assert_eq!(added.len(), new_tracks.len(), "one answer for each track");
                new_tracks
                    .iter()
                    .zip(added)
                    .map(|(track, added)| Ok(stored(track, added)))
                    .collect()
            }
            // Nothing of the batch is stored. One by one tells who is at fault, and also takes
            // an id that occurs twice, which a batch may not hold.
            Err(_) => self.add_each(&new_tracks),
        };
        for (place, e) in refused {
            results.insert(place, Err(e));
        }
        results
    }

    fn search(&self, clip: Audio, options: &MatchOptions) -> Result<Answer> {
        let query = local(clip)?;
        let report = match_fingerprint(self.index.get(), &query, options, &self.params, &|| false)?;
        Ok(Answer {
            duration_s: query.duration_s(),
            status: report.status,
            matches: report.matches.into_iter().map(Into::into).collect(),
        })
    }

    fn follow(&self, options: LiveOptions) -> Result<Box<dyn Follower + '_>> {
        let listener = Listener::new(options, &self.params, 0);
        Ok(Box::new(EmbeddedFollower { index: self.index.get(), listener: Some(listener) }))
    }

    fn track(&self, id: &TrackId) -> Result<Option<Track>> {
        Ok(self.index.get().track(id)?.map(Track::from))
    }

    fn tracks(&self, limit: u64, visit: &mut dyn FnMut(Track) -> Result<bool>) -> Result<()> {
        let mut left = limit;
        let mut after: Option<TrackId> = None;
        while left > 0 {
            let page_len = usize::try_from(left).map_or(PAGE_LEN, |left| left.min(PAGE_LEN));
            let page = self.index.get().tracks(after.as_ref(), page_len)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            left = left.saturating_sub(page.len() as u64);
            for record in page {
                if !visit(record.into())? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn remove(&self, id: &TrackId) -> Result<bool> {
        Ok(self.index.get().remove(id)?.is_some())
    }

    fn compact(&self) -> Result<()> {
        Ok(self.index.writer()?.compact()?)
    }

    fn stats(&self) -> Result<Stats> {
        Ok(Stats { index: self.index.get().stats()?, server_version: None })
    }

    fn back_up(&self, folder: Option<&Path>, keep: Option<NonZeroU32>) -> Result<Backup> {
        Ok(self.index.writer()?.back_up(named(folder)?, keep)?)
    }

    fn backups(&self, folder: Option<&Path>) -> Result<Vec<Backup>> {
        Ok(backup::list(named(folder)?)?)
    }
}

/// A stream that this process follows.
struct EmbeddedFollower<'a> {
    index: &'a dyn Index,
    /// `None` once it has ended.
    listener: Option<Listener>,
}

impl EmbeddedFollower<'_> {
    fn search(
        &mut self,
        rows: &mut Vec<LiveRow>,
        search: impl FnOnce(&mut Option<Listener>, Surroundings<'_>, &mut Vec<LiveEvent>) -> Result<()>,
    ) -> Result<()> {
        let around = Surroundings {
            index: self.index,
            may_search_changes: &|| true,
            is_cancelled: &|| false,
        };
        let mut events = Vec::new();
        let searched = search(&mut self.listener, around, &mut events);
        let heard_s = self.listener.as_ref().map(|l| f64::from(l.heard_ms()) / 1e3);
        rows.extend(events.into_iter().map(|event| LiveRow::from_event(event, heard_s)));
        searched
    }
}

impl Follower for EmbeddedFollower<'_> {
    fn take(&mut self, samples: &[f32], rate_hz: u32, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.search(rows, |listener, around, events| {
            let listener = listener.as_mut().context("the stream has ended")?;
            listener.take_samples(samples, rate_hz)?;
            Ok(listener.search(around, events)?)
        })
    }

    fn lose(&mut self, lost_ms: u32, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.search(rows, |listener, around, events| {
            let listener = listener.as_mut().context("the stream has ended")?;
            Ok(listener.skip(lost_ms, around, events)?)
        })
    }

    fn finish(mut self: Box<Self>, rows: &mut Vec<LiveRow>) -> Result<()> {
        self.search(rows, |listener, around, events| {
            let listener = listener.take().context("the stream has ended")?;
            Ok(listener.finish(around, events)?)
        })
    }
}

impl From<TrackRecord> for Track {
    fn from(record: TrackRecord) -> Self {
        Self {
            id: record.id,
            metadata: record.metadata,
            duration_s: record.duration_s,
            content_hash: record.content_hash,
            peak_count: record.peak_count,
            posting_count: record.posting_count,
            added_at_ms: Some(record.added_at_ms),
        }
    }
}

fn named(folder: Option<&Path>) -> Result<&Path> {
    folder.context("where to? earmark backup FOLDER --index DIR")
}

fn stored(track: &NewTrack, added: Added) -> Stored {
    Stored {
        id: track.id.clone(),
        content_hash: track.fingerprint.content_hash,
        duration_s: track.fingerprint.duration_s(),
        change: added.change,
        posting_count: added.record.posting_count,
        duplicate_of: added.duplicate_of,
    }
}

/// The fingerprint of `audio`; there is no server that could make it.
fn local(audio: Audio) -> Result<Fingerprint> {
    match audio {
        Audio::Fingerprint(fingerprint) => Ok(fingerprint),
        Audio::File(_) | Audio::Bytes(_) => bail!("--send-audio needs --server URL"),
    }
}
