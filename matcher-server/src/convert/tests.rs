use fingerprint_core::peaks::Peak;
use fingerprint_core::units::ContentHash;
use tonic::Code;

use super::*;

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

fn options(max_matches: u32, min_confidence: f64) -> Option<v1::MatchOptions> {
    Some(v1::MatchOptions { max_matches, min_confidence, ..v1::MatchOptions::default() })
}

#[test]
fn options_are_checked_at_both_ends() {
    assert_eq!(match_options(None).unwrap(), MatchOptions::default());
    assert_eq!(match_options(options(0, 0.0)).unwrap(), MatchOptions::default());
    assert_eq!(match_options(options(MATCHES_MAX, 1.0)).unwrap().matches_max, 1_000);
    assert_eq!(code(match_options(options(MATCHES_MAX + 1, 0.0))), Code::InvalidArgument);
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(code(match_options(options(1, bad))), Code::InvalidArgument, "{bad}");
    }
    let allowed = |max_false_accepts| {
        let max_false_accepts = Some(max_false_accepts);
        match_options(Some(v1::MatchOptions { max_false_accepts, ..v1::MatchOptions::default() }))
    };
    assert_eq!(allowed(0.01).unwrap().false_accepts_max, 0.01);
    for bad in [0.0, -1.0, 1.1, f64::NAN] {
        assert_eq!(code(allowed(bad)), Code::InvalidArgument, "{bad}");
    }
    let speed = |speed_search| {
        match_options(Some(v1::MatchOptions { speed_search, ..v1::MatchOptions::default() }))
    };
    assert_eq!(speed(v1::SpeedSearch::Off.into()).unwrap().speed_search, SpeedSearch::Off);
    assert_eq!(speed(v1::SpeedSearch::Full.into()).unwrap().speed_search, SpeedSearch::Full);
    assert_eq!(code(speed(77)), Code::InvalidArgument);
}

#[test]
fn metadata_is_kept_up_to_its_limit() {
    let title = |bytes| v1::Metadata { title: "x".repeat(bytes), ..v1::Metadata::default() };
    assert!(metadata(Some(title(METADATA_BYTES_MAX))).is_ok());
    assert_eq!(code(metadata(Some(title(METADATA_BYTES_MAX + 1)))), Code::InvalidArgument);
    let message = v1::Metadata {
        artist: "Ä".to_owned(),
        attributes: [("policy".to_owned(), "block".to_owned())].into(),
        ..v1::Metadata::default()
    };
    let core = metadata(Some(message.clone())).unwrap();
    assert_eq!(core.title, None);
    assert_eq!(metadata_message(core), message);
}

#[test]
fn page_tokens_round_trip_and_others_are_refused() {
    assert_eq!(page_after("").unwrap(), None);
    for id in ["a", "Ä/7 9", &"z".repeat(200)] {
        let id = TrackId::new(id).unwrap();
        assert_eq!(page_after(&page_token(&id)).unwrap(), Some(id));
    }
    for bad in ["a", "p1-", "p1-6", "p1-6g", "p1-é1", "p1-0a", "p1-ff", "61"] {
        assert_eq!(code(page_after(bad)), Code::InvalidArgument, "{bad}");
    }
    assert_eq!(page_len(0).unwrap(), 100);
    assert_eq!(page_len(PAGE_MAX).unwrap(), 1_000);
    assert_eq!(code(page_len(PAGE_MAX + 1)), Code::InvalidArgument);
}

/// `peak_count` peaks, `per_second` of them each second.
fn made_up(peak_count: u32, per_second: u32, duration_ms: u64) -> Vec<u8> {
    let peak = |i| Peak {
        time_ms: i / per_second * 1_000,
        freq: u16::try_from(1_000 + i % per_second).unwrap(),
        level: 100,
        rank: 0,
    };
    let peaks = (0..peak_count).map(peak).collect();
    let content_hash = ContentHash([7; 32]);
    let params = Params::default();
    Fingerprint { duration_ms, content_hash, level_db: -20.0, peaks }.to_bytes(&params)
}

#[test]
fn fingerprints_are_limited_in_length_and_density() {
    let params = Params::default();
    let check = |bytes: &[u8]| fingerprint(bytes, 10.0, &params);
    assert!(check(&made_up(100, 100, 10_000)).is_ok());
    assert_eq!(code(check(&made_up(100, 100, 10_001))), Code::ResourceExhausted);
    assert_eq!(code(check(&made_up(0, 1, u64::MAX))), Code::ResourceExhausted);
    assert!(check(&made_up(6_000, 2_000, 9_000)).is_ok());
    assert_eq!(code(check(&made_up(6_003, 2_001, 9_000))), Code::InvalidArgument);
    assert_eq!(code(check(b"EMFP")), Code::InvalidArgument);
    assert_eq!(code(check(b"")), Code::InvalidArgument);
}
