//! Certificates: of the server and of clients, exchanged while the server runs, and told of in log and metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use earmark_proto::v1::GetStatsRequest;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use matcher_server::keys::Scope;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use ureq::Agent;

use crate::metrics::scrape;
use crate::security::{Keys, with_key};
use crate::support::{Process, Server};

const PATIENCE: Duration = Duration::from_secs(20);

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for localhost, and its key.
    fn issue(&self) -> (String, String) {
        self.issue_with(|_| {})
    }

    fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let cert = params.signed_by(&key, &self.0).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub(crate) fn write(&self, folder: &Path) {
        self.write_with(folder, |_| {});
    }

    /// The same, changed.
    pub(crate) fn write_with(&self, folder: &Path, change: impl FnOnce(&mut CertificateParams)) {
        let (cert, key) = self.issue_with(change);
        // As a careless tool does it: for a moment they are no pair.
        fs::write(folder.join("cert.pem"), cert).unwrap();
        fs::write(folder.join("key.pem"), key).unwrap();
    }
}

fn tls_settings(folder: &Path) -> String {
    let path = |name| folder.join(name).display().to_string();
    format!("tls_cert = '{}'\ntls_key = '{}'\n", path("cert.pem"), path("key.pem"))
}

async fn connect(
    url: &str,
    trusted: &Authority,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.0.pem()));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let url = url.replace("http://127.0.0.1", "https://localhost");
    Endpoint::new(url).unwrap().tls_config(tls).unwrap().connect().await
}

async fn answers(channel: Channel) -> bool {
    CatalogServiceClient::new(channel).get_stats(GetStatsRequest {}).await.is_ok()
}

/// Who forgets the s of https is told so, whatever he sends, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn http_without_encryption_is_told_to_take_https() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path());
    let server = Server::start(&tls_settings(folder.path())).await;
    let url = server.url.clone();
    let ask = move || {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        let ready = agent.get(format!("{url}/health/ready")).call().unwrap();
        let clip = agent.post(format!("{url}/v1/match")).send(&vec![0; 32 << 10][..]).unwrap();
        [ready, clip]
            .map(|answer| (answer.status().as_u16(), answer.into_body().read_to_string().unwrap()))
    };
    for (status, words) in tokio::task::spawn_blocking(ask).await.unwrap() {
        assert_eq!(status, 400);
        assert!(words.contains("take https://"), "{words}");
    }
    let address = server.url.trim_start_matches("http://").to_owned();
    let begin_of_http2 = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The alert, and then the end, in whatever way.
        let _ = connection.read_to_end(&mut answer);
        answer
    };
    let answer = tokio::task::spawn_blocking(begin_of_http2).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(answers(connect(&server.url, &authority, None).await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    old.write(folder.path());
    let server = Server::start(&tls_settings(folder.path())).await;
    let before = connect(&server.url, &old, None).await.unwrap();
    assert!(answers(before.clone()).await);
    assert!(connect(&server.url, &new, None).await.is_err());

    // JSON over the same port.
    let (url, root) = (server.url.replace("http://127.0.0.1", "https://localhost"), old.0.pem());
    let over_http = move || {
        let root = ureq::tls::Certificate::from_pem(root.as_bytes()).unwrap().to_owned();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
            .build();
        let agent: Agent = Agent::config_builder().tls_config(tls).build().into();
        agent.get(format!("{url}/health/ready")).call().unwrap().status().as_u16()
    };
    assert_eq!(tokio::task::spawn_blocking(over_http).await.unwrap(), 200);

    new.write(folder.path());
    let begin = std::time::Instant::now();
    while connect(&server.url, &new, None).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(answers(before).await, "a connection that is open stays");
    assert!(connect(&server.url, &old, None).await.is_err());

    fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(answers(connect(&server.url, &new, None).await.unwrap()).await, "nor a bad one");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_if_the_server_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    let (server_side, client_side) = (Authority::new(), Authority::new());
    server_side.write(folder.path());
    let roots = folder.path().join("clients.pem");
    fs::write(&roots, client_side.0.pem()).unwrap();
    let settings = tls_settings(folder.path());
    let lines = format!(
        "{settings}tls_client_ca = '{}'\nmetrics_listen = '127.0.0.1:0'\n",
        roots.display()
    );
    let server = Server::start(&lines).await;
    let identity = |authority: &Authority| {
        let (cert, key) = authority.issue();
        Some(Identity::from_pem(cert, key))
    };
    let good = connect(&server.url, &server_side, identity(&client_side)).await.unwrap();
    assert!(answers(good).await);
    for bad in [None, identity(&server_side)] {
        // TLS 1.3 lets the client believe that it is in until it reads.
        if let Ok(channel) = connect(&server.url, &server_side, bad).await {
            assert!(!answers(channel).await);
        }
    }
    let url = server.metrics.clone().unwrap();
    let told = tokio::task::spawn_blocking(move || scrape(&url)).await.unwrap();
    assert!(told["earmark_handshakes_failed_total"] >= 2.0, "{told:#?}");
}

/// What a server in a process of its own is told about certificates.
fn tls_flags(folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    vec!["--tls-cert".to_owned(), path("cert.pem"), "--tls-key".to_owned(), path("key.pem")]
}

fn start(folder: &Path, flags: &[String]) -> Process {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Process::start(&folder.join("index"), &flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_certificate_it_was_stands_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (server_side, client_side) = (Authority::new(), Authority::new());
    server_side.write(folder.path());
    let roots = folder.path().join("clients.pem");
    fs::write(&roots, client_side.0.pem()).unwrap();
    let mut flags = tls_flags(folder.path());
    flags.extend(["--tls-client-ca".to_owned(), roots.display().to_string()]);
    let server = start(folder.path(), &flags);
    let called = |name: &str| {
        let (cert, key) = client_side.issue_with(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        });
        Some(Identity::from_pem(cert, key))
    };
    for name in ["upload pipeline", "two\nlines"] {
        let channel = connect(&server.url(), &server_side, called(name)).await.unwrap();
        assert!(answers(channel).await, "{name}");
    }
    let nameless = client_side.issue_with(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    let nameless = Some(Identity::from_pem(nameless.0, nameless.1));
    assert!(answers(connect(&server.url(), &server_side, nameless).await.unwrap()).await);
    server.signal("-TERM");
    let log = server.ended_with_log().await;
    for told in ["certificate=\"CN=upload pipeline\"", "CN=two", "certificate=\"DNS:localhost\""] {
        let lines = log.lines().filter(|line| line.contains(told) && line.contains("GetStats"));
        assert_eq!(lines.count(), 1, "{told} in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_certificates_and_keys_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::new();
    let year = Duration::from_secs(365 * 24 * 3_600);
    let ends = std::time::SystemTime::now() + year;
    keys.create(Scope::Match, |new| new.expires = Some(ends + year));
    keys.create(Scope::Match, |new| new.expires = Some(ends));
    keys.create(Scope::Admin, |_| {});
    let revoked = keys.create(Scope::Match, |_| {});
    keys.file.revoke(revoked.id()).unwrap();
    let until = |year| {
        move |params: &mut CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
    };
    let authority = Authority::new();
    authority.write_with(folder.path(), until(2031));
    let mut flags = tls_flags(folder.path());
    flags.extend(["--keys", keys.path().to_str().unwrap()].map(str::to_owned));
    flags.extend(["--metrics-listen", "127.0.0.1:0"].map(str::to_owned));
    let server = start(folder.path(), &flags);
    let page = server.said("metrics at ");
    let told = async |name: &str| {
        let page = page.clone();
        let told = tokio::task::spawn_blocking(move || scrape(&page)).await.unwrap();
        *told.get(name).unwrap_or_else(|| panic!("no {name} in {told:#?}"))
    };
    let certificate = "earmark_certificate_expires_timestamp_seconds";
    assert_eq!(told(certificate).await, 1_924_992_000.0);
    for (state, count) in [("valid", 3.0), ("expired", 0.0), ("revoked", 1.0)] {
        assert_eq!(told(&format!("earmark_keys{{state=\"{state}\"}}")).await, count, "{state}");
    }
    let ends = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let first_end = told("earmark_keys_expire_timestamp_seconds").await;
    assert!((first_end - ends).abs() < 2.0, "{first_end}, not {ends}");

    authority.write_with(folder.path(), until(2032));
    let begin = std::time::Instant::now();
    while told(certificate).await != 1_956_528_000.0 {
        assert!(begin.elapsed() < PATIENCE, "the new certificate is not told of");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.signal("-TERM");
    let log = server.ended_with_log().await;
    assert!(log.contains("certificates were read again"), "{log}");
    assert!(!log.contains("keys were read again"), "nothing has changed in them:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_are_told_and_certificates_that_do_not_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::new();
    let old = keys.create(Scope::Admin, |_| {});
    let authority = Authority::new();
    authority.write(folder.path());
    let mut flags = tls_flags(folder.path());
    flags.extend(["--keys", keys.path().to_str().unwrap()].map(str::to_owned));
    flags.extend(["--metrics-listen", "127.0.0.1:0"].map(str::to_owned));
    let server = start(folder.path(), &flags);
    let page = server.said("metrics at ");
    let channel = connect(&server.url(), &authority, None).await.unwrap();
    let mut catalog = CatalogServiceClient::new(channel);
    let new = keys.create(Scope::Admin, |_| {});
    let begin = std::time::Instant::now();
    while catalog.get_stats(with_key(GetStatsRequest {}, &new)).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "the new key is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    keys.file.revoke(old.id()).unwrap();
    while catalog.get_stats(with_key(GetStatsRequest {}, &old)).await.is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the key is not revoked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(catalog);
    let failed = async |what: &str| {
        let page = page.clone();
        let told = tokio::task::spawn_blocking(move || scrape(&page)).await.unwrap();
        told[&format!("earmark_reload_failed{{what=\"{what}\"}}")]
    };
    assert_eq!(failed("keys").await, 0.0);
    let good = fs::read(keys.path()).unwrap();
    for (bytes, expected) in [(b"bad[".as_slice(), 1.0), (&good, 0.0)] {
        fs::write(keys.path(), bytes).unwrap();
        while failed("keys").await != expected {
            assert!(begin.elapsed() < PATIENCE, "{expected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(failed("certificates").await, 0.0);
    server.signal("-TERM");
    let log = server.ended_with_log().await;
    assert!(log.contains("valid_count=2 added=1 changed=0 removed=0"), "{log}");
    assert!(log.contains("valid_count=1 added=0 changed=1 removed=0"), "{log}");
    assert!(!log.contains("certificates were read again"), "{log}");
}
