//! Streams over gRPC: in samples, fingerprints and encoded bytes; late, twice and lost; broken off and
//! gone on with; refused.

use std::time::Duration;

use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use earmark_proto::v1::pcm_format::Encoding;
use earmark_proto::v1::stream_header::Format;
use earmark_proto::v1::{
    EncodedFormat, FingerprintFormat, MatchStreamRequest, MatchStreamResponse, PcmFormat,
    StreamAudio, StreamHeader, StreamMatch, StreamStarted,
};
use fingerprint_core::fingerprint::Fingerprinter;
use fingerprint_core::params::{Params, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::support::{RATE_HZ, Server, add, cut, testdata, tune, wav};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that has the tune of seed 1, half a minute long.
async fn server(lines: &str) -> (Server, MatchServiceClient<Channel>) {
    let server = Server::start(lines).await;
    add(&mut server.catalog().await, "tune", &wav(&tune(1, 30))).await.unwrap();
    let matcher = server.matcher().await;
    (server, matcher)
}

fn pcm(sample_rate_hz: u32) -> Format {
    let encoding = Encoding::S16.into();
    Format::Pcm(PcmFormat { sample_rate_hz, channel_count: 1, encoding })
}

fn header(format: Format, stream_id: &str) -> StreamHeader {
    StreamHeader {
        format: Some(format),
        stream_id: stream_id.to_owned(),
        ..StreamHeader::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
fn bytes_of(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|sample| ((sample * 20_000.0) as i16).to_le_bytes()).collect()
}

/// Packets of a fifth of a second, with the positions of their first samples.
fn packets(samples: &[f32], first: usize) -> Vec<(usize, Vec<u8>)> {
    let len = RATE_HZ as usize / 5;
    let place = |(i, packet): (usize, &[f32])| (first + i * len, bytes_of(packet));
    samples.chunks(len).enumerate().map(place).collect()
}

/// One connection of a stream.
struct Call {
    requests: mpsc::Sender<MatchStreamRequest>,
    answers: Streaming<MatchStreamResponse>,
}

impl Call {
    async fn open(
        matcher: &mut MatchServiceClient<Channel>,
        header: StreamHeader,
    ) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(1_000);
        requests.send(MatchStreamRequest { part: Some(Part::Header(header)) }).await.unwrap();
        let answers = matcher.match_stream(ReceiverStream::new(sent)).await?.into_inner();
        Ok(Self { requests, answers })
    }

    async fn send(&self, data: Vec<u8>, position: Option<usize>) {
        let position = position.map(|position| position as u64);
        let part = Some(Part::Audio(StreamAudio { data: data.into(), position }));
        // A server that has ended the stream does not take any more.
        let _ = self.requests.send(MatchStreamRequest { part }).await;
    }

    async fn next(&mut self) -> Result<Option<Event>, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.unwrap()?;
        Ok(answer.and_then(|answer| answer.event))
    }

    async fn started(&mut self) -> StreamStarted {
        match self.next().await {
            Ok(Some(Event::Started(started))) => started,
            other => panic!("{other:?}"),
        }
    }

    /// All further events of a stream whose client has sent everything.
    async fn rest(mut self) -> Result<Vec<Event>, Status> {
        drop(self.requests);
        let mut events = Vec::new();
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.unwrap()?;
            let Some(answer) = answer else { return Ok(events) };
            events.extend(answer.event);
        }
    }
}

fn ended(events: &[Event]) -> Vec<StreamMatch> {
    let found = |event: &Event| {
        if let Event::MatchEnded(found) = event { Some(found.clone()) } else { None }
    };
    events.iter().filter_map(found).collect()
}

/// The one match that has ended: id, beginning and end in the stream, place in the track.
fn only(events: &[Event]) -> (u64, [f64; 3]) {
    let ended = ended(events);
    let [only] = &ended[..] else { panic!("{events:?}") };
    let found = only.r#match.clone().unwrap();
    assert_eq!(found.track_id, "tune");
    (only.match_id, [found.query_start_s, found.query_end_s, found.reference_start_s])
}

fn is_about(times: [f64; 3], expected: [f64; 3]) -> bool {
    times.iter().zip(expected).all(|(time, expected)| (time - expected).abs() < 1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_fingerprints_and_encoded_bytes_tell_the_same() {
    let (_server, mut matcher) = server("").await;
    let clip = cut(&tune(1, 30), 5, 25).to_vec();
    // Samples, as they are.
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "")).await.unwrap();
    let started = call.started().await;
    assert_eq!(started, StreamStarted { resumed: false, position_ms: 0, position: 0 });
    for (_, packet) in packets(&clip, 0) {
        call.send(packet, None).await;
    }
    let events = call.rest().await.unwrap();
    assert!(matches!(events.first(), Some(Event::MatchStarted(_))), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Progress(_))), "{events:?}");
    let (id, times) = only(&events);
    assert!(id == 1 && is_about(times, [0.0, 20.0, 5.0]), "{times:?}");
    // Fingerprints of a second.
    let mut fingerprinter = Fingerprinter::new(&Params::default(), Role::Query);
    fingerprinter.push(&clip, RATE_HZ).unwrap();
    let whole = fingerprinter.finish();
    let mut call = Call::open(&mut matcher, header(Format::Fingerprint(FingerprintFormat {}), ""))
        .await
        .unwrap();
    call.started().await;
    for from_ms in (0..20_000_u32).step_by(1_000) {
        let mut part = whole.clone();
        part.duration_ms = 1_000;
        part.peaks.retain(|peak| (from_ms..from_ms + 1_000).contains(&peak.time_ms));
        part.peaks.iter_mut().for_each(|peak| peak.time_ms -= from_ms);
        call.send(part.to_bytes(&Params::default()), Some(from_ms as usize)).await;
    }
    let (_, of_fingerprints) = only(&call.rest().await.unwrap());
    assert!(is_about(of_fingerprints, times), "{of_fingerprints:?}");
    // A file, in pieces.
    let mut call =
        Call::open(&mut matcher, header(Format::Encoded(EncodedFormat {}), "")).await.unwrap();
    call.started().await;
    for piece in wav(&clip).chunks(10_000) {
        call.send(piece.to_vec(), None).await;
    }
    let (_, of_bytes) = only(&call.rest().await.unwrap());
    assert!(is_about(of_bytes, times), "{of_bytes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_repeated_packets_are_put_in_order_and_missing_ones_are_told() {
    let (_server, mut matcher) = server("").await;
    let clip = cut(&tune(1, 30), 5, 25).to_vec();
    let mut packets = packets(&clip, 0);
    // Neighbours change places, one comes twice, and three seconds do not come.
    for pair in packets.chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
    let again = packets[3].clone();
    packets.insert(6, again);
    packets.retain(|(position, _)| !(8..11).contains(&(position / RATE_HZ as usize)));
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "")).await.unwrap();
    call.started().await;
    for (position, packet) in packets {
        call.send(packet, Some(position)).await;
    }
    let events = call.rest().await.unwrap();
    let lost: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::AudioLost(lost) = event { Some(*lost) } else { None })
        .collect();
    assert_eq!(
        lost.iter().map(|lost| (lost.start_s, lost.end_s)).collect::<Vec<_>>(),
        [(8.0, 11.0)]
    );
    let late = events.iter().find_map(|event| {
        if let Event::Progress(progress) = event { Some(progress.late_s) } else { None }
    });
    assert!((late.unwrap() - 0.2).abs() < 1e-9, "{late:?}");
    let (_, times) = only(&events);
    assert!(is_about(times, [0.0, 20.0, 5.0]), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_gone_on_with_under_its_name() {
    let (_server, mut matcher) = server("").await;
    let clip = cut(&tune(1, 30), 5, 25).to_vec();
    let packets = packets(&clip, 0);
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    call.started().await;
    for (position, packet) in &packets[..50] {
        call.send(packet.clone(), Some(*position)).await;
    }
    let Ok(Some(Event::MatchStarted(first))) = call.next().await else { panic!("no match") };
    // Hangs up in the middle.
    drop(call);
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    let started = call.started().await;
    assert!(started.resumed && started.position > 0, "{started:?}");
    assert_eq!(started.position_ms, started.position * 1_000 / u64::from(RATE_HZ));
    let Ok(Some(Event::MatchUpdated(again))) = call.next().await else { panic!("not retold") };
    assert_eq!(again.match_id, first.match_id);
    // Sends a little twice.
    let from = usize::try_from(started.position).unwrap().saturating_sub(7_000);
    for (position, packet) in packets.iter().filter(|(position, _)| *position >= from) {
        call.send(packet.clone(), Some(*position)).await;
    }
    let (id, times) = only(&call.rest().await.unwrap());
    assert!(id == first.match_id && is_about(times, [0.0, 20.0, 5.0]), "{times:?}");
    // Its name is free again.
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    assert!(!call.started().await.resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_call_takes_a_stream_over_but_not_in_another_format() {
    let (_server, mut matcher) = server("").await;
    let mut first = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    first.started().await;
    first.send(bytes_of(&tune(1, 1)), None).await;
    let refused = Call::open(&mut matcher, header(pcm(8_000), "radio")).await.err().unwrap();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("format"));
    assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
    let mut second = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    assert!(second.started().await.resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_stream_is_refused_by_name() {
    let (_server, mut matcher) = server("").await;
    let name = "x".repeat(129);
    let bad = [
        (StreamHeader::default(), "header.format"),
        (header(pcm(10), ""), "sample_rate_hz"),
        (header(pcm(RATE_HZ), &name), "stream_id"),
        (header(Format::Encoded(EncodedFormat {}), "x"), "stream_id"),
        (StreamHeader { start_ms: 1 << 32, ..header(pcm(RATE_HZ), "") }, "start_ms"),
    ];
    for (header, named) in bad {
        let status = Call::open(&mut matcher, header).await.err().unwrap();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(named),
            "{status}"
        );
    }
    let packets: [(Format, Vec<u8>, Option<usize>, &str); 5] = [
        (pcm(RATE_HZ), vec![0; 3], None, "whole frames"),
        (pcm(RATE_HZ), vec![0; 4], Some(1 << 60), "audio.position"),
        (
            Format::Fingerprint(FingerprintFormat {}),
            vec![1; 99],
            None,
            "not an Earmark fingerprint",
        ),
        (Format::Encoded(EncodedFormat {}), b"this is no audio".repeat(999), None, "the stream"),
        (Format::Encoded(EncodedFormat {}), vec![0; 9], Some(0), "audio.position"),
    ];
    for (format, data, position, said) in packets {
        let mut call = Call::open(&mut matcher, header(format, "")).await.unwrap();
        call.started().await;
        call.send(data, position).await;
        let status = call.rest().await.unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains(said),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stream_has_a_limit_of_its_own() {
    let (_server, mut matcher) = server("").await;
    for format in [pcm(RATE_HZ), Format::Encoded(EncodedFormat {})] {
        let mut call = Call::open(&mut matcher, header(format, "")).await.unwrap();
        call.started().await;
        // Of samples 10 s are the limit, so no more are sent before the last.
        call.send(vec![0; (1 << 20) + 2_000], None).await;
        let status = call.rest().await.unwrap_err();
        assert!(
            status.code() == Code::ResourceExhausted
                && status.message().contains("smaller packets"),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_without_audio_are_not_kept_for_ever() {
    let (_server, mut matcher) = server("").await;
    let format = Format::Encoded(EncodedFormat {});
    let mut call = Call::open(&mut matcher, header(format, "")).await.unwrap();
    call.started().await;
    for _ in 0..17 {
        call.send(vec![7; 1 << 20], None).await;
    }
    // The client does not end the stream: the server does.
    let status = call.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("first 16777216 bytes"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_only_ffmpeg_could_decode_are_refused_at_once() {
    let (_server, mut matcher) = server("").await;
    let format = Format::Encoded(EncodedFormat {});
    let mut call = Call::open(&mut matcher, header(format, "")).await.unwrap();
    call.started().await;
    call.send(testdata("codecs/ac3.ac3"), None).await;
    // The client does not end the stream.
    let status = call.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for said in ["the stream cannot be followed: ac3/ac3 is not built in", "whole files", "MP3"] {
        assert!(status.message().contains(said), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_and_free_their_places() {
    let (_server, mut matcher) = server("streams_max = 2\nstream_pause_max = '300ms'").await;
    let mut first = Call::open(&mut matcher, header(pcm(RATE_HZ), "")).await.unwrap();
    first.started().await;
    let second =
        Call::open(&mut matcher, header(Format::Encoded(EncodedFormat {}), "")).await.unwrap();
    let refused = Call::open(&mut matcher, header(pcm(RATE_HZ), "")).await.err().unwrap();
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("streams-max"));
    // Whoever sends nothing does not keep its place.
    assert_eq!(first.next().await.unwrap_err().code(), Code::DeadlineExceeded);
    drop(second);
    let free = async {
        while Call::open(&mut matcher, header(pcm(RATE_HZ), "")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_hands_its_streams_back() {
    let (mut server, mut matcher) = server("").await;
    let mut call = Call::open(&mut matcher, header(pcm(RATE_HZ), "radio")).await.unwrap();
    call.started().await;
    let mut encoded =
        Call::open(&mut matcher, header(Format::Encoded(EncodedFormat {}), "")).await.unwrap();
    encoded.send(wav(&tune(1, 1)), None).await;
    encoded.started().await;
    server.stop();
    for call in [&mut call, &mut encoded] {
        let status = call.next().await.unwrap_err();
        assert!(
            status.code() == Code::Unavailable && status.message().contains("go on"),
            "{status}"
        );
    }
    drop((call, encoded, matcher));
    assert_eq!(server.ended().await, matcher_server::Ending::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_holds_the_server_up() {
    let (_server, mut matcher) = server("workers = 1\nstreams_max = 1").await;
    // The end of time.
    let last = StreamHeader { start_ms: u64::from(u32::MAX), ..header(pcm(RATE_HZ), "") };
    let mut call = Call::open(&mut matcher, last).await.unwrap();
    call.started().await;
    call.rest().await.unwrap();
    let late = StreamHeader { start_ms: u64::from(u32::MAX) - 5_000, ..header(pcm(RATE_HZ), "") };
    let mut call = open_soon(&mut matcher, late).await;
    call.started().await;
    for (_, packet) in packets(&tune(1, 6), 0) {
        call.send(packet, None).await;
    }
    let status = call.rest().await.unwrap_err();
    assert!(status.message().contains("49 days"), "{status}");
    // Packets without anything in them, and then a jump of a month.
    let mut call = open_soon(&mut matcher, header(pcm(RATE_HZ), "")).await;
    call.started().await;
    for _ in 0..3_000 {
        call.send(Vec::new(), None).await;
    }
    let month = 30 * 86_400 * RATE_HZ as usize;
    for (position, packet) in packets(&tune(1, 6), month) {
        call.send(packet, Some(position)).await;
    }
    let events = call.rest().await.unwrap();
    assert!(matches!(events.first(), Some(Event::AudioLost(_))), "{events:?}");
    let (_, times) = only(&events);
    assert!(is_about(times, [month as f64 / f64::from(RATE_HZ), times[1], 0.0]), "{times:?}");
    // A name that was left gives its place up.
    let left = open_soon(&mut matcher, header(pcm(RATE_HZ), "left")).await;
    drop(left);
    let mut call = open_soon(&mut matcher, header(pcm(RATE_HZ), "")).await;
    call.started().await;
}

/// Opens a stream as soon as the one before has freed its place.
async fn open_soon(matcher: &mut MatchServiceClient<Channel>, header: StreamHeader) -> Call {
    let opened = async {
        loop {
            match Call::open(matcher, header.clone()).await {
                Ok(call) => return call,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.unwrap()
}
