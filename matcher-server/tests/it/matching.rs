//! `MatchService`: right answers, refusals, garbage.

use earmark_proto::v1::audio::Source;
use earmark_proto::v1::batch_match_result::Result as Answer;
use earmark_proto::v1::{Audio, BatchMatchRequest, MatchOptions, MatchRequest, MatchStatus};
use fingerprint_core::fingerprint::{Fingerprint, Fingerprinter};
use fingerprint_core::params::{Params, Role};
use tonic::Code;

use crate::support::{RATE_HZ, Server, add, cut, find, query, testdata, tune, wav};

/// Recognition promises offsets within half a second; clean cuts are far better.
const OFFSET_TOLERANCE_S: f64 = 0.1;

fn fingerprint(samples: &[f32], params: &Params) -> Fingerprint {
    let mut fingerprinter = Fingerprinter::new(params, Role::Query);
    fingerprinter.push(samples, RATE_HZ).unwrap();
    fingerprinter.finish()
}

fn of_fingerprint(bytes: Vec<u8>) -> MatchRequest {
    let audio = Some(Audio { source: Some(Source::Fingerprint(bytes.into())) });
    MatchRequest { audio, ..MatchRequest::default() }
}

#[tokio::test]
async fn a_clip_is_found_where_it_was_cut_and_a_stranger_is_not() {
    let server = Server::start("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let tunes = [tune(1, 30), tune(2, 30)];
    for (id, tune) in ["one", "two"].iter().zip(&tunes) {
        add(&mut catalog, id, &wav(tune)).await.unwrap();
    }
    let clip = cut(&tunes[1], 12, 20);
    let answer = find(&mut matcher, wav(clip)).await.unwrap();
    assert_eq!(answer.status(), MatchStatus::Matched);
    assert!((answer.duration_s - 8.0).abs() < 0.01 && answer.elapsed_ms > 0.0, "{answer:?}");
    let best = &answer.matches[0];
    assert_eq!(best.track_id, "two");
    assert!((best.reference_offset_s - 12.0).abs() < OFFSET_TOLERANCE_S, "{best:?}");
    assert!(best.query_start_s < best.query_end_s && best.query_end_s <= 8.1, "{best:?}");

    let of_clip = fingerprint(clip, &Params::default()).to_bytes(&Params::default());
    let again = matcher.r#match(of_fingerprint(of_clip)).await.unwrap().into_inner();
    assert_eq!(again.matches[0].track_id, "two");
    assert!((again.matches[0].reference_offset_s - best.reference_offset_s).abs() < 0.01);

    let stranger = find(&mut matcher, wav(&tune(3, 8))).await.unwrap();
    assert_eq!((stranger.status(), stranger.matches.len()), (MatchStatus::NoMatch, 0));
}

#[tokio::test]
async fn real_music_is_found_through_noise() {
    let server = Server::start("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    for (id, file) in [("a", "catalog/cold_day.mp3"), ("b", "catalog/the_simplicity.flac")] {
        add(&mut catalog, id, &testdata(file)).await.unwrap();
    }
    let answer = find(&mut matcher, testdata("clips/cold_day_noisy.mp3")).await.unwrap();
    assert_eq!(answer.matches[0].track_id, "a");
    assert!((answer.matches[0].reference_offset_s - 12.0).abs() < OFFSET_TOLERANCE_S);
    let outsider = find(&mut matcher, testdata("clips/not_in_catalog.mp3")).await.unwrap();
    assert_eq!(outsider.status(), MatchStatus::NoMatch);
}

#[tokio::test]
async fn silence_and_snippets_are_answers() {
    let server = Server::start("").await;
    let mut matcher = server.matcher().await;
    let silent = find(&mut matcher, wav(&[0.0; 5 * RATE_HZ as usize])).await.unwrap();
    assert_eq!(silent.status(), MatchStatus::Silent);
    let short = find(&mut matcher, wav(&tune(1, 1)[..RATE_HZ as usize / 10])).await.unwrap();
    assert_eq!(short.status(), MatchStatus::TooShort);
}

#[tokio::test]
async fn options_limit_what_is_reported() {
    let server = Server::start("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let audio = wav(&tune(1, 20));
    for id in ["copy-1", "copy-2"] {
        add(&mut catalog, id, &audio).await.unwrap();
    }
    let with = |max_matches, min_confidence| MatchRequest {
        options: Some(MatchOptions { max_matches, min_confidence, ..MatchOptions::default() }),
        ..query(audio.clone())
    };
    let count = async |matcher: &mut _, max, min| {
        let matcher: &mut earmark_proto::v1::match_service_client::MatchServiceClient<_> = matcher;
        matcher.r#match(with(max, min)).await.map(|answer| answer.into_inner().matches.len())
    };
    assert_eq!(count(&mut matcher, 0, 0.0).await.unwrap(), 2);
    assert_eq!(count(&mut matcher, 1, 0.0).await.unwrap(), 1);
    for (max, min) in [(1_001, 0.0), (1, -0.1), (1, 1.5), (1, f64::NAN)] {
        let status = count(&mut matcher, max, min).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{max} {min}");
        assert!(status.message().contains("options."), "{status}");
    }
}

#[tokio::test]
async fn garbage_is_refused_by_name_and_tells_nothing_of_this_machine() {
    let server = Server::start("").await;
    let mut matcher = server.matcher().await;
    let mut random = fastrand::Rng::with_seed(5);
    let noise: Vec<u8> = (0..100_000).map(|_| random.u8(..)).collect();
    let temporary = std::env::temp_dir().display().to_string();
    for garbage in [Vec::new(), b"no audio".to_vec(), noise, wav(&[])] {
        let status = find(&mut matcher, garbage).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with("the clip: "), "{status}");
        assert!(!status.message().contains(&temporary), "{status}");
    }
    let nothing = matcher.r#match(MatchRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    // The server is none the worse for it.
    assert_eq!(find(&mut matcher, wav(&tune(1, 5))).await.unwrap().status(), MatchStatus::NoMatch);
}

#[tokio::test]
async fn fingerprints_that_are_damaged_or_foreign_are_refused() {
    let server = Server::start("").await;
    let mut matcher = server.matcher().await;
    let params = Params::default();
    let whole = fingerprint(&tune(1, 5), &params);
    let bytes = whole.to_bytes(&params);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for bad in [Vec::new(), b"EMFP".to_vec(), bytes[..bytes.len() - 1].to_vec(), flipped] {
        let status = matcher.r#match(of_fingerprint(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let others = whole.to_bytes(&Params { floor_db: -60.0, ..params });
    let status = matcher.r#match(of_fingerprint(others)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}

#[tokio::test]
async fn a_batch_is_answered_clip_by_clip_in_its_order() {
    let server = Server::start("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let audio = tune(1, 20);
    add(&mut catalog, "x", &wav(&audio)).await.unwrap();
    let named =
        |bytes: Vec<u8>, id: &str| MatchRequest { request_id: id.to_owned(), ..query(bytes) };
    let requests = vec![
        named(wav(cut(&audio, 3, 13)), "first"),
        named(b"this is no audio".to_vec(), "second"),
        named(wav(&tune(2, 10)), "third"),
    ];
    let results =
        matcher.batch_match(BatchMatchRequest { requests }).await.unwrap().into_inner().results;
    let [Some(Answer::Response(first)), Some(Answer::Error(second)), Some(Answer::Response(third))] =
        [0, 1, 2].map(|i| results[i].result.clone())
    else {
        panic!("{results:?}")
    };
    assert_eq!((first.status(), first.request_id.as_str()), (MatchStatus::Matched, "first"));
    assert_eq!(
        (second.reason.as_str(), second.request_id.as_str()),
        ("AUDIO_UNDECODABLE", "second")
    );
    assert_eq!((third.status(), third.request_id.as_str()), (MatchStatus::NoMatch, "third"));
    for count in [0, 101] {
        let requests = vec![MatchRequest::default(); count];
        let refused = matcher.batch_match(BatchMatchRequest { requests }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}
