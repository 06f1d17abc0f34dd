//! Container, track and decoder for a file.

use std::sync::LazyLock;

use symphonia::core::codecs::audio::well_known as id;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use super::super::aac::{self, Sbr};
use super::{Nothing, Refused, guarded, implausible};

/// symphonia's own decoders, and libopus for Opus, which it lacks.
static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
    let mut registry = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut registry);
    registry.register_audio_decoder::<symphonia_adapter_libopus::OpusDecoder>();
    registry
});

/// Codecs that containers announce and nothing here decodes, for error messages.
const FOREIGN_CODECS: [(AudioCodecId, &str); 20] = [
    (id::CODEC_ID_AC3, "ac3"),
    (id::CODEC_ID_EAC3, "eac3"),
    (id::CODEC_ID_AC4, "ac4"),
    (id::CODEC_ID_DCA, "dts"),
    (id::CODEC_ID_TRUEHD, "truehd"),
    (id::CODEC_ID_SPEEX, "speex"),
    (id::CODEC_ID_MUSEPACK, "musepack"),
    (id::CODEC_ID_ATRAC1, "atrac1"),
    (id::CODEC_ID_ATRAC3, "atrac3"),
    (id::CODEC_ID_ATRAC3PLUS, "atrac3plus"),
    (id::CODEC_ID_ATRAC9, "atrac9"),
    (id::CODEC_ID_WMA, "wma"),
    (id::CODEC_ID_SIPR, "sipr"),
    (id::CODEC_ID_COOK, "cook"),
    (id::CODEC_ID_WAVPACK, "wavpack"),
    (id::CODEC_ID_MONKEYS_AUDIO, "ape"),
    (id::CODEC_ID_TTA, "tta"),
    (id::CODEC_ID_ADPCM_G722, "g722"),
    (id::CODEC_ID_ADPCM_G726, "g726"),
    (id::CODEC_ID_ADPCM_G726LE, "g726le"),
];

/// The track that is decoded.
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) decoder: Box<dyn AudioDecoder>,
    pub(super) codec: String,
}

/// Finds the demuxer and has it read the header.
pub(super) fn container<'s>(
    source: Box<dyn MediaSource + 's>,
) -> Result<Box<dyn FormatReader + 's>, Error> {
    let stream = MediaSourceStream::new(source, Default::default());
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    guarded(|| symphonia::default::get_probe().probe(&Hint::new(), stream, format, metadata))
}

/// Makes a decoder for the default audio track, or for the first one that a decoder is known for.
pub(super) fn track(format: &dyn FormatReader, whole_only: bool) -> Result<Track, Nothing> {
    let container = format.format_info().short_name;
    let Some((id, params)) = choose(format) else {
        // A track without parameters may be audio that symphonia has no name for.
        let unnamed = format.tracks().iter().any(|track| track.codec_params.is_none());
        return Err(if unnamed {
            Nothing::refused(container, "unknown", "no decoder for it")
        } else {
            Nothing::NoAudio(container.to_owned())
        });
    };
    let codec = codec_name(params.codec);
    let refuse = |reason: &str| Nothing::refused(container, codec, reason);
    // A lying header is caught before a decoder makes room for what it promises.
    let channel_count = params.channels.as_ref().map_or(1, |channels| channels.count());
    if let Some(reason) = implausible(params.sample_rate, channel_count) {
        return Err(refuse(&reason));
    }
    if params.codec == id::CODEC_ID_AAC {
        match aac::sbr(params.extra_data.as_deref(), params.sample_rate) {
            Sbr::Absent => {}
            Sbr::Present => return Err(Nothing::refused(container, "he-aac", "it has SBR")),
            Sbr::Possible if whole_only => {
                let (container, codec) = (container.to_owned(), codec.to_owned());
                let reason = "it may have SBR, which would be lost".to_owned();
                return Err(Nothing::Refused(Refused { container, codec, reason, partial: true }));
            }
            Sbr::Possible => {}
        }
    }
    let decoder = guarded(|| CODECS.make_audio_decoder(params, &AudioDecoderOptions::default()))
        .map_err(|error| refuse(&error.to_string()))?;
    Ok(Track { id, decoder, codec: codec.to_owned() })
}

fn choose(format: &dyn FormatReader) -> Option<(u32, &AudioCodecParameters)> {
    let default = format.default_track(TrackType::Audio);
    let audio = || {
        default
            .into_iter()
            .chain(format.tracks())
            .filter_map(|track| Some((track.id, track.codec_params.as_ref()?.audio()?)))
    };
    let is_known = |(_, params): &(u32, &AudioCodecParameters)| {
        CODECS.get_audio_decoder(params.codec).is_some()
    };
    audio().find(is_known).or_else(|| audio().next())
}

fn codec_name(codec: AudioCodecId) -> &'static str {
    if let Some(decoder) = CODECS.get_audio_decoder(codec) {
        return decoder.codec.info.short_name;
    }
    FOREIGN_CODECS.iter().find(|(id, _)| *id == codec).map_or("unknown", |(_, name)| name)
}
