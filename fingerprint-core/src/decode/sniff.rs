//! What the first bytes say a file is.
//!
//! symphonia looks for the start of a known container anywhere in the first megabyte. That finds
//! an MP3 behind junk, but it also "finds" MPEG audio inside an AVI, a ZIP or a picture, and
//! decodes noise. So what is plainly something else is named here first, and sent to the
//! external program or refused.

/// How many bytes from the start are looked at.
pub(super) const HEAD_BYTES: usize = 4096;

/// Name of the container of MKV and WebM.
pub(super) const MATROSKA: &str = "matroska";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing against trying the built-in decoders; the container if it is clear (or `unknown`).
    Maybe(&'static str),
    /// Audio or video that the built-in demuxers do not know: container and codec (`unknown` if
    /// the container does not fix it).
    Foreign(&'static str, &'static str),
    /// No audio; what it is instead, with its article.
    NoAudio(&'static str),
}

/// A pattern at a place in the file, and what it means.
struct Magic {
    at: usize,
    bytes: &'static [u8],
    kind: Kind,
}

const fn maybe(at: usize, bytes: &'static [u8], container: &'static str) -> Magic {
    Magic { at, bytes, kind: Kind::Maybe(container) }
}

const fn foreign(
    at: usize,
    bytes: &'static [u8],
    container: &'static str,
    codec: &'static str,
) -> Magic {
    Magic { at, bytes, kind: Kind::Foreign(container, codec) }
}

const fn no_audio(bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { at: 0, bytes, kind: Kind::NoAudio(what) }
}

/// Patterns of at least four bytes, or of three that no audio format starts with.
const MAGICS: [Magic; 43] = [
    // Before WAVE, which it has as well.
    foreign(0, b"RF64", "rf64", "unknown"),
    maybe(8, b"WAVE", "wave"),
    maybe(8, b"AIFF", "aiff"),
    maybe(8, b"AIFC", "aiff"),
    maybe(0, b"caff", "caf"),
    maybe(0, b"fLaC", "flac"),
    maybe(0, b"OggS", "ogg"),
    maybe(0, b"\x1a\x45\xdf\xa3", MATROSKA),
    maybe(4, b"ftyp", "isomp4"),
    // ASF's header object: WMA, WMV.
    foreign(0, &[0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11], "asf", "unknown"),
    foreign(8, b"AVI ", "avi", "unknown"),
    foreign(0, b"FLV\x01", "flv", "unknown"),
    foreign(0, b".RMF", "rm", "unknown"),
    foreign(0, b"\x00\x00\x01\xba", "mpegps", "unknown"),
    foreign(0, b"#!AMR-WB\n", "amr", "amrwb"),
    foreign(0, b"#!AMR\n", "amr", "amrnb"),
    foreign(0, b"MAC ", "ape", "ape"),
    foreign(0, b"wvpk", "wv", "wavpack"),
    foreign(0, b"MPCK", "mpc8", "musepack8"),
    foreign(0, b"MP+", "mpc", "musepack7"),
    foreign(0, b"TTA1", "tta", "tta"),
    foreign(0, b"TTA2", "tta", "tta"),
    foreign(0, b"tBaK", "tak", "tak"),
    foreign(0, b"DSD ", "dsf", "dsd"),
    foreign(0, b".snd", "au", "unknown"),
    foreign(0, b"riff\x2e\x91\xcf\x11", "w64", "unknown"),
    foreign(0, b"Creative Voice File", "voc", "unknown"),
    foreign(0, b"\x7f\xfe\x80\x01", "dts", "dts"),
    foreign(4, b"\xf8\x72\x6f\xba", "truehd", "truehd"),
    no_audio(b"\x89PNG", "a PNG picture"),
    no_audio(b"\xff\xd8\xff", "a JPEG picture"),
    no_audio(b"GIF8", "a GIF picture"),
    no_audio(b"%PDF", "a PDF document"),
    no_audio(b"PK\x03\x04", "a ZIP archive"),
    no_audio(b"\x1f\x8b\x08", "a gzip archive"),
    no_audio(b"\xfd7zXZ", "an xz archive"),
    no_audio(b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    no_audio(b"BZh", "a bzip2 archive"),
    no_audio(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    no_audio(b"Rar!", "a RAR archive"),
    no_audio(b"\x7fELF", "a program"),
    no_audio(b"SQLite format 3\0", "a database"),
    no_audio(b"MThd", "a MIDI file, which holds notes and no sound"),
];

/// Length of a packet of an MPEG transport stream, which starts with the byte 0x47.
const TRANSPORT_PACKET_BYTES: usize = 188;
/// How many packets in a row make a transport stream.
const TRANSPORT_PACKETS: usize = 4;

/// Judges the first bytes of a file: [`HEAD_BYTES`] of them, or all there are.
pub(super) fn sniff(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::NoAudio("empty");
    }
    let matches = |magic: &&Magic| {
        head.get(magic.at..).is_some_and(|from_there| from_there.starts_with(magic.bytes))
    };
    if let Some(magic) = MAGICS.iter().find(matches) {
        return magic.kind;
    }
    let is_transport_stream = head.len() > TRANSPORT_PACKET_BYTES * (TRANSPORT_PACKETS - 1)
        && (0..TRANSPORT_PACKETS).all(|packet| head[packet * TRANSPORT_PACKET_BYTES] == 0x47);
    if is_transport_stream {
        return Kind::Foreign("mpegts", "unknown");
    }
    if is_ac3(head) {
        return Kind::Foreign("ac3", "ac3");
    }
    if is_text(head) { Kind::NoAudio("a text") } else { Kind::Maybe("unknown") }
}

/// True for a frame header of AC-3 or E-AC-3: the two bytes of its sync word alone are too few.
/// The bit stream identification is at most 16 in both (ETSI TS 102 366, 4.4.2.1 and E.1.2).
fn is_ac3(head: &[u8]) -> bool {
    matches!(head, [0x0b, 0x77, _, _, _, ids, ..] if ids >> 3 <= 16)
}

/// True for UTF-8 without control characters. No audio format gets through this: each has a
/// zero byte or a byte above 0x7f in its first few, followed by one that breaks UTF-8.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut off.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_count_at_their_place_only() {
        assert_eq!(sniff(b"RIFF\x10\0\0\0AVI LIST"), Kind::Foreign("avi", "unknown"));
        assert_eq!(sniff(b"RIFF\x10\0\0\0WAVEfmt "), Kind::Maybe("wave"));
        assert_eq!(sniff(b"RF64\xff\xff\xff\xffWAVEds64"), Kind::Foreign("rf64", "unknown"));
        assert_eq!(sniff(b"\x01AVI \0\0\0\0\0"), Kind::Maybe("unknown"));
        // Cut off inside the pattern.
        assert_eq!(sniff(b"\x89PN"), Kind::Maybe("unknown"));
    }

    #[test]
    fn transport_streams_are_known_by_four_packets() {
        let mut stream = vec![0xff_u8; TRANSPORT_PACKET_BYTES * TRANSPORT_PACKETS];
        for packet in 0..TRANSPORT_PACKETS {
            stream[packet * TRANSPORT_PACKET_BYTES] = 0x47;
        }
        assert_eq!(sniff(&stream), Kind::Foreign("mpegts", "unknown"));
        stream[3 * TRANSPORT_PACKET_BYTES] = 0x48;
        assert_eq!(sniff(&stream), Kind::Maybe("unknown"));
    }

    #[test]
    fn text_may_end_inside_a_character() {
        let text = "naïveté ".repeat(9);
        for end in 1..text.len() {
            assert_eq!(sniff(&text.as_bytes()[..end]), Kind::NoAudio("a text"), "{end}");
        }
        assert_eq!(sniff(b"tone\0deaf"), Kind::Maybe("unknown"));
        assert_eq!(sniff(b"\xff\xfb\x90\x64"), Kind::Maybe("unknown"));
        assert_eq!(sniff(b""), Kind::NoAudio("empty"));
    }
}
