//! More requests than workers.

use std::time::{Duration, Instant};

use earmark_proto::v1::{GetStatsRequest, MatchStatus};
use tonic::Code;

use crate::support::{
    audio, encoded, fingerprint, fingerprinted, noise_wav, with_cold_day,
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_queue_are_refused_as_busy_and_the_catalog_still_answers() {
    let server = with_cold_day("workers = 1\nqueue_len = 2").await;
    let slow = noise_wav(600);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut matcher, request) = (server.matcher().await, encoded(slow.clone()));
        calls.spawn(async move { matcher.r#match(request).await });
    }
    // Looking up needs no free query worker.
    let mut catalog = server.catalog().await;
    let begun = Instant::now();
    catalog.get_stats(GetStatsRequest {}).await.unwrap();
    let lookup = begun.elapsed();
    let (mut answered, mut busy) = (0, 0);
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            Ok(answer) => {
                assert_eq!(answer.into_inner().status(), MatchStatus::NoMatch);
                answered += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("busy"), "{status}");
                busy += 1;
            }
        }
    }
    assert!(answered >= 3 && busy >= 1, "{answered} answered, {busy} refused");
    assert!(lookup < Duration::from_secs(5), "{lookup:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_all_get_their_own_answer() {
    let server = with_cold_day("").await;
    let mut calls = tokio::task::JoinSet::new();
    let requests = [
        (encoded(audio("clips/cold_day_noisy.mp3")), MatchStatus::Matched),
        (encoded(audio("clips/not_in_catalog.mp3")), MatchStatus::NoMatch),
        (fingerprinted(&fingerprint("clips/cold_day_noisy.mp3")), MatchStatus::Matched),
    ];
    for i in 0..30 {
        let (request, status) = requests[i % 3].clone();
        let mut matcher = server.matcher().await;
        calls.spawn(async move {
            let answer = matcher.r#match(request).await.unwrap().into_inner();
            assert_eq!(answer.status(), status, "call {i}");
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
}

/// Prints figures; run with `--ignored --nocapture` on a machine that does nothing else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn measure_latency_of_match() {
    let server = with_cold_day("log_level = 'warn'").await;
    let mut matcher = server.matcher().await;
    let clip = "clips/cold_day_noisy.mp3";
    for (name, request, count) in [
        ("10 s as fingerprint", fingerprinted(&fingerprint(clip)), 2_000),
        ("10 s as mp3", encoded(audio(clip)), 200),
    ] {
        let mut times_ms = Vec::new();
        for _ in 0..count {
            let request = request.clone();
            let begun = Instant::now();
            matcher.r#match(request).await.unwrap();
            times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times_ms.sort_by(f64::total_cmp);
        let (p50, p99) = (times_ms[count / 2], times_ms[count * 99 / 100]);
        println!("{name}: p50 {p50:.2} ms, p99 {p99:.2} ms of {count} calls, one client");
    }
}
