//! Garbage, excess, and clients that hang up: the right code for them, and no harm to others.

use std::time::{Duration, Instant};

use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::{
    AddTrackRequest, Audio, GetStatsRequest, GetTrackRequest, MatchRequest, MatchStatus, audio,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::support::{
    TestServer, add, audio, encoded, fingerprint, fingerprinted, header, noise_wav, with_cold_day,
};

/// The server still answers, and rightly.
async fn check_alive(server: &TestServer) {
    let mut matcher = server.matcher().await;
    let clip = encoded(audio("clips/cold_day_noisy.mp3"));
    let answer = matcher.r#match(clip).await.unwrap().into_inner();
    assert_eq!(answer.status(), MatchStatus::Matched);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_the_callers_fault_and_says_so() {
    let server = with_cold_day("").await;
    let mut matcher = server.matcher().await;
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(50_000).collect();
    let mut damaged =
        fingerprint("clips/cold_day_noisy.mp3").to_bytes(&fingerprint_core::params::Params::default());
    damaged[100] ^= 1;
    let fingerprint = |bytes: Vec<u8>| {
        let source = Some(audio::Source::Fingerprint(bytes.into()));
        MatchRequest { audio: Some(Audio { source }), options: None }
    };
    for (request, says) in [
        (MatchRequest::default(), "audio is not set"),
        (MatchRequest { audio: Some(Audio { source: None }), options: None }, "audio is not set"),
        (encoded(noise), "the clip"),
        (encoded(Vec::new()), "the clip"),
        (encoded(b"RIFF\x24\x00\x00\x00WAVE".to_vec()), "the clip"),
        (fingerprint(b"not one".to_vec()), "EMFP"),
        (fingerprint(damaged), "checksum"),
    ] {
        let status = matcher.r#match(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(says), "{status}");
        assert!(!status.message().contains("/tmp"), "no paths of the server: {status}");
    }
    let mut other = fingerprint_core::params::Params::default();
    other.zone_max_ms += 1;
    let foreign = crate::support::fingerprint("clips/cold_day_noisy.mp3").to_bytes(&other);
    let status = matcher.r#match(fingerprint(foreign)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_break_the_rules_store_nothing() {
    let server = TestServer::start("upload_max = '300KiB'\ntrack_duration_max = '5s'").await;
    let mut catalog = server.catalog().await;
    let wav = audio("codecs/pcm_u8.wav");
    let part = |part| AddTrackRequest { part: Some(part) };
    let send = async |messages: Vec<AddTrackRequest>| {
        let mut catalog = server.catalog().await;
        catalog.add_track(tokio_stream::iter(messages)).await.unwrap_err().code()
    };
    let data = || part(Part::Data(wav.clone().into()));
    let head = |id: &str| part(Part::Header(header(id)));
    assert_eq!(send(vec![]).await, Code::InvalidArgument);
    assert_eq!(send(vec![data()]).await, Code::InvalidArgument);
    assert_eq!(send(vec![head("a")]).await, Code::InvalidArgument);
    assert_eq!(send(vec![head("a"), head("a"), data()]).await, Code::InvalidArgument);
    assert_eq!(send(vec![head("a"), AddTrackRequest { part: None }]).await, Code::InvalidArgument);
    assert_eq!(send(vec![head("bad\nid"), data()]).await, Code::InvalidArgument);
    let garbage = add(&mut catalog, header("a"), &[0x55; 10_000]).await.unwrap_err();
    assert_eq!(garbage.code(), Code::InvalidArgument);
    assert!(garbage.message().starts_with("the upload: "), "{garbage}");
    let large = add(&mut catalog, header("a"), &vec![0; 301 << 10]).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(large.message().contains("upload-max"), "{large}");
    let long = add(&mut catalog, header("a"), &noise_wav(6)).await.unwrap_err();
    assert_eq!(long.code(), Code::ResourceExhausted);
    assert!(long.message().contains("limit of 5 s"), "{long}");
    let mut chatty = header("a");
    chatty.metadata.as_mut().unwrap().title = "x".repeat(65 << 10);
    let chatty = add(&mut catalog, chatty, &wav).await.unwrap_err();
    assert_eq!(chatty.code(), Code::InvalidArgument);
    let mut odd = header("a");
    odd.encoding = 99;
    assert_eq!(add(&mut catalog, odd, &wav).await.unwrap_err().code(), Code::InvalidArgument);
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.track_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_queries_beyond_the_limits_are_exhausting() {
    let server = with_cold_day("message_max = '256KiB'\nquery_duration_max = '11s'").await;
    let mut matcher = server.matcher().await;
    let large = matcher.r#match(encoded(vec![0; 257 << 10])).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted, "{large}");
    assert!(large.message().contains("262144 bytes"), "{large}");
    let long = matcher.r#match(encoded(noise_wav(12))).await.unwrap_err();
    assert_eq!(long.code(), Code::ResourceExhausted);
    assert!(long.message().contains("limit of 11 s"), "{long}");
    let mut long = fingerprint("clips/cold_day_noisy.mp3");
    long.duration_ms = 11_001;
    let long = matcher.r#match(fingerprinted(&long)).await.unwrap_err();
    assert_eq!(long.code(), Code::ResourceExhausted);
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_work_too() {
    // One worker, so that work that went on would keep the next query waiting.
    let server = with_cold_day("workers = 1").await;
    let mut matcher = server.matcher().await;
    // About half an hour of audio in 29 MB: seconds of work.
    let mut slow = Request::new(encoded(noise_wav(1_800)));
    // The header alone, because a tonic client with a timeout would end the call by itself.
    slow.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let status = matcher.r#match(slow).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("deadline"), "{status}");
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_frees_its_worker() {
    let server = with_cold_day("workers = 1\nqueue_len = 1").await;
    let slow = noise_wav(1_800);
    for _ in 0..4 {
        let mut matcher = server.matcher().await;
        let request = encoded(slow.clone());
        let call = tokio::spawn(async move { matcher.r#match(request).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
        call.abort();
        let _ = call.await;
    }
    // All four together would take far longer than this, and the queue would be full.
    let begun = Instant::now();
    while server.matcher().await.r#match(encoded(audio("clips/cold_day_noisy.mp3"))).await.is_err()
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "the worker is still busy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_cut_off_in_the_middle_stores_nothing() {
    let server = with_cold_day("").await;
    let messages = crate::support::messages(header("half"), &audio("catalog/robot_dity.ogg"));
    let (some, _) = messages.split_at(2);
    let stalled = tokio_stream::iter(some.to_vec()).chain(tokio_stream::pending());
    let mut catalog = server.catalog().await;
    let call = tokio::spawn(async move { catalog.add_track(stalled).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    call.abort();
    let mut catalog = server.catalog().await;
    let get = catalog.get_track(GetTrackRequest { track_id: "half".to_owned() }).await;
    assert_eq!(get.unwrap_err().code(), Code::NotFound);
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upload_is_ended_and_others_are_refused_meanwhile() {
    let server = with_cold_day("uploads_open_max = 1\nupload_pause_max = '300ms'").await;
    let stalled = || tokio_stream::iter(crate::support::messages(header("x"), b""));
    let mut catalog = server.catalog().await;
    let stalling = stalled().chain(tokio_stream::pending());
    let first = tokio::spawn(async move { catalog.add_track(stalling).await });
    let mut catalog = server.catalog().await;
    let begun = Instant::now();
    loop {
        // Until the first has arrived, the second is just an upload without data.
        let status = catalog.add_track(stalled()).await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            assert!(status.message().contains("busy"), "{status}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10) && !first.is_finished());
    }
    assert_eq!(first.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    add(&mut catalog, header("x"), &audio("codecs/pcm_u8.wav")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_grpc_harm_nobody() {
    let server = with_cold_day("").await;
    let address = server.url.strip_prefix("http://").unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4_096], b"PRI * HTTP/2.0"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        if garbage.len() < 20 {
            // A client that falls silent in the middle of its greeting.
            check_alive(&server).await;
            continue;
        }
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer));
        let _ = end.await.expect("the server hangs up on what is no HTTP/2");
        check_alive(&server).await;
    }
}
