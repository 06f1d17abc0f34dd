//! The real binary and a real gRPC client, on real audio.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::audio::Source;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::{
    AddTrackHeader, AddTrackRequest, Audio, GetTrackRequest, ListTracksRequest, MatchRequest,
    MatchResponse, MatchStatus, RemoveTrackRequest,
};
use tonic::Code;
use tonic::transport::Channel;

struct Server {
    child: Child,
    url: String,
    _index: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> Server {
    let index = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_earmark-server"))
        .args(["--listen", "127.0.0.1:0", "--index"])
        .arg(index.path())
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line =
        lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening on")).unwrap();
    let url = format!("http://{}", line.rsplit(' ').next().unwrap());
    // Nobody may block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, url, _index: index }
}

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)).unwrap()
}

fn upload(id: &str, audio: &[u8]) -> Vec<AddTrackRequest> {
    let header = AddTrackHeader { track_id: id.to_owned(), ..AddTrackHeader::default() };
    let part = |part| AddTrackRequest { part: Some(part) };
    let pieces = audio.chunks(64 << 10).map(|piece| part(Part::Data(piece.to_vec().into())));
    std::iter::once(part(Part::Header(header))).chain(pieces).collect()
}

async fn find(
    client: &mut MatchServiceClient<Channel>,
    audio: Vec<u8>,
) -> Result<MatchResponse, tonic::Status> {
    let audio = Some(Audio { source: Some(Source::Encoded(audio.into())) });
    Ok(client.r#match(MatchRequest { audio, options: None }).await?.into_inner())
}

#[tokio::test]
async fn a_track_is_added_found_listed_and_removed() {
    let server = start();
    let mut catalog = CatalogServiceClient::connect(server.url.clone()).await.unwrap();
    let mut matcher = MatchServiceClient::connect(server.url.clone()).await.unwrap();
    for (id, file) in [("a", "catalog/cold_day.mp3"), ("b", "catalog/the_simplicity.flac")] {
        let messages = tokio_stream::iter(upload(id, &testdata(file)));
        catalog.add_track(messages).await.unwrap();
    }
    let clip = testdata("clips/cold_day_noisy.mp3");
    let answer = find(&mut matcher, clip.clone()).await.unwrap();
    assert_eq!(answer.status(), MatchStatus::Matched);
    assert_eq!(answer.matches[0].track_id, "a");
    assert!((answer.matches[0].reference_offset_s - 12.0).abs() < 0.1);
    let outsider = find(&mut matcher, testdata("clips/not_in_catalog.mp3")).await.unwrap();
    assert_eq!(outsider.status(), MatchStatus::NoMatch);

    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTracksRequest { page_size: 1, page_token };
        let page = catalog.list_tracks(request).await.unwrap().into_inner();
        ids.extend(page.tracks.into_iter().map(|track| track.track_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["a", "b"]);

    catalog.remove_track(RemoveTrackRequest { track_id: "a".to_owned() }).await.unwrap();
    let gone = catalog.get_track(GetTrackRequest { track_id: "a".to_owned() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(find(&mut matcher, clip).await.unwrap().status(), MatchStatus::NoMatch);
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let server = start();
    let mut matcher = MatchServiceClient::connect(server.url.clone()).await.unwrap();
    let mut catalog = CatalogServiceClient::connect(server.url.clone()).await.unwrap();
    let refused = find(&mut matcher, b"this is no audio".to_vec()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let empty = matcher.r#match(MatchRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument, "{empty}");
    let no_header = tokio_stream::iter(upload("x", b"abc").split_off(1));
    assert_eq!(catalog.add_track(no_header).await.unwrap_err().code(), Code::InvalidArgument);
    let still = find(&mut matcher, testdata("clips/not_in_catalog.mp3")).await.unwrap();
    assert_eq!(still.status(), MatchStatus::NoMatch);
}

#[tokio::test]
async fn a_termination_signal_ends_the_server_cleanly() {
    let mut server = start();
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}
