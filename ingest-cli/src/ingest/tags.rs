//! Tags inside a file fill what the manifest leaves out.                       ★ lofty
//!
//! Tags are a courtesy: a file whose tags cannot be read is ingested without them.

use std::path::Path;

use fingerprint_core::index::Metadata;
use lofty::config::ParseOptions;
use lofty::file::TaggedFileExt;
use lofty::probe::Probe;
use lofty::tag::{ItemKey, Tag};

use crate::guard;

/// Longer tags are taken for damage and left out, in bytes.
const TAG_BYTES_MAX: usize = 4096;

/// Reads the tags of the file at `path` into the fields of `metadata` that are still unknown.
pub(super) fn fill(path: &Path, metadata: &mut Metadata) {
    let wanted = [
        (&mut metadata.title, ItemKey::TrackTitle),
        (&mut metadata.artist, ItemKey::TrackArtist),
        (&mut metadata.album, ItemKey::AlbumTitle),
        (&mut metadata.isrc, ItemKey::Isrc),
    ];
    if wanted.iter().all(|(field, _)| field.is_some()) {
        return;
    }
    let tags = match guard::catch("reading tags", || read(path)).flatten() {
        Ok(tags) => tags,
        Err(error) => {
            tracing::debug!(path = %path.display(), error = %format!("{error:#}"), "no tags read");
            return;
        }
    };
    for (field, key) in wanted {
        if field.is_none() {
            *field = tags.iter().find_map(|tag| tag.get_string(key).and_then(clean));
        }
    }
}

/// All tags of a file, the one that is native to its format first.
fn read(path: &Path) -> anyhow::Result<Vec<Tag>> {
    let options = ParseOptions::new().read_properties(false).read_cover_art(false);
    // The extension may lie; the first bytes do not.
    let file = Probe::open(path)?.options(options).guess_file_type()?.read()?;
    let mut tags: Vec<Tag> = file.tags().to_vec();
    let native = file.primary_tag_type();
    tags.sort_by_key(|tag| tag.tag_type() != native);
    Ok(tags)
}

/// The tag without white space and padding at its ends; `None` if nothing useful is left.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty() && text.len() <= TAG_BYTES_MAX).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_goes_and_damage_is_left_out() {
        assert_eq!(clean(" Title\0\0").as_deref(), Some("Title"));
        assert_eq!(clean("\0 "), None);
        assert!(clean(&"x".repeat(TAG_BYTES_MAX)).is_some());
        assert_eq!(clean(&"x".repeat(TAG_BYTES_MAX + 1)), None);
    }

    #[test]
    fn what_is_known_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.mp3");
        std::fs::write(&path, b"ID3\x04\0\0\x7f\x7f\x7f\x7fTIT2").unwrap();
        let mut metadata = Metadata { title: Some("known".into()), ..Metadata::default() };
        let before = metadata.clone();
        fill(&path, &mut metadata);
        assert_eq!(metadata, before);
    }
}
