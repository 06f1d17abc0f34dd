//! A room: the direct sound, and a tail of echoes that dies away.

use realfft::RealFftPlanner;

use super::{count, rms, white_noise};

/// Time in which the tail falls by 60 dB, in seconds: a furnished room to a small hall.
const REVERBERATION_S: f64 = 0.7;
/// Time until the first echo, in seconds: walls two metres away.
const PRE_DELAY_S: f64 = 0.008;

/// `samples` as they are heard in a room, with the tail cut off at their end. The tail is noise
/// under an exponential (J. A. Moorer, "About This Reverberation Business", 1979) and carries as
/// much energy as the direct sound, as some two metres from a loudspeaker. `rng` draws the room.
///
/// # Panics
///
/// Never: the buffers of the transforms are their own.
#[must_use]
pub fn reverberate(samples: &[f32], rate_hz: u32, rng: &mut fastrand::Rng) -> Vec<f32> {
    let rate = f64::from(rate_hz);
    let (delay, tail_len) = (count(PRE_DELAY_S * rate).max(1), count(REVERBERATION_S * rate));
    let mut response = white_noise(tail_len, rng);
    // 60 dB are a factor of 1000.
    let decay = 1000_f64.powf(-1.0 / (REVERBERATION_S * rate));
    let mut envelope = 1.0_f64;
    for sample in &mut response {
        #[expect(clippy::cast_possible_truncation, reason = "samples are single precision")]
        let factor = envelope as f32;
        *sample *= factor;
        envelope *= decay;
    }
    let energy = rms(&response) * (tail_len as f32).sqrt();
    response.iter_mut().for_each(|sample| *sample /= energy);
    response.splice(0..0, std::iter::once(1.0).chain(std::iter::repeat_n(0.0, delay - 1)));
    convolve(samples, &response)
}

/// The first `samples.len()` samples of the convolution.
fn convolve(samples: &[f32], response: &[f32]) -> Vec<f32> {
    let fft_len = (samples.len() + response.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, inverse) = (planner.plan_fft_forward(fft_len), planner.plan_fft_inverse(fft_len));
    let transform = |signal: &[f32]| {
        let mut padded = forward.make_input_vec();
        padded[..signal.len()].copy_from_slice(signal);
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut padded, &mut spectrum).expect("the buffers are the transform's own");
        spectrum
    };
    let mut spectrum = transform(samples);
    for (value, other) in spectrum.iter_mut().zip(transform(response)) {
        *value = *value * other / fft_len as f32;
    }
    let mut convolved = inverse.make_output_vec();
    inverse.process(&mut spectrum, &mut convolved).expect("the buffers are the transform's own");
    convolved.truncate(samples.len());
    convolved
}

#[cfg(test)]
mod tests {
    use super::super::tests::RATE_HZ;
    use super::*;

    #[test]
    fn a_convolution_is_the_sum_it_stands_for() {
        let (samples, response) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.5, 0.0, -1.0]);
        let expected = [1.0, 2.5, 4.0, 4.5];
        for (actual, expected) in convolve(&samples, &response).iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_click_is_followed_by_a_tail_of_its_own_energy_that_falls_by_60_db() {
        let mut click = vec![0.0; RATE_HZ as usize];
        click[0] = 1.0;
        let heard = reverberate(&click, RATE_HZ, &mut fastrand::Rng::with_seed(5));
        let energy = |range: std::ops::Range<f64>| -> f32 {
            let at = |s: f64| (s * f64::from(RATE_HZ)) as usize;
            heard[at(range.start)..at(range.end)].iter().map(|x| x * x).sum()
        };
        assert!((heard[0] - 1.0).abs() < 0.001);
        assert!(energy(0.001..0.007) < 1e-6);
        assert!((energy(0.007..1.0) - 1.0).abs() < 0.01);
        // 30 dB in half of the time.
        let fall_db = 10.0 * (energy(0.01..0.06) / energy(0.36..0.41)).log10();
        assert!((fall_db - 30.0).abs() < 4.0, "{fall_db} dB in 0.35 s");
    }
}
