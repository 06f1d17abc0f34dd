//! The small types that every stage shares: identifiers that are checked once, at the edge.
//!
//! Position in the flow: none; every other module may use this one, and it uses none of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest track id, in bytes of UTF-8.
pub const TRACK_ID_BYTES_MAX: usize = 200;

/// The caller's name for one reference recording: 1 to [`TRACK_ID_BYTES_MAX`] bytes of UTF-8
/// without control characters and without white space at either end.
///
/// The limit keeps index keys short; the rest keeps an id printable on one line, so that it can
/// be copied from a table into a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrackId(String);

/// Why a text cannot be a [`TrackId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackIdError {
    /// Nothing is left to look a track up by.
    #[error("track id is empty; give one, or leave the field out to derive it from the audio")]
    Empty,
    /// The id would not fit an index key.
    #[error("track id has {actual} bytes, at most {TRACK_ID_BYTES_MAX} are allowed; shorten it")]
    TooLong {
        /// Length found, in bytes.
        actual: usize,
    },
    /// The id could not be printed and typed again.
    #[error(
        "track id {id:?} has a control character, or white space at an end; remove these characters"
    )]
    Unprintable {
        /// The text as given.
        id: String,
    },
}

impl TrackId {
    /// Checks `id` and takes it as it is: ids are compared byte by byte, never normalised.
    ///
    /// # Errors
    ///
    /// [`TrackIdError`] says which rule of [`TrackId`] is broken.
    pub fn new(id: impl Into<String>) -> Result<Self, TrackIdError> {
        let id = id.into();
        if id.is_empty() {
            return Err(TrackIdError::Empty);
        }
        if id.len() > TRACK_ID_BYTES_MAX {
            return Err(TrackIdError::TooLong { actual: id.len() });
        }
        if id.trim() != id || id.chars().any(char::is_control) {
            return Err(TrackIdError::Unprintable { id });
        }
        Ok(Self(id))
    }

    /// The id of a recording that the caller did not name: `b3-` and the first 32 hexadecimal
    /// digits of its content hash, so that the same audio gets the same id everywhere.
    #[must_use]
    pub fn from_content(hash: &ContentHash) -> Self {
        Self(format!("b3-{}", &hash.to_string()[..32]))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrackId {
    type Error = TrackIdError;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(id)
    }
}

impl From<TrackId> for String {
    fn from(id: TrackId) -> Self {
        id.0
    }
}

impl FromStr for TrackId {
    type Err = TrackIdError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::new(id)
    }
}

/// BLAKE3 hash of the decoded audio: the mono mix at its original sample rate, rounded to
/// 16 bits. A lossless copy in another container has the same hash; a lossy one has not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(pub [u8; 32]);

/// Why a text is not a [`ContentHash`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content hash must be 64 hexadecimal digits, found {actual:?}")]
pub struct ContentHashError {
    /// The text as given.
    actual: String,
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| ContentHashError { actual: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for ContentHash {
    type Error = ContentHashError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn track_ids_are_checked_at_both_ends_of_every_rule() {
        assert_eq!(TrackId::new(""), Err(TrackIdError::Empty));
        assert!(TrackId::new("a".repeat(TRACK_ID_BYTES_MAX)).is_ok());
        let actual = TRACK_ID_BYTES_MAX + 1;
        assert_eq!(TrackId::new("a".repeat(actual)), Err(TrackIdError::TooLong { actual }));
        assert!(TrackId::new("Ä track: 7/9").is_ok());
        for bad in [" a", "a ", "a\nb", "a\0"] {
            assert!(matches!(TrackId::new(bad), Err(TrackIdError::Unprintable { .. })), "{bad:?}");
        }
    }

    #[test]
    fn content_hash_round_trips_through_text() {
        let hash = ContentHash(*blake3::hash(b"audio").as_bytes());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("beef".parse::<ContentHash>().is_err());
        assert_eq!(TrackId::from_content(&hash).as_str().len(), 35);
    }
}
