//! Metrics, as Prometheus reads them, after requests of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use fingerprint_core::index::MemoryIndex;
use fingerprint_core::params::Params;
use matcher_server::keys::{KeyFile, NewKey, Scope};
use matcher_server::security::Security;
use matcher_server::{MetricsPage, Served, run};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::security::{Keys, with_key};
use crate::support::{GatedIndex, Process, Server, add, config, cut, find, query, tune, wav};

/// Values by name and labels.
pub(crate) fn scrape(url: &str) -> BTreeMap<String, f64> {
    let mut answer = ureq::get(url).call().unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let page = answer.body_mut().read_to_string().unwrap();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let rows = page.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let (name, value) = row.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_counted_by_call_stage_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &["--metrics-listen", "127.0.0.1:0"]);
    let metrics = server.said("metrics at ");
    let mut catalog = CatalogServiceClient::connect(server.url()).await.unwrap();
    let mut matcher = MatchServiceClient::connect(server.url()).await.unwrap();
    let audio = tune(1, 20);
    add(&mut catalog, "x", &wav(&audio)).await.unwrap();
    for from_s in 0..3 {
        let found = find(&mut matcher, wav(cut(&audio, from_s, from_s + 8))).await.unwrap();
        assert_eq!(found.matches.len(), 1);
    }
    find(&mut matcher, b"no audio".to_vec()).await.unwrap_err();
    let url = server.url();
    let over_http = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let clip = wav(&tune(1, 3));
        assert_eq!(agent.post(format!("{url}/v1/match")).send(&clip[..]).unwrap().status(), 200);
        for made_up in ["a", "b"] {
            let path = format!("{url}/v1/tracks/{made_up}");
            assert_eq!(agent.get(path).call().unwrap().status(), 404);
            agent.get(format!("{url}/{made_up}")).call().unwrap();
        }
        scrape(&metrics)
    };
    let told = tokio::task::spawn_blocking(over_http).await.unwrap();
    let value = |name: &str| *told.get(name).unwrap_or_else(|| panic!("no {name} in {told:#?}"));
    for (name, expected) in [
        ("earmark_requests_total{call=\"Match\",code=\"Ok\"}", 3.0),
        ("earmark_requests_total{call=\"Match\",code=\"InvalidArgument\"}", 1.0),
        ("earmark_requests_total{call=\"AddTrack\",code=\"Ok\"}", 1.0),
        ("earmark_requests_total{call=\"POST /v1/match\",code=\"200\"}", 1.0),
        ("earmark_requests_total{call=\"GET /v1/tracks/{track_id}\",code=\"404\"}", 2.0),
        ("earmark_request_seconds_count{call=\"Match\"}", 4.0),
        ("earmark_errors_total{reason=\"AUDIO_UNDECODABLE\"}", 1.0),
        ("earmark_errors_total{reason=\"TRACK_NOT_FOUND\"}", 2.0),
        ("earmark_stage_seconds_count{stage=\"decode\"}", 5.0),
        ("earmark_stage_seconds_count{stage=\"verify\"}", 4.0),
        ("earmark_jobs_waiting{pool=\"queries\"}", 0.0),
        ("earmark_streams_open", 0.0),
        ("earmark_ready", 1.0),
        ("earmark_refused_total{cause=\"queue_slow\"}", 0.0),
        ("earmark_index_tracks", 1.0),
        ("earmark_index_audio_seconds", 20.0),
    ] {
        assert!((value(name) - expected).abs() < 0.1, "{name} is {}, not {expected}", value(name));
    }
    for positive in [
        "earmark_stage_seconds_sum{stage=\"decode\"}",
        "earmark_stage_seconds_sum{stage=\"fingerprint\"}",
        "earmark_stage_seconds_sum{stage=\"lookup\"}",
        "earmark_stage_seconds_sum{stage=\"verify\"}",
        "earmark_connections_open",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_max_fds",
    ] {
        assert!(value(positive) > 0.0, "{positive}");
    }
    let names_of_clients =
        told.keys().filter(|name| name.contains("=\"a\"") || name.contains("/b"));
    assert_eq!(names_of_clients.count(), 0, "what clients make up is no label: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_counted_and_the_page_itself_wants_none() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    let new = NewKey { name: "k".to_owned(), scopes: [Scope::Match].into(), ..NewKey::default() };
    KeyFile::new(&keys).create(new).unwrap();
    let flags = ["--metrics-listen", "127.0.0.1:0", "--keys", keys.to_str().unwrap()];
    let server = Process::start(&folder.path().join("index"), &flags);
    let metrics = server.said("metrics at ");
    let mut matcher = MatchServiceClient::connect(server.url()).await.unwrap();
    find(&mut matcher, Vec::new()).await.unwrap_err();
    let told = tokio::task::spawn_blocking(move || scrape(&metrics)).await.unwrap();
    assert_eq!(told.get("earmark_errors_total{reason=\"KEY_MISSING\"}"), Some(&1.0), "{told:#?}");
}

async fn scraped(url: &str) -> BTreeMap<String, f64> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || scrape(&url)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_there_before_the_index_and_says_that_nobody_is_answered_yet() {
    let config = config("metrics_listen = '127.0.0.1:0'");
    let security = Security::load(&config).unwrap();
    let page = MetricsPage::open(&config, &security).await.unwrap().unwrap();
    let url = format!("http://{}/metrics", page.address());
    let told = scraped(&url).await;
    assert_eq!(told.get("earmark_ready"), Some(&0.0), "{told:#?}");
    assert!(told.keys().any(|name| name.starts_with("earmark_build_info")), "{told:#?}");
    assert!(told["process_start_time_seconds"] > 0.0);
    assert!(!told.contains_key("earmark_index_tracks"), "there is none yet");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let index = Served::Other(Arc::new(MemoryIndex::new(&Params::default())));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let running = tokio::spawn(run(listener, config, security, Some(page), index, stopped));
    while scraped(&url).await["earmark_ready"] < 1.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scraped(&url).await["earmark_index_tracks"], 0.0);
    drop(stop);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_not_ready() {
    let index = Arc::new(GatedIndex::new());
    let lines = "metrics_listen = '127.0.0.1:0'";
    let mut server = Server::over(lines, Arc::clone(&index) as Arc<_>).await;
    let url = server.metrics.clone().unwrap();
    let mut matcher = server.matcher().await;
    let request = tokio::spawn(async move { find(&mut matcher, wav(&tune(1, 3))).await });
    index.waiting(1).await;
    assert_eq!(scraped(&url).await["earmark_ready"], 1.0);
    server.stop();
    server.refuses_connections().await;
    assert_eq!(scraped(&url).await["earmark_ready"], 0.0);
    index.open();
    assert!(request.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_what_was_at_its_limit() {
    let keys = Keys::new();
    let lines = "workers = 1\nqueue_len = 0\nmetrics_listen = '127.0.0.1:0'\n";
    let fast = keys.create(Scope::Admin, |_| {});
    let slow = keys.create(Scope::Match, |new| new.rate_per_s = Some(0.001));
    let narrow = keys.create(Scope::Match, |new| new.concurrent_max = Some(1.try_into().unwrap()));
    let index = Arc::new(GatedIndex::new());
    let lines = format!("{lines}{}", keys.setting());
    let server = Server::over(&lines, Arc::clone(&index) as Arc<_>).await;
    let url = server.metrics.clone().unwrap();
    let mut matcher = server.matcher().await;
    let clip = || query(wav(&tune(1, 3)));
    let busy = {
        let (mut matcher, request) = (matcher.clone(), with_key(clip(), &narrow));
        tokio::spawn(async move { matcher.r#match(request).await })
    };
    index.waiting(1).await;
    let refused = |told: &BTreeMap<String, f64>, cause: &str| {
        told[&format!("earmark_refused_total{{cause=\"{cause}\"}}")]
    };
    matcher.r#match(with_key(clip(), &narrow)).await.unwrap_err();
    matcher.r#match(with_key(clip(), &fast)).await.unwrap_err();
    matcher.r#match(with_key(clip(), &slow)).await.unwrap_err();
    matcher.r#match(with_key(clip(), &slow)).await.unwrap_err();
    let two = earmark_proto::v1::BatchMatchRequest { requests: vec![clip(), clip()] };
    let slow = keys.create(Scope::Match, |new| new.rate_per_s = Some(0.5));
    let begin = std::time::Instant::now();
    loop {
        let error = matcher.batch_match(with_key(two.clone(), &slow)).await.unwrap_err();
        if error.message().contains("requests at once") {
            break;
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let told = scraped(&url).await;
    for (cause, count) in [
        ("key_concurrent", 1.0),
        // Two came to a server whose only worker was busy; the third was beyond its key's rate.
        ("queue_full", 2.0),
        ("key_rate", 1.0),
        ("key_batch", 1.0),
        ("deadline", 0.0),
        ("requests_open", 0.0),
    ] {
        assert_eq!(refused(&told, cause), count, "{cause} in {told:#?}");
    }
    index.open();
    busy.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_lead_nowhere_are_logged_and_counted_as_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &["--metrics-listen", "127.0.0.1:0"]);
    let metrics = server.said("metrics at ");
    let url = server.url();
    let over_http = move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        for nowhere in ["/a", "/b"] {
            assert_eq!(agent.get(format!("{url}{nowhere}")).call().unwrap().status(), 404);
        }
        assert_eq!(agent.put(format!("{url}/v1/match")).send(&b"x"[..]).unwrap().status(), 405);
        let of_grpc = format!("{url}/earmark.v1.MatchService/Match");
        assert_eq!(agent.get(of_grpc).call().unwrap().status(), 405);
    };
    tokio::task::spawn_blocking(over_http).await.unwrap();
    let elsewhere = format!("{}/elsewhere", server.url()).parse().unwrap();
    let channel = tonic::transport::Endpoint::new(server.url()).unwrap().connect().await.unwrap();
    let mut matcher = MatchServiceClient::with_origin(channel, elsewhere);
    let refused = find(&mut matcher, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    let told = tokio::task::spawn_blocking(move || scrape(&metrics)).await.unwrap();
    for (code, expected) in [("404", 2.0), ("405", 2.0), ("Unimplemented", 1.0)] {
        let name = format!("earmark_requests_total{{call=\"other\",code=\"{code}\"}}");
        assert_eq!(told.get(&name), Some(&expected), "{name} in {told:#?}");
    }
    assert_eq!(told.get("earmark_errors_total{reason=\"ARGUMENT_INVALID\"}"), Some(&5.0));
    drop(matcher);
    server.signal("-TERM");
    let log = server.ended_with_log().await;
    for (path, code) in [
        ("GET /a", "404"),
        ("PUT /v1/match", "405"),
        ("GET /earmark.v1.MatchService/Match", "405"),
        ("POST /elsewhere/earmark.v1.MatchService/Match", "Unimplemented"),
    ] {
        let is_it = |line: &str| line.contains(path) && line.contains(&format!("\"{code}\""));
        assert!(log.lines().any(is_it), "{path} is not in {log}");
    }
}
