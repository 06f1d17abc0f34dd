//! What is in a clip, over the wire.

use earmark_proto::v1::{MatchOptions, MatchStatus};
use tonic::Code;

use crate::support::{audio, encoded, fingerprint, fingerprinted, noise_wav, with_cold_day};

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_clip_is_found_at_its_place_as_audio_and_as_fingerprint() {
    let server = with_cold_day("").await;
    let mut matcher = server.matcher().await;
    let clip = "clips/cold_day_noisy.mp3";
    for request in [encoded(audio(clip)), fingerprinted(&fingerprint(clip))] {
        let answer = matcher.r#match(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), MatchStatus::Matched);
        assert!((answer.duration_s - 10.0).abs() < 0.2, "{}", answer.duration_s);
        assert!(answer.elapsed_ms > 0.0);
        let best = &answer.matches[0];
        assert_eq!(best.track_id, "cold_day");
        assert_eq!(best.metadata.as_ref().unwrap().title, "title of cold_day");
        assert!((best.reference_offset_s - 12.0).abs() < 0.1, "{best:?}");
        assert!(best.confidence.unwrap() > 0.99 && best.query_start_s < best.query_end_s);
        // Not computed yet, so not invented.
        assert_eq!((best.e_value, best.pitch), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_match_too_short_and_silent_are_answers() {
    let server = with_cold_day("").await;
    let mut matcher = server.matcher().await;
    let silence = {
        let mut wav = noise_wav(3);
        wav[44..].fill(0);
        wav
    };
    let mut short = fingerprint("clips/cold_day_noisy.mp3");
    short.duration_ms = 999;
    short.peaks.retain(|peak| peak.time_ms <= 999);
    for (request, status) in [
        (encoded(audio("clips/not_in_catalog.mp3")), MatchStatus::NoMatch),
        (encoded(silence), MatchStatus::Silent),
        (fingerprinted(&short), MatchStatus::TooShort),
    ] {
        let answer = matcher.r#match(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), status);
        assert!(answer.matches.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_obeyed_and_checked() {
    let server = with_cold_day("").await;
    let mut matcher = server.matcher().await;
    let clip = fingerprint("clips/cold_day_noisy.mp3");
    let ask = |max_matches, min_confidence| {
        let mut request = fingerprinted(&clip);
        request.options = Some(MatchOptions { max_matches, min_confidence });
        request
    };
    let answer = matcher.r#match(ask(1, 0.5)).await.unwrap().into_inner();
    assert_eq!(answer.matches.len(), 1);
    for bad in [ask(1001, 0.0), ask(1, 1.5), ask(1, f64::NAN)] {
        let status = matcher.r#match(bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("options."), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_is_matched_through_the_server() {
    let server = with_cold_day("").await;
    let mut catalog = server.catalog().await;
    let track = audio("catalog/robot_dity.ogg");
    crate::support::add(&mut catalog, crate::support::header("robot_dity"), &track).await.unwrap();
    let mut matcher = server.matcher().await;
    let mut names: Vec<_> = std::fs::read_dir(crate::support::testdata("codecs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 15);
    for name in names {
        let request = encoded(audio(&format!("codecs/{name}")));
        let answer = matcher.r#match(request).await.unwrap().into_inner();
        assert_eq!(answer.matches[0].track_id, "robot_dity", "{name}");
    }
}
