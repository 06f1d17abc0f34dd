//! Requests that are broken off, over real connections of HTTP/2: nothing is stored, and it is nobody's failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use earmark_proto::v1::AddTrackHeader;
use fingerprint_core::index::{Index, MemoryIndex};
use fingerprint_core::params::Params;
use h2::{Ping, Reason};
use matcher_server::Served;
use matcher_server::security::Security;
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::codegen::http::{Request, Version};
use tonic::service::Routes;
use tonic::transport::server::{Server as Http, TcpIncoming};
use tower::ServiceExt;

use crate::metrics::scrape;
use crate::support::{Server, config, tune, upload, wav};

const PATIENCE: Duration = Duration::from_secs(60);

/// How a request ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// As it should.
    Whole,
    /// Its stream is reset.
    Reset(Reason),
    /// Its connection is gone.
    Lost,
}

const ENDS: [End; 4] =
    [End::Reset(Reason::NO_ERROR), End::Reset(Reason::CANCEL), End::Lost, End::Whole];

/// A recording as far as it fits into what may be sent at once.
fn recording() -> Vec<u8> {
    let mut audio = wav(&tune(3, 20));
    audio.truncate(48 << 10);
    audio
}

/// Messages of an upload as gRPC frames them.
fn frames() -> Bytes {
    let mut frames = BytesMut::new();
    for message in upload(AddTrackHeader::default(), &recording()) {
        frames.put_u8(0);
        frames.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut frames).unwrap();
    }
    frames.freeze()
}

/// Uploads half a recording, over gRPC or bare, and ends the request.
async fn send(server: SocketAddr, is_grpc: bool, end: End) {
    let socket = TcpStream::connect(server).await.unwrap();
    let (client, mut connection) = h2::client::handshake(socket).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let driving = tokio::spawn(connection);
    let (path, kind, body) = if is_grpc {
        ("/earmark.v1.CatalogService/AddTrack", "application/grpc", frames())
    } else {
        ("/v1/tracks", "audio/wav", recording().into())
    };
    let request = Request::post(format!("http://{server}{path}"))
        .version(Version::HTTP_2)
        .header("content-type", kind)
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut sending) = client.ready().await.unwrap().send_request(request, false).unwrap();
    sending.send_data(body, false).unwrap();
    // What was sent before the first is there when the second has come back.
    for _ in 0..2 {
        pings.ping(Ping::opaque()).await.unwrap();
    }
    match end {
        End::Whole => {
            sending.send_data(Bytes::new(), true).unwrap();
            let _ = answer.await.unwrap();
        }
        End::Reset(reason) => {
            sending.send_reset(reason);
            pings.ping(Ping::opaque()).await.unwrap();
        }
        End::Lost => {
            driving.abort();
            let _ = driving.await;
        }
    }
}

/// HTTP/2 drops a request that is broken off, which may have been quicker. Here it always is: each is answered on a task
/// of its own, which nobody drops.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_upload_is_not_stored() {
    let index = Arc::new(MemoryIndex::new(&Params::default()));
    let served = Served::Other(Arc::clone(&index) as Arc<dyn Index>);
    let config = config("");
    let security = Security::load(&config).unwrap();
    let routes = matcher_server::routes(config, &security, &served).await.unwrap();
    let routes = routes.into_axum_router();
    let (answered, mut answers) = mpsc::unbounded_channel();
    let undropped = tower::service_fn(move |request: Request<axum::body::Body>| {
        let (routes, answered) = (routes.clone(), answered.clone());
        let answering = tokio::spawn(async move {
            let answer = routes.oneshot(request).await;
            answered.send(()).unwrap();
            answer
        });
        async { answering.await.unwrap() }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback_service(undropped);
    let http = Http::builder().add_routes(Routes::from(router));
    let serving = tokio::spawn(http.serve_with_incoming(TcpIncoming::from(listener)));
    for is_grpc in [true, false] {
        for end in ENDS {
            let answered = async {
                send(address, is_grpc, end).await;
                answers.recv().await.unwrap();
            };
            tokio::time::timeout(PATIENCE, answered).await.unwrap();
            let count = index.stats().unwrap().track_count;
            assert_eq!(count, u64::from(matches!(end, End::Whole)), "{is_grpc} {end:?}");
        }
        index.remove(&index.tracks(None, 1).unwrap()[0].id).unwrap();
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_counted_as_such() {
    const ROUNDS: usize = 5;
    let server = Server::start("metrics_listen = '127.0.0.1:0'").await;
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    for is_grpc in [true, false] {
        for end in ENDS.iter().copied().cycle().take(ENDS.len() * ROUNDS) {
            tokio::time::timeout(PATIENCE, send(address, is_grpc, end)).await.unwrap();
        }
    }
    let (whole, broken) = (ROUNDS as f64, ((ENDS.len() - 1) * ROUNDS) as f64);
    // Over HTTP the track is there already.
    let expected = [
        ("earmark_errors_total", 0.0),
        ("earmark_requests_total{call=\"AddTrack\",code=\"Ok\"}", whole),
        ("earmark_requests_total{call=\"AddTrack\",code=\"hung_up\"}", broken),
        ("earmark_requests_total{call=\"POST /v1/tracks\",code=\"200\"}", whole),
        ("earmark_requests_total{call=\"POST /v1/tracks\",code=\"hung_up\"}", broken),
    ];
    let url = server.metrics.clone().unwrap();
    let counted = move || {
        let page = scrape(&url);
        expected.map(|(start, _)| {
            let rows = page.iter().filter(|(name, _)| name.starts_with(start));
            (start, rows.map(|(_, count)| count).sum::<f64>() + 0.0)
        })
    };
    // The last of them may not have been noticed yet.
    for _ in 0..200 {
        let counted = tokio::task::spawn_blocking(counted.clone()).await.unwrap();
        if counted == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(counted(), expected);
}
