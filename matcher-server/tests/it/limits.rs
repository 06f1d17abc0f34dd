//! What is too large, too long, too much or too late is refused with the right code and a way
//! out, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use earmark_proto::v1::match_service_client::MatchServiceClient;
use earmark_proto::v1::{
    AddTrackHeader, GetStatsRequest, GetTrackRequest, MatchRequest, MatchResponse, MatchStatus,
};
use matcher_server::Ending;
use prost::Message;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{
    GatedIndex, RATE_HZ, Server, add, data_message, find, header_message, query, testdata, tune,
    wav,
};

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{status}");
}

/// For what must happen, but not at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A query of five seconds of audio with a deadline of 300 ms, which the client watches, too.
fn hurried() -> Request<MatchRequest> {
    let mut request = Request::new(query(wav(&tune(1, 5))));
    request.set_timeout(Duration::from_millis(300));
    request
}

/// What the server answers to such a query: over gRPC-web, by a client that does not watch the deadline, and so is never
/// first.
async fn answer_to_hurried(server: &Server) -> String {
    let query = query(wav(&tune(1, 5)));
    let length = u32::try_from(query.encoded_len()).unwrap();
    let body = [&[0][..], &length.to_be_bytes(), &query.encode_to_vec()].concat();
    let url = format!("{}/earmark.v1.MatchService/Match", server.url);
    let ask = move || {
        let request = ureq::post(url)
            .header("content-type", "application/grpc-web+proto")
            .header("grpc-timeout", "300m");
        let answer = request.send(&body[..]).unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        format!("{}: {}", header("grpc-status"), header("grpc-message").replace("%20", " "))
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// Sends a clip of five seconds, in the background.
fn ask(matcher: &MatchServiceClient<Channel>) -> JoinHandle<Result<MatchResponse, Status>> {
    let mut matcher = matcher.clone();
    tokio::spawn(async move { find(&mut matcher, wav(&tune(1, 5))).await })
}

#[tokio::test]
async fn messages_end_at_their_limit() {
    let server = Server::start("message_max = '200KiB'").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    // 32,000 bytes a second: below the limit, then above.
    assert!(find(&mut matcher, wav(&tune(1, 6))).await.is_ok());
    refused(find(&mut matcher, wav(&tune(1, 7))).await, Code::ResourceExhausted, "message-max");
    // An upload in pieces may be larger; one huge piece may not.
    assert!(add(&mut catalog, "x", &wav(&tune(1, 10))).await.is_ok());
    let huge = [header_message(AddTrackHeader::default()), data_message(&wav(&tune(1, 10)))];
    let answer = catalog.add_track(tokio_stream::iter(huge)).await;
    refused(answer, Code::ResourceExhausted, "message-max");
    // It may not be larger than 4 MiB where clips may.
    let server = Server::start("").await;
    let mut catalog = server.catalog().await;
    let huge = [header_message(AddTrackHeader::default()), data_message(&vec![0; 5 << 20])];
    let answer = catalog.add_track(tokio_stream::iter(huge)).await;
    refused(answer, Code::ResourceExhausted, "smaller pieces");
}

/// Of 1,600 KiB each of eight requests has 100, and twelve pieces of 64 are for whoever comes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_few_large_clips_do_not_take_the_memory_of_small_ones() {
    let index = Arc::new(GatedIndex::new());
    let lines = "message_max = '800KiB'\nrequests_memory_max = '1600KiB'\nrequests_open_max = 8\nworkers = 4\n";
    let server = Server::over(lines, index.clone()).await;
    // One connection may have a quarter of the requests.
    let url = server.url.clone();
    let ask = |audio: Vec<u8>| {
        let url = url.clone();
        tokio::spawn(async move {
            find(&mut MatchServiceClient::connect(url).await.unwrap(), audio).await
        })
    };
    let (large, small) = (wav(&tune(1, 24)), wav(&tune(1, 3)));
    let mut running = vec![ask(large.clone())];
    tokio::time::timeout(PATIENCE, index.waiting(1)).await.unwrap();
    let answer = ask(large.clone()).await.unwrap();
    refused(answer, Code::ResourceExhausted, "requests-memory-max");
    let (url, clip) = (format!("{}/v1/match", server.url), large.clone());
    let over_http = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let head = "--XX\r\ncontent-disposition: form-data; name=\"audio\"; filename=\"a\"\r\n\r\n";
        let form = [head.as_bytes(), &clip, b"\r\n--XX--\r\n"].concat();
        [("audio/wav", clip), ("multipart/form-data; boundary=XX", form)].map(|(kind, body)| {
            let mut answer = agent.post(&url).header("content-type", kind).send(&body[..]).unwrap();
            let again = answer.headers().contains_key("retry-after");
            (answer.status().as_u16(), again, answer.body_mut().read_to_string().unwrap())
        })
    });
    for (status, again, problem) in over_http.await.unwrap() {
        assert!(
            status == 429 && again && problem.contains("requests-memory-max"),
            "{status} {problem}"
        );
    }
    running.extend([ask(small.clone()), ask(small)]);
    tokio::time::timeout(PATIENCE, index.waiting(3)).await.unwrap();
    index.open();
    for answer in running {
        assert!(answer.await.unwrap().is_ok());
    }
    assert!(ask(large).await.unwrap().is_ok());
}

#[tokio::test]
async fn uploads_end_at_their_limit() {
    let bytes = wav(&tune(1, 3));
    let server = Server::start(&format!("upload_max = '{}'", bytes.len())).await;
    let mut catalog = server.catalog().await;
    assert!(add(&mut catalog, "x", &bytes).await.is_ok());
    let longer = [&bytes[..], &[0]].concat();
    refused(add(&mut catalog, "y", &longer).await, Code::ResourceExhausted, "upload-max");
}

/// The decoder sums durations chunk by chunk, so that it meets a limit only up to rounding.
const ROUNDING_SAMPLES: usize = 16;

#[tokio::test]
async fn durations_end_at_their_limits() {
    let server = Server::start("query_duration_max = '5s'\ntrack_duration_max = '8s'").await;
    let (mut catalog, mut matcher) = (server.catalog().await, server.matcher().await);
    let audio = tune(1, 10);
    let around = |limit_s: u32| {
        let limit = (limit_s * RATE_HZ) as usize;
        [limit - ROUNDING_SAMPLES, limit + ROUNDING_SAMPLES].map(|len| wav(&audio[..len]))
    };
    let [below, above] = around(5);
    assert!(find(&mut matcher, below).await.is_ok());
    refused(find(&mut matcher, above).await, Code::ResourceExhausted, "limit of 5 s");
    let [below, above] = around(8);
    assert!(add(&mut catalog, "x", &below).await.is_ok());
    refused(add(&mut catalog, "y", &above).await, Code::ResourceExhausted, "limit of 8 s");
}

#[tokio::test]
async fn without_the_external_program_the_answer_says_what_is_missing() {
    let server = Server::start("ffmpeg = 'none'").await;
    let answer = find(&mut server.matcher().await, testdata("codecs/ac3.ac3")).await;
    refused(answer, Code::InvalidArgument, "the clip: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_recovers_while_lookups_go_on() {
    let index = Arc::new(GatedIndex::new());
    let server = Server::over("workers = 1\nqueue_len = 1", index.clone()).await;
    let (matcher, mut catalog) = (server.matcher().await, server.catalog().await);
    let running = ask(&matcher);
    index.waiting(1).await;
    // Of two more, one waits and one is refused, whichever comes first.
    let (mut second, mut third) = (ask(&matcher), ask(&matcher));
    let (first_answer, waiting) = tokio::select! {
        answer = &mut second => (answer.unwrap(), third),
        answer = &mut third => (answer.unwrap(), second),
    };
    refused(first_answer, Code::ResourceExhausted, "try again");
    assert!(catalog.get_stats(GetStatsRequest {}).await.is_ok());
    index.open();
    for answer in [running, waiting] {
        assert_eq!(answer.await.unwrap().unwrap().status(), MatchStatus::NoMatch);
    }
    // Not before: their places would still be taken.
    let last = async {
        loop {
            if let Ok(answer) = ask(&matcher).await.unwrap() {
                break answer;
            }
        }
    };
    let last = tokio::time::timeout(PATIENCE, last).await.unwrap();
    assert_eq!(last.status(), MatchStatus::NoMatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_requests_are_bounded_before_they_are_read() {
    let index = Arc::new(GatedIndex::new());
    let server = Server::over("requests_open_max = 1", index.clone()).await;
    let (matcher, mut catalog) = (server.matcher().await, server.catalog().await);
    let running = ask(&matcher);
    index.waiting(1).await;
    let wanted = GetTrackRequest { track_id: "x".to_owned() };
    refused(catalog.get_track(wanted.clone()).await, Code::ResourceExhausted, "try again");
    index.open();
    assert!(running.await.unwrap().is_ok());
    refused(catalog.get_track(wanted).await, Code::NotFound, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_of_client_and_server_are_kept() {
    let index = Arc::new(GatedIndex::new());
    let server = Server::over("workers = 1\nqueue_len = 0", index.clone()).await;
    let matcher = server.matcher().await;
    let answer = answer_to_hurried(&server).await;
    let told = format!("{}: ", Code::DeadlineExceeded as i32);
    assert!(answer.starts_with(&told), "{answer}");
    assert!(answer.contains("the deadline of the call passed"), "{answer}");
    index.open();
    // The worker of the abandoned request comes free again.
    let free = async { while ask(&matcher).await.unwrap().is_err() {} };
    tokio::time::timeout(PATIENCE, free).await.unwrap();

    let index = Arc::new(GatedIndex::new());
    let server = Server::over("request_time_max = '300ms'", index.clone()).await;
    let answer = ask(&server.matcher().await).await.unwrap();
    refused(answer, Code::DeadlineExceeded, "longer than the server allows");
    index.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_frees_its_place() {
    let index = Arc::new(GatedIndex::new());
    let server = Server::over("workers = 1\nqueue_len = 1", index.clone()).await;
    let mut matcher = server.matcher().await;
    let running = ask(&matcher);
    index.waiting(1).await;
    // This one is queued; dropping the call resets its stream.
    let mut leaving = matcher.clone();
    let call = leaving.r#match(query(wav(&tune(1, 5))));
    assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
    // Whoever comes now is let in and waits, instead of being refused as one too many.
    let let_in = async {
        while matcher.r#match(hurried()).await.unwrap_err().code() != Code::DeadlineExceeded {}
    };
    tokio::time::timeout(PATIENCE, let_in).await.unwrap();
    index.open();
    assert!(running.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_upload_that_is_cut_off_or_stalls_leaves_nothing_behind() {
    let server = Server::start("uploads_open_max = 1\nupload_pause_max = '200ms'").await;
    let mut catalog = server.catalog().await;
    let audio = wav(&tune(1, 5));
    let header = AddTrackHeader { track_id: "x".to_owned(), ..AddTrackHeader::default() };
    let begun = [header_message(header), data_message(&audio[..audio.len() / 2])];
    let stalled =
        tokio_stream::StreamExt::chain(tokio_stream::iter(begun), tokio_stream::pending());
    let answer = catalog.add_track(stalled).await;
    refused(answer, Code::DeadlineExceeded, "send the upload again");
    let stats = catalog.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.track_count, 0);
    assert!(add(&mut catalog, "x", &audio).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_running_requests() {
    let index = Arc::new(GatedIndex::new());
    let mut server = Server::over("shutdown_time_max = '60s'", index.clone()).await;
    let matcher = server.matcher().await;
    let running = ask(&matcher);
    index.waiting(1).await;
    server.stop();
    server.refuses_connections().await;
    assert!(!running.is_finished());
    index.open();
    assert!(running.await.unwrap().is_ok());
    assert_eq!(server.ended().await, Ending::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_beyond_its_limit() {
    let index = Arc::new(GatedIndex::new());
    let mut server = Server::over("shutdown_time_max = '100ms'", index.clone()).await;
    let matcher = server.matcher().await;
    let running = ask(&matcher);
    index.waiting(1).await;
    server.stop();
    assert_eq!(server.ended().await, Ending::CutOff);
    // Lets the thread at the gate end; the runtime of the test would wait for it.
    index.open();
    drop(running);
}
