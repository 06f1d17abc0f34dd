//! Audio files, found in a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fingerprint_core::decode::EXTENSIONS;
use ignore::WalkBuilder;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Audio and video files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// What could not be looked at, such as links that lead nowhere, with the reason.
    pub refused: Vec<String>,
}

/// Looks for audio and video in `folder` and its subfolders. As in an ingest, hidden files and those
/// that a `.gitignore` or `.ignore` names are left out, and links are followed.
///
/// # Errors
///
/// If `folder` is no folder.
pub fn find(folder: &Path) -> Result<Found> {
    let metadata = folder
        .metadata()
        .with_context(|| format!("{} cannot be opened; give a folder", folder.display()))?;
    if !metadata.is_dir() {
        bail!("{} is not a folder; give the one that it lies in", folder.display());
    }
    let mut builder = WalkBuilder::new(folder);
    builder.follow_links(true).require_git(false).git_global(false).git_exclude(false);
    builder.sort_by_file_name(Ord::cmp);
    let mut found = Found::default();
    for entry in builder.build() {
        match entry {
            Ok(entry) => {
                let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
                if is_file && has_known_extension(entry.path()) {
                    found.files.push(entry.into_path());
                }
            }
            // A link that leads nowhere matters only if it should have led to audio.
            Err(error) if is_dead_link_to_other(&error) => {}
            Err(error) => found.refused.push(error.to_string()),
        }
    }
    Ok(found)
}

fn is_dead_link_to_other(error: &ignore::Error) -> bool {
    let path_of = |error: &ignore::Error| match error {
        ignore::Error::WithPath { path, .. } => Some(has_known_extension(path)),
        _ => None,
    };
    let names_audio = match error {
        ignore::Error::WithDepth { err, .. } => path_of(err),
        error => path_of(error),
    };
    let kind = error.io_error().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotFound) && names_audio == Some(false)
}

fn has_known_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.binary_search(&extension.as_str()).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_found_in_order_by_extension() {
        assert!(EXTENSIONS.is_sorted());
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.ogg", "b/z.mp3", "b/a.WAV", "a.flac", "notes.txt", ".hidden.mp3"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for name in ["dead.ttf", "dead.mp3"] {
            std::os::unix::fs::symlink("nowhere", folder.path().join(name)).unwrap();
        }
        let Found { files: found, refused } = find(folder.path()).unwrap();
        assert!(refused.len() == 1 && refused[0].contains("dead.mp3"), "{refused:?}");
        let names: Vec<_> = found
            .iter()
            .map(|f| f.strip_prefix(folder.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a.flac", "b/a.WAV", "b/z.mp3", "c.ogg"]);
        assert!(find(&folder.path().join("none")).is_err());
        let error = find(&folder.path().join("a.flac")).unwrap_err().to_string();
        assert!(error.contains("not a folder"), "{error}");
    }
}
