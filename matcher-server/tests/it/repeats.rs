//! Changes that are sent again under the name of the first: over gRPC, over HTTP, at once, and after broken calls.

use std::time::Duration;

use earmark_proto::v1::add_track_response::Change;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::{
    AddTrackHeader, AddTrackResponse, GetTrackRequest, Metadata, RemoveTrackRequest,
    RemoveTrackResponse,
};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use ureq::Agent;

use crate::security::{Keys, with_key};
use crate::support::{Server, tune, upload, wav};

fn header(track_id: &str, request_id: &str) -> AddTrackHeader {
    AddTrackHeader {
        track_id: track_id.to_owned(),
        request_id: request_id.to_owned(),
        ..AddTrackHeader::default()
    }
}

async fn add(
    catalog: &mut CatalogServiceClient<Channel>,
    header: AddTrackHeader,
    audio: &[u8],
) -> Result<AddTrackResponse, Status> {
    let messages = tokio_stream::iter(upload(header, audio));
    Ok(catalog.add_track(messages).await?.into_inner())
}

fn removal(track_id: &str, request_id: &str) -> RemoveTrackRequest {
    RemoveTrackRequest { track_id: track_id.to_owned(), request_id: request_id.to_owned() }
}

async fn remove(
    catalog: &mut CatalogServiceClient<Channel>,
    track_id: &str,
    request_id: &str,
) -> Result<RemoveTrackResponse, Status> {
    Ok(catalog.remove_track(removal(track_id, request_id)).await?.into_inner())
}

async fn is_there(catalog: &mut CatalogServiceClient<Channel>, id: &str) -> bool {
    catalog.get_track(GetTrackRequest { track_id: id.to_owned() }).await.is_ok()
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_was_whatever_happened_in_between() {
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let audio = wav(&tune(1, 10));
    add(&mut catalog, header("copy", ""), &audio).await.unwrap();
    let titled = AddTrackHeader {
        metadata: Some(Metadata {
            title: "Ünder".to_owned(),
            // In any order, though a map is sent in none.
            attributes: (0..20).map(|i| (i.to_string(), "x".to_owned())).collect(),
            ..Metadata::default()
        }),
        ..header("x", "add")
    };
    let added = add(&mut catalog, titled.clone(), &audio).await.unwrap();
    assert_eq!((added.change(), &added.duplicate_of[..]), (Change::Inserted, &["copy".into()][..]));
    assert_eq!(add(&mut catalog, titled.clone(), &audio).await.unwrap(), added);
    // Another takes it away, and the repeat comes late.
    remove(&mut catalog, "x", "").await.unwrap();
    assert_eq!(add(&mut catalog, titled.clone(), &audio).await.unwrap(), added);
    assert!(!is_there(&mut catalog, "x").await, "a repeat has brought it back");

    let removed = remove(&mut catalog, "copy", "remove").await.unwrap();
    assert_eq!(remove(&mut catalog, "copy", "remove").await.unwrap(), removed);
    add(&mut catalog, header("copy", ""), &audio).await.unwrap();
    assert_eq!(remove(&mut catalog, "copy", "remove").await.unwrap(), removed);
    assert!(is_there(&mut catalog, "copy").await, "a repeat has taken it away");
    // Without a name each call is a new one.
    remove(&mut catalog, "copy", "").await.unwrap();
    assert_eq!(remove(&mut catalog, "copy", "").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_name_of_another_request_is_refused_and_changes_nothing() {
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let (audio, other) = (wav(&tune(1, 5)), wav(&tune(2, 5)));
    add(&mut catalog, header("x", "name"), &audio).await.unwrap();
    let titled = AddTrackHeader {
        metadata: Some(Metadata { title: "T".to_owned(), ..Metadata::default() }),
        ..header("x", "name")
    };
    for refused in [
        add(&mut catalog, header("x", "name"), &other).await.unwrap_err(),
        add(&mut catalog, header("y", "name"), &audio).await.unwrap_err(),
        add(&mut catalog, header("", "name"), &audio).await.unwrap_err(),
        add(&mut catalog, titled, &audio).await.unwrap_err(),
        remove(&mut catalog, "x", "name").await.unwrap_err(),
    ] {
        let expected = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(reason(&refused), expected, "{refused}");
        assert!(refused.message().contains("\"name\""), "{refused}");
    }
    assert!(is_there(&mut catalog, "x").await && !is_there(&mut catalog, "y").await);
    let long = "n".repeat(129);
    for refused in [
        add(&mut catalog, header("z", &long), &audio).await.unwrap_err(),
        remove(&mut catalog, "x", &long).await.unwrap_err(),
    ] {
        assert!(refused.message().contains("at most 128"), "{refused}");
    }
    // What failed is not remembered: it may be tried again, and with other audio too.
    let garbage = add(&mut catalog, header("z", "again"), b"no audio at all").await.unwrap_err();
    assert_eq!(reason(&garbage).1, "AUDIO_UNDECODABLE");
    assert_eq!(remove(&mut catalog, "z", "later").await.unwrap_err().code(), Code::NotFound);
    let added = add(&mut catalog, header("z", "again"), &audio).await.unwrap();
    assert_eq!(added.change(), Change::Inserted);
    assert!(remove(&mut catalog, "z", "later").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_at_once_and_hang_up_a_change_is_made_once() {
    let server = Server::start("").await;
    let channel = server.channel().await;
    for round in 0..10 {
        let audio = wav(&tune(round, 5));
        let (track_id, request_id) = (format!("t{round}"), format!("r{round}"));
        // Some give up, each at another moment: before, while and after the track is stored.
        let hasty: Vec<_> = (0..4)
            .map(|i| {
                let (header, audio) = (header(&track_id, &request_id), audio.clone());
                let mut catalog = CatalogServiceClient::new(channel.clone());
                tokio::spawn(async move {
                    let limit = Duration::from_millis(3 * (i + 1) * (round + 1));
                    let call = add(&mut catalog, header, &audio);
                    tokio::time::timeout(limit, call).await.map(Result::unwrap)
                })
            })
            .collect();
        let patient: Vec<_> = (0..4)
            .map(|_| {
                let (header, audio) = (header(&track_id, &request_id), audio.clone());
                let mut catalog = CatalogServiceClient::new(channel.clone());
                tokio::spawn(async move { add(&mut catalog, header, &audio).await.unwrap() })
            })
            .collect();
        let mut answers = Vec::new();
        for call in hasty {
            answers.extend(call.await.unwrap().ok());
        }
        for call in patient {
            answers.push(call.await.unwrap());
        }
        assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
        assert_eq!(answers[0].change(), Change::Inserted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_those_of_a_key() {
    let keys = Keys::new();
    let (one, other) = (keys.ingesting(), keys.ingesting());
    let server = Server::start(&keys.setting()).await;
    let mut catalog = server.catalog().await;
    let audio = wav(&tune(1, 5));
    for (token, id) in [(&one, "x"), (&other, "y")] {
        let messages = tokio_stream::iter(upload(header(id, "name"), &audio));
        let added = catalog.add_track(with_key(messages, token)).await.unwrap().into_inner();
        assert_eq!(added.change(), Change::Inserted);
    }
    for (token, id) in [(&one, "x"), (&other, "y")] {
        for _ in 0..2 {
            let request = with_key(removal(id, "gone"), token);
            let removed = catalog.remove_track(request).await.unwrap().into_inner();
            assert_eq!(removed.track.unwrap().track_id, id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_request_is_named_by_its_header() {
    let server = Server::start("").await;
    let url = server.url.clone();
    let calls = move || {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        let told = |mut answer: ureq::http::Response<ureq::Body>| {
            let text = answer.body_mut().read_to_string().unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            (answer.status().as_u16(), json)
        };
        let audio = wav(&tune(1, 5));
        let post = |path: &str, name: &str, audio: &[u8]| {
            let request = agent.post(format!("{url}{path}")).header("x-request-id", name);
            told(request.header("content-type", "audio/wav").send(audio).unwrap())
        };
        let delete = |path: &str, name: &str| {
            told(agent.delete(format!("{url}{path}")).header("x-request-id", name).call().unwrap())
        };
        let added = post("/v1/tracks?track_id=x", "add", &audio);
        assert_eq!((added.0, &added.1["change"]), (201, &"inserted".into()), "{added:?}");
        let removed = delete("/v1/tracks/x", "remove");
        assert_eq!((removed.0, &removed.1["track_id"]), (200, &"x".into()), "{removed:?}");
        assert_eq!(post("/v1/tracks?track_id=x", "add", &audio), added);
        assert_eq!(delete("/v1/tracks/x", "remove"), removed);
        assert_eq!(told(agent.get(format!("{url}/v1/tracks/x")).call().unwrap()).0, 404);
        for (status, problem) in
            [post("/v1/tracks?track_id=y", "add", &audio), delete("/v1/tracks/x", "add")]
        {
            assert_eq!((status, &problem["reason"]), (409, &"REQUEST_ID_REUSED".into()));
        }
        let (status, problem) = delete("/v1/tracks/x", "ä");
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 400 && detail.contains("X-Request-Id"), "{problem}");
    };
    tokio::task::spawn_blocking(calls).await.unwrap();
}
