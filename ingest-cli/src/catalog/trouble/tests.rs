//! Real handshakes that fail, each in its way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, AlertDescription, PeerIncompatible, ServerConfig};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::super::dial::Dial;
use super::Trouble;
use crate::args::ConnectArgs;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server at localhost that ends with its runtime.
struct Served {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Served {
    /// With encryption, or without.
    fn start(tls: Option<ServerTlsConfig>) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), tls)
    }

    fn start_on(listener: TcpListener, tls: Option<ServerTlsConfig>) -> Self {
        let runtime = Runtime::new().unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let _entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let (_, health) = tonic_health::server::health_reporter();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        runtime.spawn(server.add_service(health).serve_with_incoming(incoming));
        drop(_entered);
        Self { address, _runtime: runtime }
    }

    fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}", self.address.port())
    }
}

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key for `name`, of these years.
    fn issue(&self, name: &str, years: [i32; 2]) -> Identity {
        let (cert, key) = self.issue_pem(name, years);
        Identity::from_pem(cert, key)
    }

    fn issue_pem(&self, name: &str, years: [i32; 2]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

const VALID: [i32; 2] = [2000, 2100];

/// A folder with the files of a client.
struct Files(TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> Option<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    fn trusting(&self, authority: &Authority) -> ConnectArgs {
        let ca_cert = self.write("ca.pem", &authority.0.pem());
        ConnectArgs { ca_cert, ..ConnectArgs::default() }
    }

    fn showing(&self, own: &Authority, args: ConnectArgs) -> ConnectArgs {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &own.0).unwrap();
        let client_cert = self.write("client.pem", &cert.pem());
        ConnectArgs { client_cert, client_key: self.write("key.pem", &key.serialize_pem()), ..args }
    }
}

/// What is told of connecting; nothing if it went well.
fn told(url: &str, args: &ConnectArgs) -> String {
    told_within(PATIENCE, url, args)
}

fn told_within(limit: Duration, url: &str, args: &ConnectArgs) -> String {
    let dial = Dial::new(url, args).unwrap();
    let connected = Runtime::new().unwrap().block_on(dial.connect(limit));
    connected.map_or_else(|error| format!("{error:#}"), |_| String::new())
}

#[test]
fn each_fault_of_the_servers_certificate_is_told_with_its_own_way_out() {
    let files = Files(tempfile::tempdir().unwrap());
    let (known, unknown) = (Authority::new("ours"), Authority::new("theirs"));
    let namesake = Authority::new("ours");
    let trusting = files.trusting(&known);
    for (identity, way_out) in [
        (known.issue("localhost", VALID), ""),
        (unknown.issue("localhost", VALID), "--ca-cert FILE with the certificate that signed it"),
        (namesake.issue("localhost", VALID), "--ca-cert FILE with the certificate that signed it"),
        (known.issue("other.example", VALID), "a name that stands in it"),
        (known.issue("localhost", [2000, 2001]), "must renew it"),
        (known.issue("localhost", [2098, 2099]), "is the clock of this machine right?"),
    ] {
        let server = Served::start(Some(ServerTlsConfig::new().identity(identity)));
        let text = told(&server.url("https", "localhost"), &trusting);
        assert!(text.contains(way_out) && text.is_empty() == way_out.is_empty(), "{text}");
    }
}

#[test]
fn what_the_server_thinks_of_our_certificate_is_told() {
    let files = Files(tempfile::tempdir().unwrap());
    let (known, unknown) = (Authority::new("ours"), Authority::new("theirs"));
    let tls = ServerTlsConfig::new()
        .identity(known.issue("localhost", VALID))
        .client_ca_root(Certificate::from_pem(known.0.pem()));
    let server = Served::start(Some(tls));
    let url = server.url("https", "localhost");
    let without = files.trusting(&known);
    // Again and again: what HTTP/2 makes of it is a matter of microseconds.
    for _ in 0..20 {
        let text = told(&url, &without);
        assert!(text.contains("wants to see a certificate; give --client-cert"), "{text}");
    }
    let text = told(&url, &files.showing(&unknown, without.clone()));
    assert!(text.contains("signed by nobody whom it trusts; give --client-cert"), "{text}");
    assert_eq!(told(&url, &files.showing(&known, without)), "");
}

#[test]
fn encryption_on_one_side_only_is_told_with_the_other_address() {
    let files = Files(tempfile::tempdir().unwrap());
    let known = Authority::new("ours");
    let tls = ServerTlsConfig::new().identity(known.issue("localhost", VALID));
    let (encrypted, plain) = (Served::start(Some(tls)), Served::start(None));
    let text = told(&encrypted.url("http", "127.0.0.1"), &ConnectArgs::default());
    assert!(text.contains("give https://"), "{text}");
    let text = told(&plain.url("https", "localhost"), &files.trusting(&known));
    assert!(text.contains("does not encrypt; give http://"), "{text}");
}

#[test]
fn who_is_no_earmark_server_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // However often it is called: the connection may be made anew before somebody looks. It ends with the tests.
    std::thread::spawn(move || {
        for mut call in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = call.read(&mut [0; 100]);
                let _ = call.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                // Closed with something unread it would be reset, and the answer lost.
                let _ = call.shutdown(Shutdown::Write);
                let _ = call.read_to_end(&mut Vec::new());
            });
        }
    });
    let text = told(&url, &ConnectArgs::default());
    assert!(text.contains("does not speak HTTP/2; is it an earmark-server"), "{text}");
}

#[test]
fn where_nobody_listens_it_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let text = told(&url, &ConnectArgs::default());
    assert!(
        text.contains("is earmark-server running?") && !text.contains("did not pass"),
        "{text}"
    );
}

#[test]
fn a_handshake_that_fails_for_any_other_reason_is_told_in_its_own_words() {
    // A fatal alert, handshake_failure: as of a server without a cipher in common.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut call, _) = listener.accept().unwrap();
        let _ = call.read(&mut [0; 4096]).unwrap();
        call.write_all(&[21, 3, 3, 0, 2, 2, 40]).unwrap();
    });
    let text = told(&url, &ConnectArgs::default());
    server.join().unwrap();
    let words = "the TLS handshake failed (received fatal alert: HandshakeFailure)";
    assert!(text.contains(words) && text.contains("TLS 1.2 or 1.3"), "{text}");

    for error in [
        rustls::Error::AlertReceived(AlertDescription::InternalError),
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        rustls::Error::NoApplicationProtocol,
        rustls::Error::DecryptError,
    ] {
        let words = error.to_string();
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        assert_eq!(Trouble::of_connecting(&error), Trouble::Handshake(words));
    }
    // As HTTP/2 hands it on.
    let handed_on = io::Error::other("connection error: received fatal alert: InternalError");
    let words = "received fatal alert: InternalError".to_owned();
    assert_eq!(Trouble::of_first_call(&handed_on), Trouble::Handshake(words));
}

#[test]
fn an_encrypted_server_without_http_2_is_told_so() {
    let files = Files(tempfile::tempdir().unwrap());
    let known = Authority::new("ours");
    let (cert, key) = known.issue_pem("localhost", VALID);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    runtime.spawn(async move {
        let (call, _) = listener.accept().await.unwrap();
        let _ =
            TlsAcceptor::from(Arc::new(config)).accept(call).await.unwrap().read(&mut [0]).await;
    });
    let text = told(&url, &files.trusting(&known));
    assert!(text.contains("does not speak HTTP/2"), "{text}");
}

/// Takes so many calls and hangs up at once, as a server does that is about to stop.
fn hang_up(listener: &TcpListener, count: usize) {
    for _ in 0..count {
        drop(listener.accept().unwrap());
    }
}

#[test]
fn a_server_that_is_being_restarted_is_waited_for() {
    let files = Files(tempfile::tempdir().unwrap());
    let known = Authority::new("ours");
    let trusting = files.trusting(&known);
    for scheme in ["http", "https"] {
        let tls = (scheme == "https")
            .then(|| ServerTlsConfig::new().identity(known.issue("localhost", VALID)));
        // Also while nobody listens at all.
        for is_away in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let tls = tls.clone();
            let served = std::thread::spawn(move || {
                hang_up(&listener, 3);
                if !is_away {
                    return Served::start_on(listener, tls);
                }
                drop(listener);
                std::thread::sleep(Duration::from_millis(500));
                Served::start_on(TcpListener::bind(address).unwrap(), tls)
            });
            let url = format!("{scheme}://localhost:{}", address.port());
            assert_eq!(told(&url, &trusting), "", "{scheme}, away: {is_away}");
            drop(served.join().unwrap());
        }
    }
}

#[test]
fn a_server_that_only_hangs_up_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || hang_up(&listener, usize::MAX));
    let began = Instant::now();
    let text = told_within(Duration::from_secs(1), &url, &ConnectArgs::default());
    assert!(text.contains("broke at once") && text.contains("did not pass within 1s"), "{text}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}
