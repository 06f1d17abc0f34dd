//! Encoded audio → samples → fingerprint.

use std::ops::ControlFlow;

use fingerprint_core::decode::{DecodeError, DecodeOptions, DecodeSummary, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::params::{Params, Role};

/// Longer audio is refused, so that a run is short.
const DURATION_MAX_S: f64 = 5.0;

/// Decodes `data` as a file, and as a stream, and makes a fingerprint of what it is.
///
/// # Panics
///
/// If a sample is out of range, a file is longer than allowed, or a fingerprint does not survive its encoding.
pub fn run(data: &[u8]) {
    let params = Params::default();
    let mut fingerprinter = Fingerprinter::new(&params, Role::Query);
    let decoded = samples_of(Input::Bytes(data), &mut |samples, rate_hz| {
        // A rate that is out of range is refused by name.
        match fingerprinter.push(samples, rate_hz) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    if decoded.is_ok() {
        let fingerprint = fingerprinter.finish();
        let bytes = fingerprint.to_bytes(&params);
        assert_eq!(Fingerprint::from_bytes(&bytes, &params).as_ref(), Ok(&fingerprint));
    }
    let _ = samples_of(Input::Stream(Box::new(data)), &mut |_, _| ControlFlow::Continue(()));
    // The bytes themselves, in the place of a fingerprint.
    let _ = Fingerprint::from_bytes(data, &params);
}

fn samples_of(
    input: Input<'_>,
    sink: &mut dyn FnMut(&[f32], u32) -> ControlFlow<()>,
) -> Result<DecodeSummary, DecodeError> {
    let options =
        DecodeOptions { duration_max_s: DURATION_MAX_S, ffmpeg: None, ..DecodeOptions::default() };
    let summary = decode(input, &options, &mut |samples, rate_hz| {
        assert!(samples.iter().all(|sample| sample.abs() <= 8.0), "a sample is out of range");
        sink(samples, rate_hz)
    });
    if let Ok(summary) = &summary {
        assert!(summary.duration_s <= DURATION_MAX_S, "{summary:?}");
    }
    summary
}
