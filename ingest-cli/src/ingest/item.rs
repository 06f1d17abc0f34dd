//! What the sources find: one file to ingest, or why one cannot be.

use std::ops::ControlFlow;
use std::path::PathBuf;

use fingerprint_core::index::Metadata;
use fingerprint_core::units::TrackId;

/// Most bytes of metadata of a track, names of attributes included; more is refused.
pub(super) const METADATA_BYTES_MAX: usize = 64 << 10;

/// One file to ingest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) path: PathBuf,
    /// As the manifest says; derived from the content without it.
    pub(super) track_id: Option<TrackId>,
    /// As the manifest says.
    pub(super) metadata: Metadata,
}

/// One finding of a source.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    File(Item),
    /// A file that was listed before; nothing is lost by leaving it out.
    Repeated {
        path: PathBuf,
    },
    /// Something that was asked for and cannot be had.
    Refused {
        path: PathBuf,
        reason: String,
    },
}

/// Whether a source goes on.
pub(super) type Flow = ControlFlow<()>;

/// Takes the findings of a source one by one.
pub(super) type Visit<'a> = &'a mut dyn FnMut(Entry) -> Flow;

impl Item {
    /// A file of which nothing is known.
    pub(super) fn bare(path: PathBuf) -> Self {
        Self { path, track_id: None, metadata: Metadata::default() }
    }

    /// Digest of what the caller said about the file: if it changes, the file is taken again.
    pub(super) fn digest(&self) -> String {
        let said = serde_json::to_vec(&(&self.track_id, &self.metadata))
            .expect("texts and maps of texts are always valid JSON");
        blake3::hash(&said).to_hex()[..16].to_owned()
    }
}

/// Bytes of all texts together.
pub(super) fn metadata_bytes(metadata: &Metadata) -> usize {
    let texts = [&metadata.title, &metadata.artist, &metadata.album, &metadata.isrc];
    let fields: usize = texts.into_iter().flatten().map(String::len).sum();
    let attributes = metadata.attributes.iter().map(|(name, text)| name.len() + text.len());
    fields + attributes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_everything_the_caller_says_but_not_the_place() {
        let bare = Item::bare("a".into());
        assert_eq!(bare.digest(), Item::bare("b".into()).digest());
        let named = Item { track_id: Some(TrackId::new("t").unwrap()), ..bare.clone() };
        let titled = Metadata { title: Some("t".into()), ..Metadata::default() };
        let titled = Item { metadata: titled, ..bare.clone() };
        assert_ne!(named.digest(), bare.digest());
        assert_ne!(titled.digest(), bare.digest());
        assert_ne!(titled.digest(), named.digest());
    }
}
