//! The conditions: what happens to an excerpt before it is asked for.

use anyhow::{Result, bail};
use earmark_benches::damage::Damage;

/// What happens to an excerpt, in this order: change, damage, carrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition {
    /// As it is asked for and reported.
    pub(crate) name: &'static str,
    /// Lengths of the queries in seconds, unless others are asked for.
    pub(crate) lengths_s: &'static [f64],
    pub(crate) change: Change,
    pub(crate) damage: &'static [Damage],
    pub(crate) carrier: Carrier,
}

/// How the recording is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// As it is.
    None,
    /// So many times as fast and high, as a turntable does.
    Speed(f64),
    /// So many times as fast, and so many times as high.
    Stretch { tempo: f64, pitch: f64 },
}

/// The file that is handed in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Carrier {
    /// 16-bit WAV at 44.1 kHz, mono.
    Wav,
    /// The same with 8 bits, without dither.
    Wav8Bit,
    /// The same at 8 kHz.
    Wav8Khz,
    /// 16-bit WAV at 44.1 kHz, stereo; the right channel is the left one upside down.
    WavMirrored,
    /// Encoded by each of these in turn.
    Coded(&'static [Codec]),
}

/// A lossy encoder with its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Mp3At64k,
    AacAt48k,
    OpusAt24k,
}

const CLEAN: Condition = Condition {
    name: "clean",
    lengths_s: &[10.0],
    change: Change::None,
    damage: &[],
    carrier: Carrier::Wav,
};

const fn damaged(name: &'static str, damage: &'static [Damage]) -> Condition {
    Condition { name, damage, ..CLEAN }
}

const fn carried(name: &'static str, carrier: Carrier) -> Condition {
    Condition { name, carrier, ..CLEAN }
}

const fn at_speed(name: &'static str, speed: f64, damage: &'static [Damage]) -> Condition {
    Condition { name, change: Change::Speed(speed), damage, ..CLEAN }
}

const fn stretched(name: &'static str, pitch: f64, tempo: f64) -> Condition {
    Condition { name, change: Change::Stretch { tempo, pitch }, ..CLEAN }
}

const fn coded(name: &'static str, codecs: &'static [Codec]) -> Condition {
    carried(name, Carrier::Coded(codecs))
}

const PINK_0: &[Damage] = &[Damage::Pink { snr_db: 0.0 }];
const MUSIC_0: &[Damage] = &[Damage::Music { snr_db: 0.0 }];

/// 50 cents up and 200 cents down, as ratios: 2^(1/24) and 2^(−1/6).
const UP_50_CENTS: f64 = 1.029_302_236_643_492;
const DOWN_200_CENTS: f64 = 0.890_898_718_140_339_3;

/// All conditions, in the order of the table.
pub(crate) const CONDITIONS: &[Condition] = &[
    Condition { lengths_s: &[2.0, 3.0, 5.0, 10.0], ..CLEAN },
    Condition { lengths_s: &[5.0, 10.0], ..coded("mp3_64k", &[Codec::Mp3At64k]) },
    coded("aac_48k", &[Codec::AacAt48k]),
    coded("opus_24k", &[Codec::OpusAt24k]),
    coded("mp3_then_opus", &[Codec::Mp3At64k, Codec::OpusAt24k]),
    Condition { damage: &[Damage::Telephone], ..carried("telephone", Carrier::Wav8Khz) },
    damaged("pink+10", &[Damage::Pink { snr_db: 10.0 }]),
    Condition { lengths_s: &[5.0], ..damaged("pink+5", &[Damage::Pink { snr_db: 5.0 }]) },
    Condition { lengths_s: &[5.0, 10.0], ..damaged("pink0", PINK_0) },
    damaged("pink-5", &[Damage::Pink { snr_db: -5.0 }]),
    damaged("ambience0", &[Damage::Ambience { snr_db: 0.0 }]),
    damaged("ambience-6", &[Damage::Ambience { snr_db: -6.0 }]),
    damaged("music0", MUSIC_0),
    damaged("room", &[Damage::Room]),
    damaged("room_pink+5", &[Damage::Room, Damage::Pink { snr_db: 5.0 }]),
    damaged("clip_eq", &[Damage::ClipAndEqualise]),
    damaged("quiet", &[Damage::Gain { db: -40.0 }]),
    damaged("dropout", &[Damage::Dropout]),
    carried("8_bit", Carrier::Wav8Bit),
    carried("one_inverted", Carrier::WavMirrored),
    at_speed("speed+1", 1.01, &[]),
    at_speed("speed+3", 1.03, &[]),
    at_speed("speed-5", 0.95, &[]),
    at_speed("speed+8", 1.08, &[]),
    at_speed("speed+4_pink0", 1.04, PINK_0),
    at_speed("speed-8_pink0", 0.92, PINK_0),
    at_speed("speed+4_music0", 1.04, MUSIC_0),
    at_speed("speed-8_music0", 0.92, MUSIC_0),
    stretched("tempo+4", 1.0, 1.04),
    stretched("tempo-10", 1.0, 0.9),
    stretched("pitch+50c", UP_50_CENTS, 1.0),
    stretched("pitch-200c", DOWN_200_CENTS, 1.0),
    stretched("pitch+4_tempo+4", 1.04, 1.04),
    stretched("pitch+4_tempo-4", 1.04, 0.96),
    stretched("pitch-4_tempo+4", 0.96, 1.04),
    stretched("pitch-4_tempo-4", 0.96, 0.96),
    stretched("pitch+8_tempo+8", 1.08, 1.08),
    stretched("pitch+8_tempo-8", 1.08, 0.92),
    stretched("pitch-8_tempo+8", 0.92, 1.08),
    stretched("pitch-8_tempo-8", 0.92, 0.92),
    stretched("pitch+4_tempo+8", 1.04, 1.08),
    stretched("pitch+4_tempo-8", 1.04, 0.92),
    stretched("pitch-4_tempo+8", 0.96, 1.08),
    stretched("pitch-4_tempo-8", 0.96, 0.92),
    stretched("pitch+8_tempo+4", 1.08, 1.04),
    stretched("pitch+8_tempo-4", 1.08, 0.96),
    stretched("pitch-8_tempo+4", 0.92, 1.04),
    stretched("pitch-8_tempo-4", 0.92, 0.96),
];

impl Condition {
    /// Seconds of the recording in a second of the query.
    pub(crate) fn speed(&self) -> f64 {
        match self.change {
            Change::None => 1.0,
            Change::Speed(factor) => factor,
            Change::Stretch { tempo, .. } => tempo,
        }
    }

    /// Frequency in the query over that in the recording.
    pub(crate) fn pitch(&self) -> f64 {
        match self.change {
            Change::None => 1.0,
            Change::Speed(factor) => factor,
            Change::Stretch { pitch, .. } => pitch,
        }
    }

    /// Needs other music.
    pub(crate) fn needs_music(&self) -> bool {
        self.damage.iter().any(|damage| matches!(damage, Damage::Music { .. }))
    }

    /// Needs recordings of noise.
    pub(crate) fn needs_noise(&self) -> bool {
        self.damage.iter().any(|damage| matches!(damage, Damage::Ambience { .. }))
    }

    /// Encoders that it needs.
    pub(crate) fn codecs(&self) -> &'static [Codec] {
        match self.carrier {
            Carrier::Coded(codecs) => codecs,
            _ => &[],
        }
    }
}

/// The conditions of these names, in the order of the table; all if there are none.
///
/// # Errors
///
/// Names the first one that does not exist, and those that do.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static Condition>> {
    let exists = |name: &&String| CONDITIONS.iter().any(|condition| condition.name == *name);
    if let Some(unknown) = names.iter().find(|name| !exists(name)) {
        let known: Vec<_> = CONDITIONS.iter().map(|condition| condition.name).collect();
        bail!("--conditions: there is no {unknown:?}; there are {}", known.join(", "));
    }
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    Ok(CONDITIONS.iter().filter(|condition| is_wanted(condition.name)).collect())
}

/// The list of conditions for `--help`.
pub(crate) fn help() -> String {
    let mut help = "Conditions (and lengths in seconds, where not 10):\n  ".to_owned();
    let mut column = 0;
    for condition in CONDITIONS {
        let mut text = condition.name.to_owned();
        if condition.lengths_s != [10.0] {
            let lengths: Vec<_> = condition.lengths_s.iter().map(ToString::to_string).collect();
            text += &format!(" ({})", lengths.join(", "));
        }
        if column + text.len() > 90 {
            help += "\n  ";
            column = 0;
        }
        column += text.len() + 2;
        help += &text;
        help += "  ";
    }
    help += "\n\npink+5: pink noise 5 dB below the recording. ambience: needs --noise. music0: a held-out \
             recording, as loud. room: 0.7 s of reverberation. quiet: 40 dB down. dropout: 3 s of \
             10 are silent. one_inverted: stereo, one channel upside down. speed: as of a turntable, \
             in percent. pitch, tempo: in percent, or c for cents.";
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_the_factors() {
        for (i, condition) in CONDITIONS.iter().enumerate() {
            let name = condition.name;
            assert!(CONDITIONS[..i].iter().all(|other| other.name != name), "{name} twice");
            let percent = |what: &str| -> Option<f64> {
                let rest = name.split('_').find_map(|part| part.strip_prefix(what))?;
                Some(rest.parse::<f64>().ok()? / 100.0 + 1.0)
            };
            let speed = percent("speed");
            let told = |what: &str| percent(what).or(speed);
            assert!((told("tempo").unwrap_or(1.0) - condition.speed()).abs() < 1e-9, "{name}");
            if !name.ends_with('c') {
                assert!((told("pitch").unwrap_or(1.0) - condition.pitch()).abs() < 1e-9, "{name}");
            }
        }
        let cents = |ratio: f64| 1_200.0 * ratio.log2();
        assert!((cents(UP_50_CENTS) - 50.0).abs() < 1e-6);
        assert!((cents(DOWN_200_CENTS) + 200.0).abs() < 1e-6);
    }

    #[test]
    fn conditions_are_found_by_name_and_told_apart_from_mistakes() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named(&[]).unwrap().len(), CONDITIONS.len());
        let found = named(&names(&["room", "clean"])).unwrap();
        assert_eq!(found.iter().map(|c| c.name).collect::<Vec<_>>(), ["clean", "room"]);
        let error = named(&names(&["clean", "rooms"])).unwrap_err().to_string();
        assert!(error.contains("\"rooms\"") && error.contains("room_pink+5"), "{error}");
    }
}
