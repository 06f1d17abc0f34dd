//! Files and folders → the audio and video files in them.
//!
//! A file that is named itself is always taken; in folders the extension decides, and ignore
//! files (`.gitignore`, `.ignore`) and hidden files are honoured. Links are followed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fingerprint_core::decode::EXTENSIONS;
use ignore::{DirEntry, WalkBuilder};

use super::item::{Entry, Flow, Item, Visit};

/// Visits the files behind `paths`, folders in the order of their names.
pub(super) fn walk(paths: &[PathBuf], visit: Visit<'_>) -> Flow {
    for path in paths {
        let entries = WalkBuilder::new(path)
            .follow_links(true)
            // A .gitignore counts outside a repository too.
            .require_git(false)
            // The user's own git settings are about other things than music.
            .git_global(false)
            .git_exclude(false)
            .sort_by_file_name(Ord::cmp)
            .build();
        for entry in entries {
            let found = match entry {
                Ok(entry) if is_wanted(&entry) => Entry::File(Item::bare(entry.into_path())),
                Ok(_) => continue,
                Err(error) => Entry::Refused {
                    path: refused_path(&error).unwrap_or(path).to_owned(),
                    reason: reason(&error),
                },
            };
            visit(found)?;
        }
    }
    ControlFlow::Continue(())
}

fn is_wanted(entry: &DirEntry) -> bool {
    let Some(kind) = entry.file_type() else { return false };
    if entry.depth() == 0 {
        return !kind.is_dir();
    }
    // Opening a pipe that lies in a folder could wait for ever.
    kind.is_file() && has_known_extension(entry.path())
}

fn has_known_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.binary_search(&extension.as_str()).is_ok())
}

/// The path that an error is about, if it says.
fn refused_path(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            refused_path(err)
        }
        ignore::Error::Loop { child, .. } => Some(child),
        _ => None,
    }
}

/// What the error says besides the path.
fn reason(error: &ignore::Error) -> String {
    error.io_error().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(paths: &[PathBuf]) -> Vec<String> {
        let mut names = Vec::new();
        let flow = walk(paths, &mut |entry| {
            names.push(match entry {
                Entry::File(item) => item.path.file_name().unwrap().to_str().unwrap().to_owned(),
                Entry::Refused { path, .. } => format!("refused {}", path.display()),
                Entry::Repeated { .. } => panic!("a walk does not know of repetitions"),
            });
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        names
    }

    #[test]
    fn extensions_are_sorted_for_the_search() {
        assert!(EXTENSIONS.is_sorted());
    }

    #[test]
    fn folders_give_audio_in_order_and_honour_ignore_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.WAV", "a.mp3", "notes.txt", "noext", ".hidden.mp3", "skip.flac"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/c.ogg"), "").unwrap();
        fs::write(folder.path().join(".gitignore"), "skip.*\n").unwrap();
        assert_eq!(names(&[folder.path().to_owned()]), ["a.mp3", "b.WAV", "c.ogg"]);
    }

    #[test]
    fn a_named_file_is_always_taken_and_a_missing_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("notes.txt");
        fs::write(&plain, "").unwrap();
        let missing = folder.path().join("missing");
        let refused = format!("refused {}", missing.display());
        assert_eq!(names(&[plain, missing]), ["notes.txt".to_owned(), refused]);
    }
}
