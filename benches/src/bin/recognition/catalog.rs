//! The recordings of the folder: fingerprinted, held out or indexed; and the index.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use earmark_benches::find::{Found, find};
use earmark_benches::seeded;
use earmark_benches::synthetic::{LandmarkCounter, LandmarkStatistics, SyntheticCatalog};
use earmark_benches::work::{Progress, in_order, tell};
use fingerprint_core::decode::{DecodeOptions, Input};
use fingerprint_core::fingerprint::Fingerprint;
use fingerprint_core::index::{Index, Metadata, NewTrack, RocksIndex};
use fingerprint_core::params::{Params, Role};
use fingerprint_core::units::{ContentHash, TrackId};

use crate::args::Cli;
use crate::audio;

/// Tracks that are added at a time; each batch is one synced write.
const BATCH_LEN: usize = 32;
/// Seconds of music that are kept for making synthetic tracks: 50 MB of peaks.
const SOURCES_MAX_S: f64 = 40.0 * 3_600.0;
/// Seconds of music whose postings are counted: 36 MB of keys.
const COUNTED_MAX_S: f64 = 20.0 * 3_600.0;
/// A second without a peak of this level is silent: −60 dB of a full-scale sine, in the steps of
/// `Peak::level`.
const SOUNDING_LEVEL: u8 = 120;

/// One recording of the folder.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// From the folder on, as it is reported.
    pub(crate) name: String,
    /// Length in seconds.
    pub(crate) duration_s: f64,
    /// For each second whether it sounds.
    pub(crate) is_sounding: Vec<bool>,
    /// Place of the first recording that `--same` says to be the same; often its own.
    pub(crate) group: usize,
    /// Its track, if it is indexed.
    pub(crate) track_id: Option<TrackId>,
}

/// All recordings, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) recordings: Vec<Recording>,
    /// Places of those that are indexed, in `recordings`.
    pub(crate) indexed: Vec<usize>,
    /// Places of those that are not.
    pub(crate) held_out: Vec<usize>,
    /// What was passed over.
    pub(crate) skipped: Skipped,
}

/// Files that are no part of the catalog.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    pub(crate) short_count: usize,
    /// The very same audio as an earlier file.
    pub(crate) duplicate_count: usize,
    /// Not to be read, with the reason.
    pub(crate) refused: Vec<String>,
}

/// What the index was filled up with.
#[derive(Debug)]
pub(crate) struct Distractors {
    pub(crate) track_count: usize,
    pub(crate) hours: f64,
    /// The first of them, and as much of the real music.
    pub(crate) synthetic: LandmarkStatistics,
    pub(crate) real: LandmarkStatistics,
}

impl Catalog {
    /// The group of each track.
    pub(crate) fn groups(&self) -> HashMap<TrackId, usize> {
        let group = |recording: &Recording| Some((recording.track_id.clone()?, recording.group));
        self.recordings.iter().filter_map(group).collect()
    }

    /// Seconds of the recordings at `places` together.
    pub(crate) fn duration_s(&self, places: &[usize]) -> f64 {
        places.iter().map(|i| self.recordings[*i].duration_s).sum()
    }
}

/// Fingerprints the folder without the files `noise`, and indexes what is not held out. Also gives
/// the fingerprints of some of the tracks, if there are to be distractors.
pub(crate) fn build(
    cli: &Cli,
    noise: &[PathBuf],
    index: &RocksIndex,
    params: &Params,
) -> Result<(Catalog, Vec<Fingerprint>)> {
    let same = cli.same.as_deref().map(read_same).transpose()?.unwrap_or_default();
    let Found { mut files, refused } = find(&cli.folder)?;
    // Noise that is mixed into queries would be found in them, and rightly so.
    let noise: HashSet<_> = noise.iter().filter_map(|path| path.canonicalize().ok()).collect();
    files.retain(|path| path.canonicalize().map_or(true, |path| !noise.contains(&path)));
    tell(&format!("fingerprinting the {} audio files of {}", files.len(), cli.folder.display()));
    let mut builder = Builder {
        cli,
        index,
        catalog: Catalog {
            skipped: Skipped { refused, ..Skipped::default() },
            ..Catalog::default()
        },
        seen: HashSet::new(),
        same,
        firsts: HashMap::new(),
        batch: Vec::new(),
        sources: Vec::new(),
        sources_s: 0.0,
    };
    let mut progress = Progress::new("files fingerprinted", files.len());
    let options = DecodeOptions::default();
    let work = |i: usize| {
        Fingerprint::from_audio(Input::Path(&files[i]), &options, params, Role::Track)
            .map(|(fingerprint, _)| fingerprint)
    };
    in_order(cli.job_count(), files.len(), work, |i, result| {
        match result {
            Ok(fingerprint) => builder.take(files[i].clone(), fingerprint)?,
            Err(error) => {
                let refused = format!("{}: {}", files[i].display(), chain(&error));
                builder.catalog.skipped.refused.push(refused);
            }
        }
        progress.tell(i + 1);
        Ok(())
    })?;
    builder.flush()?;
    Ok((builder.catalog, builder.sources))
}

/// An error with its causes, which its own message does not repeat.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

struct Builder<'a> {
    cli: &'a Cli,
    index: &'a RocksIndex,
    catalog: Catalog,
    /// Content of the recordings so far.
    seen: HashSet<ContentHash>,
    /// Of each recording that `--same` names, the first one on its line.
    same: HashMap<String, String>,
    /// Places of those.
    firsts: HashMap<String, usize>,
    batch: Vec<NewTrack>,
    sources: Vec<Fingerprint>,
    sources_s: f64,
}

impl Builder<'_> {
    fn take(&mut self, path: PathBuf, fingerprint: Fingerprint) -> Result<()> {
        let duration_s = fingerprint.duration_ms as f64 / 1e3;
        if duration_s < self.cli.shortest {
            self.catalog.skipped.short_count += 1;
            return Ok(());
        }
        let place = self.catalog.recordings.len();
        let content_hash = fingerprint.content_hash;
        // Otherwise one of the two might be held out, or each be taken for the other.
        if !self.seen.insert(content_hash) {
            self.catalog.skipped.duplicate_count += 1;
            return Ok(());
        }
        let name = path.strip_prefix(&self.cli.folder).unwrap_or(&path).display().to_string();
        let first = self.same.get(&name).unwrap_or(&name).clone();
        // All of a group, or none: a held-out recording must not be in the index.
        let is_held_out = is_held_out(self.cli.seed, &first, self.cli.held_out);
        let group = *self.firsts.entry(first).or_insert(place);
        let is_sounding = sounding_seconds(&fingerprint);
        let mut track_id = None;
        if is_held_out {
            self.catalog.held_out.push(place);
            self.expect_absent(&name, &content_hash)?;
        } else {
            let id = TrackId::new(&*name).unwrap_or_else(|_| TrackId::from_content(&content_hash));
            self.catalog.indexed.push(place);
            track_id = Some(id.clone());
            if self.cli.distractors > 0.0 && self.sources_s < SOURCES_MAX_S {
                self.sources_s += duration_s;
                self.sources.push(fingerprint.clone());
            }
            self.batch.push(NewTrack { id, metadata: Metadata::default(), fingerprint });
        }
        self.catalog.recordings.push(Recording {
            path,
            name,
            duration_s,
            is_sounding,
            group,
            track_id,
        });
        if self.batch.len() >= BATCH_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.index.add(&self.batch).context("the index cannot be written")?;
        self.batch.clear();
        Ok(())
    }

    /// An index of an earlier run with another seed or share holds what is held out now.
    fn expect_absent(&self, name: &str, content_hash: &ContentHash) -> Result<()> {
        let Some(id) = self.index.tracks_with_content(content_hash)?.into_iter().next() else {
            return Ok(());
        };
        let dir = self.cli.index.as_deref().unwrap_or(Path::new(""));
        bail!(
            "--index {}: it holds {name}, which is to be held out, as track {id}; give a new folder",
            dir.display(),
        )
    }
}

/// Reads a file whose lines name recordings that are the same, separated by tabs: of each name, the
/// first on its line.
fn read_same(path: &Path) -> Result<HashMap<String, String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("--same: {} cannot be read", path.display()))?;
    let mut same = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let mut names = line.split('\t').filter(|name| !name.is_empty());
        let Some(first) = names.next() else { continue };
        for name in names.chain([first]) {
            if same.insert(name.to_owned(), first.to_owned()).is_some() {
                let line = number + 1;
                bail!("--same: {}, line {line}: {name} was named before", path.display());
            }
        }
    }
    Ok(same)
}

/// Whether the recording of this name is held out. It stays so whatever else is in the folder.
fn is_held_out(seed: u64, name: &str, share: f64) -> bool {
    seeded(seed, &format!("held out {name}")).f64() < share
}

fn sounding_seconds(fingerprint: &Fingerprint) -> Vec<bool> {
    let len = usize::try_from(fingerprint.duration_ms / 1_000 + 1).unwrap_or(usize::MAX);
    let mut is_sounding = vec![false; len];
    for peak in fingerprint.peaks.iter().filter(|peak| peak.level >= SOUNDING_LEVEL) {
        if let Some(second) = is_sounding.get_mut(peak.time_ms as usize / 1_000) {
            *second = true;
        }
    }
    is_sounding
}

/// Fills the index up with `hours` of synthetic tracks made of `sources`.
pub(crate) fn add_distractors(
    index: &RocksIndex,
    sources: Vec<Fingerprint>,
    cli: &Cli,
    params: &Params,
) -> Result<Distractors> {
    let hours = cli.distractors;
    let counted_s = sources.iter().map(|f| f.duration_ms as f64 / 1e3).sum::<f64>();
    let counted_s = counted_s.min(COUNTED_MAX_S).min(hours * 3_600.0);
    let (mut real, mut made) = (LandmarkCounter::default(), LandmarkCounter::default());
    for source in &sources {
        if real.duration_s() < counted_s {
            real.push(source, params);
        }
    }
    let Some(catalog) = SyntheticCatalog::new(sources, cli.seed, params) else {
        bail!("--distractors: no recording of the folder is long enough to make any of");
    };
    tell(&format!("adding {hours} hours of synthetic music"));
    let total = audio::whole(hours * 3_600.0);
    let mut progress = Progress::new("seconds of synthetic music added", total);
    let (mut track_count, mut added_s) = (0, 0.0);
    let mut batch = Vec::with_capacity(BATCH_LEN);
    let mut tracks = catalog.tracks(hours).peekable();
    while let Some(track) = tracks.next() {
        if made.duration_s() < counted_s {
            made.push(&track.fingerprint, params);
        }
        track_count += 1;
        added_s += track.fingerprint.duration_ms as f64 / 1e3;
        batch.push(track);
        if batch.len() == BATCH_LEN || tracks.peek().is_none() {
            index.add(&batch).context("the index cannot be written")?;
            batch.clear();
            progress.tell(audio::whole(added_s));
        }
    }
    Ok(Distractors {
        track_count,
        hours: added_s / 3_600.0,
        synthetic: made.finish(),
        real: real.finish(),
    })
}

#[cfg(test)]
impl Recording {
    /// One that no file stands for.
    pub(crate) fn made_up(name: &str, duration_s: f64) -> Self {
        Self {
            path: PathBuf::from(name),
            name: name.to_owned(),
            duration_s,
            is_sounding: vec![true; audio::whole(duration_s) + 1],
            group: 0,
            track_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_which_recordings_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("same.tsv");
        fs::write(&path, "a.mp3\tb/a.ogg\ta 2.wav\n\nc.mp3\td.mp3\n").unwrap();
        let same = read_same(&path).unwrap();
        let first = |name: &str| same.get(name).map(String::as_str);
        assert_eq!((first("a 2.wav"), first("a.mp3")), (Some("a.mp3"), Some("a.mp3")));
        assert_eq!((first("d.mp3"), first("e.mp3")), (Some("c.mp3"), None));
        fs::write(&path, "a\tb\nb\tc\n").unwrap();
        let error = read_same(&path).unwrap_err().to_string();
        assert!(error.contains("line 2: b was named before"), "{error}");
        assert!(read_same(&dir.path().join("none")).is_err());
    }

    #[test]
    fn about_the_share_is_held_out_and_the_same_each_time() {
        let held_out = |seed, share| -> Vec<bool> {
            (0..1_000).map(|i| is_held_out(seed, &format!("{i}.mp3"), share)).collect()
        };
        let count = held_out(7, 0.2).iter().filter(|is| **is).count();
        assert!((150..250).contains(&count), "{count} of 1000");
        assert_eq!(held_out(7, 0.2), held_out(7, 0.2));
        assert_ne!(held_out(7, 0.2), held_out(8, 0.2));
        assert!(held_out(7, 0.0).iter().all(|is| !is));
        // A larger share holds out the same and more.
        assert!(held_out(7, 0.2).iter().zip(held_out(7, 0.4)).all(|(few, more)| !few || more));
    }
}
