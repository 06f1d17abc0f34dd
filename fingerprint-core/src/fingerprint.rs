//! placeholder
use crate::decode::{DecodeError, DecodeOptions, DecodeSummary, Input};
use crate::params::Params;
use crate::peaks::Peak;
use crate::units::ContentHash;

/// The constellation of one recording and what is needed to store or to match it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    /// Length of the recording in milliseconds.
    pub duration_ms: u64,
    /// Hash of the decoded audio.
    pub content_hash: ContentHash,
    /// Root mean square level in dB relative to full scale; `-inf` never occurs, silence is −200.
    pub level_db: f32,
    /// Peaks up to [`Params::query_rank_max`], ascending.
    pub peaks: Vec<Peak>,
}

/// Why bytes are not a fingerprint of this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// The bytes are not an Earmark fingerprint, or were damaged on the way.
    #[error("not an Earmark fingerprint: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Another release wrote them.
    #[error("fingerprint format version is {actual}, this build reads {expected}; fingerprint the audio again with the same release")]
    Version {
        /// The version this build reads.
        expected: u8,
        /// The version found.
        actual: u8,
    },
    /// They were made with other parameters.
    #[error("fingerprint was made with parameters {actual:016x}, this build runs {expected:016x}; use the same release on both sides")]
    Params {
        /// Digest of the running parameters.
        expected: u64,
        /// Digest found.
        actual: u64,
    },
}

impl Fingerprint {
    /// Decodes `input` and fingerprints it, in bounded memory.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn from_audio(
        input: Input<'_>,
        options: &DecodeOptions,
        params: &Params,
    ) -> Result<(Self, DecodeSummary), DecodeError> {
        let _ = (input, options, params);
        todo!()
    }

    /// Length in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.duration_ms as f64 / 1000.0
    }

    /// Encodes for the wire (format version 1; see the module header).
    #[must_use]
    pub fn to_bytes(&self, params: &Params) -> Vec<u8> {
        let _ = params;
        todo!()
    }

    /// Decodes and checks what [`Fingerprint::to_bytes`] wrote; `bytes` may be hostile.
    ///
    /// # Errors
    ///
    /// [`FingerprintError`].
    pub fn from_bytes(bytes: &[u8], params: &Params) -> Result<Self, FingerprintError> {
        let _ = (bytes, params);
        todo!()
    }
}
