//! Throughput of stages that audio flows through: elements per second, and multiples of real time.
//!
//! Criterion can report two quantities of one bench, "elements" and "bytes". Bytes say nothing
//! about a stage whose input is samples, so here the second one carries milliseconds of audio and
//! is printed as what it means. The times are wall-clock times, as everywhere in Criterion.

use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use earmark_benches::Pcm;

/// [`WallTime`], with its own words for throughput.
#[derive(Debug)]
pub(crate) struct RealTime;

/// What [`criterion_main`](criterion::criterion_main) runs; `seconds` is the time that one bench
/// is measured for, besides its warm-up.
pub(crate) fn criterion(seconds: u64) -> Criterion<RealTime> {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(seconds))
        .sample_size(30)
        .with_measurement(RealTime)
}

/// Throughput of a bench whose iteration handles `element_count` elements, made from all of `pcm`.
pub(crate) fn throughput(element_count: usize, pcm: &Pcm) -> Throughput {
    Throughput::ElementsAndBytes { elements: element_count as u64, bytes: pcm.duration_ms() }
}

impl Measurement for RealTime {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for RealTime {
    fn scale_values(&self, typical_ns: f64, values_ns: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical_ns, values_ns)
    }

    fn scale_throughputs(
        &self,
        typical_ns: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let Throughput::Bytes(audio_ms) = throughput else {
            return WallTime.formatter().scale_throughputs(typical_ns, throughput, values);
        };
        for value in values {
            *value = *audio_ms as f64 * 1e6 / *value;
        }
        "x real time"
    }

    fn scale_for_machines(&self, values_ns: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values_ns)
    }
}
