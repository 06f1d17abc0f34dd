//! Encoded audio → fingerprint, with an end as soon as nobody waits for it any more.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use fingerprint_core::decode::{DecodeOptions, Input, decode};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::params::{Params, Role};
use tonic::Status;

use crate::config::Config;
use crate::metrics::{Metrics, Stage};
use crate::status;
use crate::work::Cancel;

/// The limits that hold for audio of up to `duration_max`, in `bytes_max` bytes.
pub(crate) fn decode_options(
    config: &Config,
    duration_max: Duration,
    bytes_max: u64,
) -> DecodeOptions {
    DecodeOptions {
        duration_max_s: duration_max.as_secs_f64(),
        input_max_bytes: bytes_max,
        ffmpeg: config.ffmpeg.clone(),
        ffmpeg_timeout: config.ffmpeg_time_max,
        ..DecodeOptions::default()
    }
}

/// Decodes and fingerprints `input`, which messages call `name`. Asks `cancel` at each chunk of
/// samples.
pub(crate) fn fingerprint_audio(
    input: Input<'_>,
    name: &str,
    options: &DecodeOptions,
    params: &Params,
    role: Role,
    cancel: &Cancel,
    metrics: &Metrics,
) -> Result<Fingerprint, Status> {
    let begun = Instant::now();
    let mut fingerprinting = Duration::ZERO;
    let mut fingerprinter = Fingerprinter::new(params, role);
    let mut bad_rate = None;
    let summary = decode(input, options, &mut |samples, rate_hz| {
        if cancel.is_over() {
            return ControlFlow::Break(());
        }
        let handed = Instant::now();
        let taken = fingerprinter.push(samples, rate_hz);
        fingerprinting += handed.elapsed();
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                bad_rate = Some(error);
                ControlFlow::Break(())
            }
        }
    })
    .map_err(|error| status::from_decode(error, name))?;
    cancel.check()?;
    if let Some(error) = bad_rate {
        return Err(status::from_rate(&error));
    }
    tracing::debug!(
        container = summary.container,
        codec = summary.codec,
        sample_rate_hz = summary.sample_rate_hz,
        duration_s = summary.duration_s,
        bad_packet_count = summary.bad_packet_count,
        by_ffmpeg = summary.by_ffmpeg,
        "decoded"
    );
    let decoded = Instant::now();
    let fingerprint = fingerprinter.finish();
    let decoding = (decoded - begun).saturating_sub(fingerprinting + cancel.waited());
    let fingerprinting = fingerprinting + decoded.elapsed();
    metrics.spent(begun, &[(Stage::Decode, decoding), (Stage::Fingerprint, fingerprinting)]);
    Ok(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tonic::Code;

    use super::*;

    /// Ten seconds at 8 kHz.
    fn audio() -> Vec<u8> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        for i in 0..80_000_i32 {
            writer.write_sample(i % 1_000).unwrap();
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    fn analyse(cancelled: bool) -> Code {
        let options = DecodeOptions { duration_max_s: 5.0, ..DecodeOptions::default() };
        let (bytes, cancel) = (audio(), Cancel::preset(cancelled));
        let input = Input::Bytes(&bytes);
        fingerprint_audio(
            input,
            "x",
            &options,
            &Params::default(),
            Role::Query,
            &cancel,
            &Metrics::new(),
        )
        .unwrap_err()
        .code()
    }

    // Decoding to the end would run into the limit of 5 s; a cancelled job must not get there.
    #[test]
    fn a_cancelled_job_stops_decoding_at_the_next_chunk() {
        assert_eq!(analyse(false), Code::ResourceExhausted);
        assert_eq!(analyse(true), Code::Unavailable);
    }
}
