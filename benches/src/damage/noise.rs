//! Noise: pink, which is what rooms, streets and crowds sound like on average, and white.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Lowest frequency of the noise in Hz. What lies below is not heard, and would only take its
/// share of the power: a noise from 0.1 Hz up with the same level is 2.4 dB weaker where music is.
const LOW_HZ: f32 = 20.0;

/// `len` samples of noise with the same power in each octave from 20 Hz to half the rate. Its
/// level is arbitrary: mix it by ratio.
///
/// # Panics
///
/// Never: the buffers of the transform are its own.
#[must_use]
pub fn pink_noise(len: usize, rate_hz: u32, rng: &mut fastrand::Rng) -> Vec<f32> {
    // A power of two is transformed fastest; what is too much is cut off.
    let fft_len = len.next_power_of_two().max(2);
    let inverse = RealFftPlanner::<f32>::new().plan_fft_inverse(fft_len);
    let mut spectrum = inverse.make_input_vec();
    let bin_hz = rate_hz as f32 / fft_len as f32;
    let last = spectrum.len() - 1;
    for (bin, value) in spectrum.iter_mut().enumerate() {
        let hz = bin as f32 * bin_hz;
        // The ends are real numbers; and nothing is lost with them.
        if hz >= LOW_HZ && bin != last {
            *value = gaussian(rng) / hz.sqrt();
        }
    }
    let mut noise = inverse.make_output_vec();
    inverse.process(&mut spectrum, &mut noise).expect("the buffers are the transform's own");
    noise.truncate(len);
    noise
}

/// `len` samples of noise with the same power at all frequencies, normally distributed, with a root
/// mean square of about 1.
#[must_use]
pub fn white_noise(len: usize, rng: &mut fastrand::Rng) -> Vec<f32> {
    let mut noise = Vec::with_capacity(len + 1);
    while noise.len() < len {
        let pair = gaussian(rng);
        noise.extend([pair.re, pair.im]);
    }
    noise.truncate(len);
    noise
}

/// A complex number whose parts are normally distributed (G. E. P. Box and M. E. Muller, "A Note
/// on the Generation of Random Normal Deviates", 1958).
fn gaussian(rng: &mut fastrand::Rng) -> Complex<f32> {
    // 1 − u, because 0 has no logarithm and 1 is never drawn.
    let radius = (-2.0 * (1.0 - rng.f32()).ln()).sqrt();
    Complex::from_polar(radius, std::f32::consts::TAU * rng.f32())
}

#[cfg(test)]
mod tests {
    use super::super::rms;
    use super::super::tests::RATE_HZ;
    use super::*;

    #[test]
    fn every_octave_has_the_same_power_and_below_20_hz_there_is_none() {
        let len = 1 << 18;
        let mut noise = pink_noise(len, RATE_HZ, &mut fastrand::Rng::with_seed(3));
        let forward = RealFftPlanner::<f32>::new().plan_fft_forward(len);
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut noise, &mut spectrum).unwrap();
        let power = |low: f32, high: f32| -> f32 {
            let bin = |hz: f32| (f64::from(hz) * len as f64 / f64::from(RATE_HZ)) as usize;
            spectrum[bin(low)..bin(high)].iter().map(Complex::norm_sqr).sum()
        };
        let octave = power(1_000.0, 2_000.0);
        for low in [125.0, 250.0, 500.0, 2_000.0, 8_000.0] {
            let db = 10.0 * (power(low, 2.0 * low) / octave).log10();
            assert!(db.abs() < 1.0, "{db} dB in the octave above {low} Hz");
        }
        assert!(power(0.5, 19.0) < octave * 1e-6);
    }

    #[test]
    fn any_length_is_given_and_nothing_of_nothing() {
        for len in [0, 1, 2, 3, 1_000, 44_101] {
            let noise = pink_noise(len, RATE_HZ, &mut fastrand::Rng::with_seed(3));
            assert_eq!(noise.len(), len);
        }
        assert!(rms(&pink_noise(44_100, RATE_HZ, &mut fastrand::Rng::with_seed(3))) > 0.0);
        let white = white_noise(44_101, &mut fastrand::Rng::with_seed(3));
        assert!(white.len() == 44_101 && (rms(&white) - 1.0).abs() < 0.02);
    }
}
