//! `CatalogService`: the life of a track, pages, refused uploads.

use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_response::Change;
use earmark_proto::v1::{
    AddTrackHeader, AddTrackRequest, GetStatsRequest, GetTrackRequest, ListTracksRequest,
    MatchStatus, Metadata, RemoveTrackRequest,
};
use fingerprint_core::fingerprint::Fingerprinter;
use fingerprint_core::params::{Params, Role};
use tonic::Code;

use crate::support::{
    RATE_HZ, Server, add, cut, data_message, find, header_message, tune, upload, wav,
};

fn get(id: &str) -> GetTrackRequest {
    GetTrackRequest { track_id: id.to_owned() }
}

fn remove(id: &str) -> RemoveTrackRequest {
    RemoveTrackRequest { track_id: id.to_owned(), ..RemoveTrackRequest::default() }
}

#[tokio::test]
async fn a_track_is_added_updated_replaced_and_removed() {
    let server = Server::start("").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let (first, second) = (tune(1, 20), tune(2, 20));
    let added = add(&mut catalog, "x", &wav(&first)).await.unwrap();
    assert_eq!((added.change(), added.duplicate_of.len()), (Change::Inserted, 0));
    let again = add(&mut catalog, "x", &wav(&first)).await.unwrap();
    assert_eq!(again.change(), Change::Unchanged);

    let metadata = Metadata {
        title: "Ünder".to_owned(),
        attributes: [("policy".to_owned(), "block".to_owned())].into(),
        ..Metadata::default()
    };
    let header = AddTrackHeader {
        track_id: "x".to_owned(),
        metadata: Some(metadata.clone()),
        encoding: Encoding::Audio.into(),
        ..AddTrackHeader::default()
    };
    let messages = tokio_stream::iter(upload(header, &wav(&first)));
    let updated = catalog.add_track(messages).await.unwrap().into_inner();
    assert_eq!(updated.change(), Change::MetadataUpdated);
    let track = catalog.get_track(get("x")).await.unwrap().into_inner().track.unwrap();
    assert_eq!(track.metadata, Some(metadata));
    assert!((track.duration_s - 20.0).abs() < 0.01 && track.content_hash.len() == 64);
    assert!(track.posting_count > 0 && track.peak_count > 0 && track.added_at.is_some());

    let copy = add(&mut catalog, "copy", &wav(&first)).await.unwrap();
    assert_eq!(copy.duplicate_of, ["x"]);
    catalog.remove_track(remove("copy")).await.unwrap();

    let replaced = add(&mut catalog, "x", &wav(&second)).await.unwrap();
    assert_eq!(replaced.change(), Change::Replaced);
    let old = find(&mut matcher, wav(cut(&first, 5, 13))).await.unwrap();
    assert_eq!(old.status(), MatchStatus::NoMatch);
    let new = find(&mut matcher, wav(cut(&second, 5, 13))).await.unwrap();
    assert_eq!(new.matches[0].track_id, "x");

    let removed = catalog.remove_track(remove("x")).await.unwrap().into_inner();
    assert_eq!(removed.track.unwrap().track_id, "x");
    let gone = find(&mut matcher, wav(cut(&second, 5, 13))).await.unwrap();
    assert_eq!(gone.status(), MatchStatus::NoMatch);
    for status in [
        catalog.get_track(get("x")).await.unwrap_err(),
        catalog.remove_track(remove("x")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound);
    }
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.track_count, stats.posting_count), (0, 0));
    assert_eq!(stats.params_digest, format!("{:016x}", Params::default().digest()));
}

#[tokio::test]
async fn a_fingerprint_is_as_good_as_audio_and_gives_the_same_id() {
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let by_audio = add(&mut catalog, "", &wav(&tune(1, 10))).await.unwrap();
    let id = by_audio.track.unwrap().track_id;
    assert!(id.starts_with("b3-"), "{id}");

    // What the WAV file holds: the samples as 16-bit numbers.
    let mut fingerprinter = Fingerprinter::new(&Params::default(), Role::Track);
    let decoded: Vec<f32> = tune(1, 10).iter().map(|x| (x * 20_000.0).trunc() / 32_768.0).collect();
    fingerprinter.push(&decoded, RATE_HZ).unwrap();
    let bytes = fingerprinter.finish().to_bytes(&Params::default());
    let header =
        AddTrackHeader { encoding: Encoding::Fingerprint.into(), ..AddTrackHeader::default() };
    let messages = tokio_stream::iter(upload(header, &bytes));
    let by_fingerprint = catalog.add_track(messages).await.unwrap().into_inner();
    assert_eq!(by_fingerprint.change(), Change::Unchanged);
    assert_eq!(by_fingerprint.track.unwrap().track_id, id);
}

#[tokio::test]
async fn pages_cover_every_track_once_in_order() {
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let ids = ["a", "b", "c", "d", "ä"];
    for (seed, id) in ids.iter().enumerate().rev() {
        add(&mut catalog, id, &wav(&tune(seed as u64, 3))).await.unwrap();
    }
    for page_size in [1, 2, 4, 5, 6, 0] {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListTracksRequest { page_size, page_token };
            let page = catalog.list_tracks(request).await.unwrap().into_inner();
            assert!(page_size == 0 || page.tracks.len() <= page_size as usize);
            found.extend(page.tracks.into_iter().map(|track| track.track_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, ids, "pages of {page_size}");
    }
    for (page_size, page_token) in [(1_001, ""), (1, "made up")] {
        let request = ListTracksRequest { page_size, page_token: page_token.to_owned() };
        let status = catalog.list_tracks(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn refused_uploads_leave_nothing_behind() {
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let named = |id: &str| AddTrackHeader { track_id: id.to_owned(), ..AddTrackHeader::default() };
    let audio = wav(&tune(1, 3));
    let too_much = Metadata { title: "t".repeat((64 << 10) + 1), ..Metadata::default() };
    let refused: [(&str, Vec<AddTrackRequest>); 9] = [
        ("nothing", vec![]),
        ("an empty message", vec![AddTrackRequest { part: None }]),
        ("data first", vec![data_message(&audio)]),
        ("no data", vec![header_message(named("x"))]),
        ("two headers", vec![header_message(named("x")), header_message(named("x"))]),
        ("a bad id", upload(named("a\nb"), &audio)),
        ("garbage", upload(named("x"), b"no audio at all")),
        ("metadata", upload(AddTrackHeader { metadata: Some(too_much), ..named("x") }, &audio)),
        ("an unknown encoding", upload(AddTrackHeader { encoding: 9, ..named("x") }, &audio)),
    ];
    for (what, messages) in refused {
        let status = catalog.add_track(tokio_stream::iter(messages)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.track_count, 0);
    assert_eq!(add(&mut catalog, "x", &audio).await.unwrap().change(), Change::Inserted);
}
