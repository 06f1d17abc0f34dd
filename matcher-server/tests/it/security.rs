//! Who gets in: keys over every protocol, addresses that are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::match_stream_request::Part;
use earmark_proto::v1::match_stream_response::Event;
use earmark_proto::v1::pcm_format::Encoding;
use earmark_proto::v1::stream_header::Format;
use earmark_proto::v1::{
    AddTrackHeader, BatchMatchRequest, EncodedFormat, GetStatsRequest, ListTracksRequest,
    MatchStreamRequest, MatchStreamResponse, PcmFormat, StreamAudio, StreamHeader,
};
use matcher_server::keys::{KeyFile, NewKey, Scope, Token};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use ureq::Agent;

use crate::certificates::Authority;
use crate::process::refuses_to_start;
use crate::support::{Process, Server, query, tune, upload, wav};

const PATIENCE: Duration = Duration::from_secs(20);

/// A file of keys.
pub(crate) struct Keys {
    folder: TempDir,
    pub(crate) file: KeyFile,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys.toml"));
        Self { folder, file }
    }

    pub(crate) fn create(&self, scope: Scope, change: impl FnOnce(&mut NewKey)) -> Token {
        let mut new = NewKey { name: "k".to_owned(), scopes: [scope].into(), ..NewKey::default() };
        change(&mut new);
        self.file.create(new).unwrap().1
    }

    /// A key that may change the catalog.
    pub(crate) fn ingesting(&self) -> Token {
        self.create(Scope::Ingest, |_| {})
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    pub(crate) fn setting(&self) -> String {
        format!("keys = '{}'", self.path().display())
    }
}

pub(crate) fn with_key<T>(message: T, token: &Token) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {}", token.reveal()).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_allows_what_it_is_for_over_grpc() {
    let keys = Keys::new();
    let matches = keys.create(Scope::Match, |_| {});
    let ingests = keys.create(Scope::Ingest, |_| {});
    let admin = keys.create(Scope::Admin, |_| {});
    let server = Server::start(&keys.setting()).await;
    let mut matcher = server.matcher().await;
    let mut catalog = server.catalog().await;
    let clip = || query(wav(&tune(1, 5)));
    let list = ListTracksRequest::default;

    assert!(matcher.r#match(with_key(clip(), &matches)).await.is_ok());
    assert!(catalog.list_tracks(with_key(list(), &ingests)).await.is_ok());
    assert!(matcher.r#match(with_key(clip(), &admin)).await.is_ok());
    assert!(catalog.get_stats(with_key(GetStatsRequest {}, &matches)).await.is_ok());
    for (status, code, expected) in [
        (matcher.r#match(clip()).await.unwrap_err(), Code::Unauthenticated, "KEY_MISSING"),
        (
            matcher.r#match(with_key(clip(), &ingests)).await.unwrap_err(),
            Code::PermissionDenied,
            "SCOPE_MISSING",
        ),
        (
            catalog.list_tracks(with_key(list(), &matches)).await.unwrap_err(),
            Code::PermissionDenied,
            "SCOPE_MISSING",
        ),
    ] {
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status}");
    }
    // Health is for everybody.
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    assert!(health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_allows_what_it_is_for_over_http() {
    let keys = Keys::new();
    let matches = keys.create(Scope::Match, |new| new.rate_per_s = Some(0.01));
    let server = Server::start(&keys.setting()).await;
    let url = server.url.clone();
    let call = move || {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        let post = |key: Option<&str>| {
            let mut request = agent.post(format!("{url}/v1/match"));
            if let Some(key) = key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let mut answer = request.send(&wav(&tune(1, 5))[..]).unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            (answer.status().as_u16(), answer.headers().clone(), text)
        };
        let (status, headers, text) = post(None);
        assert_eq!((status, &headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
        assert!(text.contains("KEY_MISSING"), "{text}");
        let (status, _, text) = post(Some("earmark_secret"));
        assert!(
            status == 401 && text.contains("KEY_INVALID") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(post(Some(matches.reveal())).0, 200);
        let (status, headers, text) = post(Some(matches.reveal()));
        assert!(status == 429 && text.contains("KEY_LIMIT"), "{status} {text}");
        let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((90..=100).contains(&seconds), "{seconds}");
        let tracks = agent
            .get(format!("{url}/v1/tracks"))
            .header("authorization", format!("Bearer {}", matches.reveal()))
            .call()
            .unwrap();
        assert_eq!(tracks.status(), 403);
        for open in ["/health/live", "/health/ready", "/v1/openapi.json"] {
            assert_eq!(agent.get(format!("{url}{open}")).call().unwrap().status(), 200, "{open}");
        }
    };
    tokio::task::spawn_blocking(call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_key_are_told_with_when_to_come_back() {
    let keys = Keys::new();
    let slow = keys.create(Scope::Match, |new| new.rate_per_s = Some(3.0));
    let narrow = keys.create(Scope::Match, |new| new.concurrent_max = Some(1.try_into().unwrap()));
    let server = Server::start(&keys.setting()).await;
    let mut matcher = server.matcher().await;
    let batch = |n: usize| BatchMatchRequest { requests: vec![query(wav(&tune(1, 3))); n] };
    assert!(matcher.batch_match(with_key(batch(3), &slow)).await.is_ok());
    let too_many = matcher.batch_match(with_key(batch(4), &slow)).await.unwrap_err();
    assert!(too_many.get_error_details().retry_info().is_none(), "it never fits: {too_many}");
    let status = matcher.batch_match(with_key(batch(3), &slow)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "KEY_LIMIT".to_owned()));
    let details = status.get_error_details();
    let pause = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(pause > Duration::ZERO && pause <= Duration::from_secs(1), "{pause:?}");
    // Whoever waits as told is let in.
    tokio::time::sleep(pause).await;
    assert!(matcher.batch_match(with_key(batch(3), &slow)).await.is_ok());

    // A stream holds its place until it ends.
    let (requests, answers) = open_stream(&mut matcher, &narrow).await.unwrap();
    let status = matcher.r#match(with_key(query(wav(&tune(1, 3))), &narrow)).await.unwrap_err();
    assert_eq!(reason(&status), "KEY_LIMIT");
    drop((requests, answers));
    let begin = std::time::Instant::now();
    while let Err(status) = matcher.r#match(with_key(query(wav(&tune(1, 3))), &narrow)).await {
        assert!(reason(&status) == "KEY_LIMIT" && begin.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

type OpenStream = (mpsc::Sender<MatchStreamRequest>, tonic::Streaming<MatchStreamResponse>);

async fn open_stream(
    matcher: &mut MatchServiceClient<Channel>,
    token: &Token,
) -> Result<OpenStream, Status> {
    let (requests, sent) = mpsc::channel(100);
    let encoding = Encoding::S16.into();
    let format = PcmFormat { sample_rate_hz: 16_000, channel_count: 1, encoding };
    let format = Some(Format::Pcm(format));
    let stream_id = "radio".to_owned();
    let header = StreamHeader { format, stream_id, ..StreamHeader::default() };
    requests.send(MatchStreamRequest { part: Some(Part::Header(header)) }).await.unwrap();
    let answers = matcher.match_stream(with_key(ReceiverStream::new(sent), token)).await?;
    Ok((requests, answers.into_inner()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_and_its_streams_end() {
    let keys = Keys::new();
    let token = keys.create(Scope::Match, |_| {});
    let server = Server::start(&keys.setting()).await;
    let mut matcher = server.matcher().await;
    let (requests, mut answers) = open_stream(&mut matcher, &token).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    keys.file.revoke(token.id()).unwrap();
    let ended = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    };
    // Though it sends nothing.
    let status = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap_err();
    drop(requests);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "KEY_INVALID"));
    let status = matcher.r#match(with_key(query(wav(&tune(1, 3))), &token)).await.unwrap_err();
    assert_eq!(reason(&status), "KEY_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_until_the_key_was_revoked_is_told() {
    let keys = Keys::new();
    let admin = keys.create(Scope::Admin, |_| {});
    let tokens = [(); 2].map(|()| keys.create(Scope::Match, |_| {}));
    let server = Server::start(&keys.setting()).await;
    let audio = wav(&tune(1, 30));
    let header = AddTrackHeader { track_id: "x".to_owned(), ..AddTrackHeader::default() };
    let track = with_key(tokio_stream::iter(upload(header, &audio)), &admin);
    server.catalog().await.add_track(track).await.unwrap();
    let mut matcher = server.matcher().await;
    let encoding = Encoding::S16.into();
    let pcm = PcmFormat { sample_rate_hz: 16_000, channel_count: 1, encoding };
    let formats = [Format::Pcm(pcm), Format::Encoded(EncodedFormat {})];
    for (format, token) in formats.into_iter().zip(&tokens) {
        // Half of the track, without or with the head of the file.
        let head = if matches!(format, Format::Pcm(_)) { 44 } else { 0 };
        let header = StreamHeader { format: Some(format), ..StreamHeader::default() };
        let (requests, sent) = mpsc::channel(100);
        requests.send(MatchStreamRequest { part: Some(Part::Header(header)) }).await.unwrap();
        let call = matcher.match_stream(with_key(ReceiverStream::new(sent), token));
        let mut answers = call.await.unwrap().into_inner();
        for piece in audio[head..audio.len() / 2].chunks(16_000) {
            let audio = StreamAudio { data: piece.to_vec().into(), position: None };
            requests.send(MatchStreamRequest { part: Some(Part::Audio(audio)) }).await.unwrap();
        }
        let until_refused = async {
            let mut last = None;
            loop {
                match answers.message().await {
                    Ok(message) => last = message.unwrap().event,
                    Err(status) => break (last, status),
                }
                if let Some(Event::MatchStarted(_)) = last {
                    keys.file.revoke(token.id()).unwrap();
                }
            }
        };
        let (last, status) = tokio::time::timeout(PATIENCE, until_refused).await.unwrap();
        assert_eq!(reason(&status), "KEY_INVALID");
        let Some(Event::MatchEnded(ended)) = last else { panic!("{last:?}") };
        let end_s = ended.r#match.unwrap().query_end_s;
        assert!((end_s - 15.0).abs() < 1.0, "{end_s}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_those_of_a_key_whatever_their_names() {
    let keys = Keys::new();
    let (one, other) = (keys.create(Scope::Match, |_| {}), keys.create(Scope::Match, |_| {}));
    let server = Server::start(&keys.setting()).await;
    let mut matcher = server.matcher().await;
    let (requests, mut answers) = open_stream(&mut matcher, &one).await.unwrap();
    assert!(!resumed(&mut answers).await);
    drop((requests, answers));
    let (_requests, mut answers) = open_stream(&mut matcher, &other).await.unwrap();
    assert!(!resumed(&mut answers).await, "it is another's stream of the same name");
    let (_requests, mut answers) = open_stream(&mut matcher, &one).await.unwrap();
    assert!(resumed(&mut answers).await);
}

async fn resumed(answers: &mut tonic::Streaming<MatchStreamResponse>) -> bool {
    match answers.message().await.unwrap().unwrap().event {
        Some(Event::Started(started)) => started.resumed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_that_others_reach_takes_tls_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let index = index.to_str().unwrap();
    let keys = Keys::new();
    keys.create(Scope::Match, |_| {});
    let keys = keys.path();
    Authority::new().write(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = ["--tls-cert", cert, "--tls-key", key];
    let guarded = ["--keys", keys.to_str().unwrap()];
    let open = ["--index", index, "--listen", "0.0.0.0:0"];
    for (arguments, missing) in [
        (vec![], "nothing is encrypted and clients need no key"),
        (guarded.to_vec(), "nothing is encrypted, keys included"),
        (tls.to_vec(), "clients need no key"),
    ] {
        let text = refuses_to_start(&[&open[..], &arguments].concat());
        assert!(text.contains(missing) && text.contains("--allow-insecure"), "{text}");
        assert!(!Path::new(index).exists(), "nothing was made");
    }
    let index = Path::new(index);
    let lets_in = |arguments: &[&str]| drop(Process::start_at("0.0.0.0:0", index, arguments));
    lets_in(&[&tls[..], &guarded].concat());
    lets_in(&["--allow-insecure"]);

    for (arguments, told) in [
        (["--keys", "/nowhere/keys.toml"], "earmark keys create"),
        (["--tls-cert", cert], "tls_key must both be set"),
    ] {
        let text =
            refuses_to_start(&[&["--index", index.to_str().unwrap()], &arguments[..]].concat());
        assert!(text.contains(told), "{text}");
    }
    fs::write(key, "no key").unwrap();
    let text = refuses_to_start(&[&["--index", index.to_str().unwrap()], &tls[..]].concat());
    assert!(text.contains("tls-key") && text.contains("key.pem"), "{text}");
}

/// Whatever is logged, the key is not in it, even where everything is.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let keys = Keys::new();
    let token = keys.create(Scope::Match, |_| {});
    let folder = tempfile::tempdir().unwrap();
    let path = keys.path();
    let arguments = ["--keys", path.to_str().unwrap(), "--log-level", "trace"];
    let server = Process::start(folder.path(), &arguments);
    let mut matcher = MatchServiceClient::connect(server.url()).await.unwrap();
    let clip = || query(wav(&tune(1, 3)));
    matcher.r#match(with_key(clip(), &token)).await.unwrap();
    let forged = Token::parse(&format!("earmark_{}_{}", token.id(), "0a".repeat(32))).unwrap();
    matcher.r#match(with_key(clip(), &forged)).await.unwrap_err();
    let url = server.url();
    let bearer = format!("Bearer {}", token.reveal());
    let over_http = move || {
        ureq::post(format!("{url}/v1/match"))
            .header("authorization", bearer)
            .send(&wav(&tune(1, 3))[..])
    };
    tokio::task::spawn_blocking(over_http).await.unwrap().unwrap();
    drop(matcher);
    server.signal("-TERM");
    let log = server.ended_with_log().await;
    let secret = |token: &Token| token.reveal().rsplit('_').next().unwrap().to_owned();
    assert!(log.contains(token.id()), "the id is logged:\n{log}");
    assert!(!log.contains(&secret(&token)), "the key is in the log");
    assert!(!log.contains(&secret(&forged)), "a key that is none is in the log");
}
