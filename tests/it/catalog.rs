//! Adding, reading, listing and removing tracks.

use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_response::Change;
use earmark_proto::v1::{
    GetStatsRequest, GetTrackRequest, ListTracksRequest, MatchStatus, RemoveTrackRequest,
};
use fingerprint_core::params::Params;
use tonic::Code;

use crate::support::{TestServer, add, audio, encoded, fingerprint, header, with_cold_day};

#[tokio::test(flavor = "multi_thread")]
async fn adding_says_what_it_did() {
    let server = TestServer::start("").await;
    let mut catalog = server.catalog().await;
    let (flac, wav) = (audio("codecs/flac.flac"), audio("codecs/pcm_s16.wav"));

    let first = add(&mut catalog, header("a"), &flac).await.unwrap();
    assert_eq!((first.change(), first.duplicate_of.len()), (Change::Inserted, 0));
    let track = first.track.unwrap();
    assert_eq!((track.track_id.as_str(), track.content_hash.len()), ("a", 64));
    assert!(track.posting_count > 0 && track.peak_count > 0 && track.added_at.is_some());

    // FLAC and WAV hold the same samples.
    let same = add(&mut catalog, header("a"), &wav).await.unwrap();
    assert_eq!(same.change(), Change::Unchanged);
    let mut renamed = header("a");
    renamed.metadata.as_mut().unwrap().title = "another".to_owned();
    let renamed = add(&mut catalog, renamed, &wav).await.unwrap();
    assert_eq!(renamed.change(), Change::MetadataUpdated);
    let twin = add(&mut catalog, header("b"), &wav).await.unwrap();
    assert_eq!((twin.change(), twin.duplicate_of), (Change::Inserted, vec!["a".to_owned()]));
    let other = add(&mut catalog, header("a"), &audio("catalog/cold_day.mp3")).await.unwrap();
    assert_eq!(other.change(), Change::Replaced);

    let mut unnamed = header("");
    unnamed.metadata = None;
    let unnamed = add(&mut catalog, unnamed, &flac).await.unwrap();
    let id = unnamed.track.unwrap().track_id;
    assert!(id.starts_with("b3-") && id.len() == 35, "{id}");
    assert_eq!(unnamed.duplicate_of, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_is_as_good_as_its_audio() {
    let server = TestServer::start("").await;
    let mut catalog = server.catalog().await;
    let mut announced = header("a");
    announced.encoding = Encoding::Fingerprint.into();
    let bytes = fingerprint("catalog/cold_day.mp3").to_bytes(&Params::default());
    add(&mut catalog, announced, &bytes).await.unwrap();
    let again = add(&mut catalog, header("a"), &audio("catalog/cold_day.mp3")).await.unwrap();
    assert_eq!(again.change(), Change::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_track_is_gone_everywhere() {
    let server = with_cold_day("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.track_count, stats.params_digest.len()), (1, 16));
    assert!((stats.duration_s - 30.0).abs() < 0.5);

    let id = || "cold_day".to_owned();
    let get = catalog.get_track(GetTrackRequest { track_id: id() }).await.unwrap();
    let removed = catalog.remove_track(RemoveTrackRequest { track_id: id() }).await.unwrap();
    assert_eq!(get.into_inner().track, removed.into_inner().track);
    let get = catalog.get_track(GetTrackRequest { track_id: id() }).await.unwrap_err();
    let remove = catalog.remove_track(RemoveTrackRequest { track_id: id() }).await.unwrap_err();
    assert_eq!((get.code(), remove.code()), (Code::NotFound, Code::NotFound));
    let clip = encoded(audio("clips/cold_day_noisy.mp3"));
    let answer = matcher.r#match(clip).await.unwrap().into_inner();
    assert_eq!(answer.status(), MatchStatus::NoMatch);
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.track_count, stats.posting_count), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_track_once_in_order() {
    let server = TestServer::start("").await;
    let mut catalog = server.catalog().await;
    let wav = audio("codecs/pcm_u8.wav");
    // Ids that sort differently as text and as numbers, and one that is not ASCII.
    for id in ["t1", "t10", "t2", "Ä", "a b"] {
        add(&mut catalog, header(id), &wav).await.unwrap();
    }
    for page_size in [0, 1, 2, 4, 5, 6] {
        let (mut ids, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListTracksRequest { page_size, page_token };
            let page = catalog.list_tracks(request).await.unwrap().into_inner();
            assert!(!page.tracks.is_empty() && pages < 5, "page {pages} of {page_size}");
            ids.extend(page.tracks.into_iter().map(|track| track.track_id));
            (page_token, pages) = (page.next_page_token, pages + 1);
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids, ["a b", "t1", "t10", "t2", "Ä"], "pages of {page_size}");
    }
    for (page_size, page_token) in [(1001, ""), (1, "t1"), (1, "p1-zz")] {
        let request = ListTracksRequest { page_size, page_token: page_token.to_owned() };
        let status = catalog.list_tracks(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}
