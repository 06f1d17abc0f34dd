//! Real handshakes that fail, each in its way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::super::dial::Dial;
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
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let _entered = runtime.enter();
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
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(cert.pem(), key.serialize_pem())
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
    let dial = Dial::new(url, args).unwrap();
    let connected = Runtime::new().unwrap().block_on(dial.connect(PATIENCE));
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
    let web = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut call, _) = listener.accept().unwrap();
            let _ = call.read(&mut [0; 100]).unwrap();
            let _ = call.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let text = told(&url, &ConnectArgs::default());
    assert!(text.contains("is it an earmark-server"), "{text}");
    web.join().unwrap();
    let text = told(&url, &ConnectArgs::default());
    assert!(text.contains("is earmark-server running?"), "{text}");
}
