//! What is to be ingested: paths, folders and manifests become a list of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use fingerprint_core::index::Metadata;
use fingerprint_core::units::TrackId;

/// Extensions by which a folder's audio files are known.
const EXTENSIONS: [&str; 30] = [
    "mp3", "m4a", "m4b", "mp4", "aac", "flac", "ogg", "oga", "opus", "webm", "mkv", "mka", "wav",
    "aif", "aiff", "aifc", "caf", "wma", "asf", "ac3", "eac3", "amr", "3gp", "mov", "avi", "wv",
    "ape", "au", "dsf", "ts",
];

/// One file to ingest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) path: PathBuf,
    pub(crate) track_id: Option<TrackId>,
    pub(crate) metadata: Metadata,
}

/// Files and the audio files of folders, in the order of their names.
pub(crate) fn walk(paths: &[PathBuf]) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for path in paths {
        for entry in ignore::WalkBuilder::new(path).sort_by_file_path(Path::cmp).build() {
            let entry = entry.with_context(|| format!("{}: could not be read", path.display()))?;
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let extension = entry.path().extension().and_then(|e| e.to_str()).unwrap_or_default();
            let is_audio = EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str());
            // A file that is named itself is always meant.
            if is_file && (is_audio || entry.depth() == 0) {
                let path = entry.into_path();
                items.push(Item { path, track_id: None, metadata: Metadata::default() });
            }
        }
    }
    Ok(items)
}

/// Reads a manifest; the extension says which kind.
pub(crate) fn read(manifest: &Path) -> anyhow::Result<Vec<Item>> {
    let name = manifest.display();
    let file = File::open(manifest).with_context(|| format!("{name}: could not be read"))?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let rows: Vec<BTreeMap<String, String>> = match manifest.extension().and_then(|e| e.to_str()) {
        Some("csv") => csv::Reader::from_reader(file)
            .deserialize()
            .collect::<Result<_, _>>()
            .with_context(|| format!("{name}: not a CSV file with a header"))?,
        Some("jsonl") => BufReader::new(file)
            .lines()
            .enumerate()
            .map(|(i, line)| {
                serde_json::from_str(&line?)
                    .with_context(|| format!("{name}, line {}: not an object of texts", i + 1))
            })
            .collect::<anyhow::Result<_>>()?,
        _ => bail!("{name}: a manifest must end in .csv or .jsonl"),
    };
    let item = |(i, row)| item(row, folder).with_context(|| format!("{name}, row {}", i + 1));
    rows.into_iter().enumerate().map(item).collect()
}

fn item(mut row: BTreeMap<String, String>, folder: &Path) -> anyhow::Result<Item> {
    row.retain(|_, value| !value.is_empty());
    let path = folder.join(row.remove("path").context("the field path is missing")?);
    let track_id = row.remove("track_id").map(TrackId::new).transpose()?;
    let (title, artist) = (row.remove("title"), row.remove("artist"));
    let (album, isrc) = (row.remove("album"), row.remove("isrc"));
    let metadata = Metadata { title, artist, album, isrc, attributes: row };
    Ok(Item { path, track_id, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_columns_become_attributes_and_empty_ones_nothing() {
        let row = [("path", "a.mp3"), ("track_id", "T1"), ("title", ""), ("policy", "block")];
        let row = row.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let item = item(row.into(), Path::new("music")).unwrap();
        assert_eq!(item.path, Path::new("music/a.mp3"));
        assert_eq!(item.track_id.unwrap().as_str(), "T1");
        assert_eq!(item.metadata.title, None);
        assert_eq!(item.metadata.attributes["policy"], "block");
    }

    #[test]
    fn a_row_without_a_path_is_refused() {
        assert!(item(BTreeMap::new(), Path::new("")).is_err());
    }
}
