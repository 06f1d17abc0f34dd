//! Audio → fingerprint: the one module that calls several stages in a row.
//!
//! Position in the flow: samples → … → **constellation** → index or matching. Batch is streaming
//! fed one chunk: any chunking of the same samples gives the same fingerprint, bit for bit.
//!
//! `docs/format.md` specifies the encoding: about 460 bytes for a second of a query, 220 for one of
//! a track.

mod stream;

use std::fmt;
use std::ops::ControlFlow;

pub use stream::StreamFingerprinter;

use crate::constellation;
use crate::decode::{DecodeError, DecodeOptions, DecodeSummary, Input, decode};
use crate::params::{Params, Role, SAMPLE_RATE_HZ};
use crate::peaks::{Peak, PeakPicker};
use crate::resample::{RateError, Resampler};
use crate::spectrogram::Spectrogram;
use crate::units::ContentHash;

/// Version of the encoding.
pub const FORMAT_VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"EMFP";
const HEADER_BYTES: usize = 4 + 1 + 8 + 32 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;
/// Level of digital silence, which has no logarithm.
const SILENCE_DB: f32 = -200.0;
/// Samples beyond ±16 (24 dB above full scale) are clamped: only broken files have them.
const SAMPLE_MAX: f32 = 16.0;
/// Samples are hashed this many bytes at a time, which lets BLAKE3 work on several blocks at once.
const HASH_BLOCK_BYTES: usize = 64 << 10;

/// The constellation of one recording and what is needed to store or to match it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fingerprint {
    /// Length of the recording in milliseconds.
    pub duration_ms: u64,
    /// Hash of the decoded audio.
    pub content_hash: ContentHash,
    /// Root mean square level in dB relative to full scale; −200 for digital silence.
    pub level_db: f32,
    /// Peaks up to [`Params::rank_max`] of its role, ascending.
    pub peaks: Vec<Peak>,
}

/// Why bytes are not a fingerprint that this build can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// The bytes are not an Earmark fingerprint, or were damaged on the way.
    #[error("not an Earmark fingerprint: {what}; make it again from the audio")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Another release wrote them.
    #[error(
        "fingerprint format version is {actual}, this build reads {expected}; make it again with the same release"
    )]
    Version {
        /// The version this build reads.
        expected: u8,
        /// The version found.
        actual: u8,
    },
    /// They were made with other parameters.
    #[error(
        "fingerprint was made with parameters {actual:016x}, this build runs {expected:016x}; use the same release on both sides"
    )]
    Params {
        /// Digest of the running parameters.
        expected: u64,
        /// Digest found.
        actual: u64,
    },
}

/// Makes a fingerprint from a stream of mono samples.
///
/// ```
/// use fingerprint_core::fingerprint::Fingerprinter;
/// use fingerprint_core::params::{Params, Role};
///
/// let mut fingerprinter = Fingerprinter::new(&Params::default(), Role::Query);
/// fingerprinter.push(&[0.0; 44_100], 44_100)?;
/// let fingerprint = fingerprinter.finish();
/// assert_eq!(fingerprint.duration_ms, 1_000);
/// assert!(fingerprint.peaks.is_empty());
/// # Ok::<(), fingerprint_core::resample::RateError>(())
/// ```
pub struct Fingerprinter {
    resampler: Option<Resampler>,
    analysis: Analysis,
    hasher: blake3::Hasher,
    /// Samples of the present rate, and the milliseconds of the rates before.
    rate_sample_count: u64,
    earlier_s: f64,
    clean: Vec<f32>,
    /// Samples that are not hashed yet, as big-endian integers.
    quantised: Vec<[u8; 2]>,
}

/// The stages behind the resampler.
struct Analysis {
    spectrogram: Spectrogram,
    picker: PeakPicker,
    peaks: Vec<Peak>,
    square_sum: f64,
    sample_count: u64,
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprinter").field("duration_s", &self.duration_s()).finish()
    }
}

impl Analysis {
    fn push(&mut self, samples: &[f32]) {
        self.square_sum += samples.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        self.sample_count += samples.len() as u64;
        let (picker, peaks) = (&mut self.picker, &mut self.peaks);
        self.spectrogram.push(samples, &mut |frame| picker.push(frame, peaks));
    }

    #[expect(clippy::cast_possible_truncation, reason = "decibels need no double precision")]
    fn level_db(&self) -> f32 {
        let mean = self.square_sum / self.sample_count.max(1) as f64;
        if mean > 0.0 { ((10.0 * mean.log10()) as f32).max(SILENCE_DB) } else { SILENCE_DB }
    }
}

/// A sample as 16-bit integer, rounded to the nearest (away from zero in the middle) and cut to
/// full scale. Without `f32::round`, which is a library call on processors before SSE4.1.
fn quantise(sample: f32) -> i16 {
    let scaled = sample * 32_768.0;
    #[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
    let quantised = (scaled + 0.5_f32.copysign(scaled)) as i16;
    quantised
}

impl Fingerprinter {
    /// A fingerprinter at the start of a recording.
    #[must_use]
    pub fn new(params: &Params, role: Role) -> Self {
        Self {
            resampler: None,
            analysis: Analysis {
                spectrogram: Spectrogram::new(),
                picker: PeakPicker::new(params, role),
                peaks: Vec::new(),
                square_sum: 0.0,
                sample_count: 0,
            },
            hasher: blake3::Hasher::new(),
            rate_sample_count: 0,
            earlier_s: 0.0,
            clean: Vec::new(),
            quantised: Vec::new(),
        }
    }

    /// Takes the next mono samples (full scale ±1) at `rate_hz`, which may change from call to
    /// call. Values that are no numbers count as silence.
    ///
    /// # Errors
    ///
    /// [`RateError`] if the rate cannot be resampled; nothing was taken then.
    pub fn push(&mut self, samples: &[f32], rate_hz: u32) -> Result<(), RateError> {
        if self.resampler.as_ref().is_none_or(|resampler| resampler.rate_hz() != rate_hz) {
            let fresh = Resampler::new(rate_hz)?;
            self.end_rate();
            self.resampler = Some(fresh);
            self.hash_quantised();
            self.hasher.update(&rate_hz.to_be_bytes());
        }
        let tame = |x: &f32| if x.is_finite() { x.clamp(-SAMPLE_MAX, SAMPLE_MAX) } else { 0.0 };
        self.clean.clear();
        self.clean.extend(samples.iter().map(tame));
        self.quantised.extend(self.clean.iter().map(|x| quantise(*x).to_be_bytes()));
        if self.quantised.as_flattened().len() >= HASH_BLOCK_BYTES {
            self.hash_quantised();
        }
        self.rate_sample_count += samples.len() as u64;
        if let Some(resampler) = &mut self.resampler {
            resampler.push(&self.clean, &mut |samples| self.analysis.push(samples));
        }
        Ok(())
    }

    /// Seconds taken so far.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        let rate_hz = self.resampler.as_ref().map_or(SAMPLE_RATE_HZ, Resampler::rate_hz);
        self.earlier_s + self.rate_sample_count as f64 / f64::from(rate_hz)
    }

    /// Moves the peaks that later samples cannot change to the end of `peaks`, ascending, and
    /// returns the time in milliseconds up to which that is all of them: about 0.3 s before the
    /// samples taken so far. [`Fingerprinter::finish`] then returns the peaks behind it only; its
    /// duration, level and hash are those of the whole recording.
    pub fn take_settled(&mut self, peaks: &mut Vec<Peak>) -> u32 {
        let settled_ms = self.analysis.picker.settled_ms();
        let own = &mut self.analysis.peaks;
        // Few are left over from the last call, so most are in order already.
        own.sort();
        let count = own.partition_point(|peak| peak.time_ms < settled_ms);
        peaks.extend(own.drain(..count));
        settled_ms
    }

    /// Ends the recording.
    #[must_use]
    pub fn finish(mut self) -> Fingerprint {
        self.end_rate();
        self.hash_quantised();
        let level_db = self.analysis.level_db();
        let mut peaks = self.analysis.peaks;
        self.analysis.picker.finish(&mut peaks);
        // Peaks leave the picker frame by frame; interpolation moves them past one another.
        peaks.sort_unstable();
        peaks.shrink_to_fit();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "durations are positive, and `as` from float saturates"
        )]
        let duration_ms = (self.earlier_s * 1e3).round() as u64;
        let content_hash = ContentHash(*self.hasher.finalize().as_bytes());
        Fingerprint { duration_ms, content_hash, level_db, peaks }
    }

    fn hash_quantised(&mut self) {
        self.hasher.update(self.quantised.as_flattened());
        self.quantised.clear();
    }

    /// Drains the resampler of the rate that ends here.
    fn end_rate(&mut self) {
        self.earlier_s = self.duration_s();
        self.rate_sample_count = 0;
        if let Some(resampler) = self.resampler.take() {
            resampler.finish(&mut |samples| self.analysis.push(samples));
        }
    }
}

impl Fingerprint {
    /// Decodes `input` and fingerprints it. Memory is bounded: samples are never held, only
    /// peaks, about 740 bytes for a second of a query and 350 for one of a track.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn from_audio(
        input: Input<'_>,
        options: &DecodeOptions,
        params: &Params,
        role: Role,
    ) -> Result<(Self, DecodeSummary), DecodeError> {
        let mut fingerprinter = Fingerprinter::new(params, role);
        let name = input.name();
        let mut refused = None;
        let summary = decode(input, options, &mut |samples, rate_hz| match fingerprinter
            .push(samples, rate_hz)
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = refused {
            let DecodeSummary { container, codec, .. } = summary;
            let reason = error.to_string();
            return Err(DecodeError::Undecodable { name, container, codec, reason });
        }
        Ok((fingerprinter.finish(), summary))
    }

    /// Length in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.duration_ms as f64 / 1000.0
    }

    /// Encodes for the wire; `params` must be those it was made with.
    #[must_use]
    pub fn to_bytes(&self, params: &Params) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 6 * self.peaks.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(FORMAT_VERSION);
        bytes.extend_from_slice(&params.digest().to_be_bytes());
        bytes.extend_from_slice(&self.content_hash.0);
        bytes.extend_from_slice(&self.duration_ms.to_be_bytes());
        bytes.extend_from_slice(&self.level_db.to_be_bytes());
        constellation::encode(&self.peaks, &mut bytes);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        bytes
    }

    /// Decodes and checks what [`Fingerprint::to_bytes`] wrote; `bytes` may be hostile.
    ///
    /// # Errors
    ///
    /// [`FingerprintError`].
    pub fn from_bytes(bytes: &[u8], params: &Params) -> Result<Self, FingerprintError> {
        let malformed = |what| FingerprintError::Malformed { what };
        let mut rest = bytes;
        if take::<4>(&mut rest) != Some(MAGIC) {
            return Err(malformed("it does not begin with EMFP"));
        }
        let [actual] = take(&mut rest).ok_or(malformed("it has no version"))?;
        if actual != FORMAT_VERSION {
            return Err(FingerprintError::Version { expected: FORMAT_VERSION, actual });
        }
        let (body, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(malformed("it is cut off"))?;
        if body.len() < HEADER_BYTES || blake3::hash(body).as_bytes()[..CHECKSUM_BYTES] != *checksum
        {
            return Err(malformed("its checksum is wrong"));
        }
        let cut_off = malformed("it is cut off");
        let actual = u64::from_be_bytes(take(&mut rest).ok_or(cut_off.clone())?);
        let expected = params.digest();
        if actual != expected {
            return Err(FingerprintError::Params { expected, actual });
        }
        let content_hash = ContentHash(take(&mut rest).ok_or(cut_off.clone())?);
        let duration_ms = u64::from_be_bytes(take(&mut rest).ok_or(cut_off.clone())?);
        let level_db = f32::from_be_bytes(take(&mut rest).ok_or(cut_off)?);
        let peaks = constellation::decode(&body[HEADER_BYTES..]).map_err(|e| malformed(e.what))?;
        if !level_db.is_finite() || peaks.iter().any(|peak| peak.rank > params.query_rank_max) {
            return Err(malformed("a value is out of range"));
        }
        if peaks.last().is_some_and(|last| u64::from(last.time_ms) > duration_ms) {
            return Err(malformed("a peak lies behind its end"));
        }
        Ok(Self { duration_ms, content_hash, level_db, peaks })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests;
