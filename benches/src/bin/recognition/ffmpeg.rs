//! What ffmpeg is needed for: lossy encoders, and changes of tempo and pitch.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::audio::RATE_HZ;
use crate::condition::{Change, Codec, Condition};

/// The program, and what its build can do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ffmpeg {
    /// What `-encoders` prints; empty without the program.
    encoders: String,
    /// What `-filters` prints.
    filters: String,
}

impl Codec {
    /// Name of the encoder, the rate, and the extension of the file.
    fn recipe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Mp3At64k => ("libmp3lame", "64k", "mp3"),
            Self::AacAt48k => ("aac", "48k", "m4a"),
            Self::OpusAt24k => ("libopus", "24k", "opus"),
        }
    }
}

impl Ffmpeg {
    /// Looks for the program on the PATH and asks what it can do.
    pub(crate) fn find() -> Self {
        let ask = |what| {
            let output = Command::new("ffmpeg").args(["-hide_banner", what]).output();
            output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into())
        };
        Self { encoders: ask("-encoders"), filters: ask("-filters") }
    }

    /// Why a condition cannot be made with it, if so.
    pub(crate) fn lacks(&self, condition: &Condition) -> Option<String> {
        let needs_filter = matches!(condition.change, Change::Stretch { .. });
        if !needs_filter && condition.codecs().is_empty() {
            return None;
        }
        if self.encoders.is_empty() {
            return Some("needs ffmpeg on the PATH".to_owned());
        }
        let encoders = condition.codecs().iter().map(|codec| codec.recipe().0);
        let missing = encoders.into_iter().find(|encoder| !lists(&self.encoders, encoder));
        if let Some(encoder) = missing {
            return Some(format!("needs an ffmpeg with the encoder {encoder}"));
        }
        (needs_filter && self.stretcher().is_none())
            .then(|| "needs an ffmpeg with the filter rubberband or atempo".to_owned())
    }

    /// The filter for tempo and pitch: the better one if there is.
    pub(crate) fn stretcher(&self) -> Option<&'static str> {
        ["rubberband", "atempo"].into_iter().find(|filter| lists(&self.filters, filter))
    }

    /// Encodes `input` beside it with another extension; returns where.
    pub(crate) fn encode(&self, input: &Path, codec: Codec) -> Result<PathBuf> {
        let (encoder, rate, extension) = codec.recipe();
        let output = input.with_extension(extension);
        run(input, &["-c:a", encoder, "-b:a", rate], &output)?;
        Ok(output)
    }

    /// Plays the WAV file `input` `tempo` times as fast and `pitch` times as high, into the WAV
    /// file `output`.
    pub(crate) fn stretch(
        &self,
        input: &Path,
        tempo: f64,
        pitch: f64,
        output: &Path,
    ) -> Result<()> {
        let filter = if self.stretcher() == Some("rubberband") {
            format!("rubberband=tempo={tempo}:pitch={pitch}")
        } else {
            // Played faster and higher by a wrong rate, then slowed down again.
            let rate_hz = (f64::from(RATE_HZ) * pitch).round();
            format!("asetrate={rate_hz},aresample={RATE_HZ},atempo={}", tempo / pitch)
        };
        run(input, &["-af", &filter, "-c:a", "pcm_s16le"], output)
    }
}

/// True if a list of ffmpeg has this entry: each line has flags, the name, and a description.
fn lists(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.split_whitespace().nth(1) == Some(name))
}

fn run(input: &Path, arguments: &[&str], output: &Path) -> Result<()> {
    let result = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-y", "-threads", "1", "-i"])
        .arg(input)
        // Without the date and random numbers that some containers have.
        .args(["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"])
        .args(["-threads", "1"])
        .args(arguments)
        .arg(output)
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg cannot be started; is it on the PATH?")?;
    if !result.status.success() {
        let complaint = String::from_utf8_lossy(&result.stderr);
        let command = arguments.join(" ");
        bail!("ffmpeg failed with {command:?}: {}", complaint.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::CONDITIONS;

    #[test]
    fn what_a_build_lacks_is_told() {
        let condition = |name| CONDITIONS.iter().find(|c| c.name == name).unwrap();
        let none = Ffmpeg::default();
        assert_eq!(none.lacks(condition("pink0")), None);
        assert_eq!(none.lacks(condition("speed+3")), None);
        assert!(none.lacks(condition("mp3_64k")).unwrap().contains("PATH"));
        assert!(none.lacks(condition("tempo+4")).unwrap().contains("PATH"));
        let small = Ffmpeg {
            encoders: " A....D libmp3lame  MP3 (codec mp3)\n A..... aac  AAC".to_owned(),
            filters: " ..C atempo  A->A  Adjust audio tempo.".to_owned(),
        };
        assert_eq!(small.lacks(condition("mp3_64k")), None);
        assert!(small.lacks(condition("mp3_then_opus")).unwrap().contains("libopus"));
        assert_eq!((small.lacks(condition("tempo+4")), small.stretcher()), (None, Some("atempo")));
    }
}
