//! Metrics, as Prometheus reads them, after requests of every kind.

use std::collections::BTreeMap;

use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::match_service_client::MatchServiceClient;
use matcher_server::keys::{KeyFile, NewKey, Scope};

use crate::support::{Process, add, cut, find, tune, wav};

/// Values by name and labels.
fn scrape(url: &str) -> BTreeMap<String, f64> {
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
