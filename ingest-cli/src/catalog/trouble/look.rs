//! A look at a server by hand, once a connection to it has broken for no reason that could be told.
//!
//! What a server of TLS 1.3 thinks of our certificate it says behind the handshake, where HTTP/2 often reports no more
//! than that the connection is closed; and a server that wants TLS looks broken to whoever speaks without.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Trouble;
use crate::args::ConnectArgs;

/// How long a server may take to say what it has to say.
const TIME_MAX: Duration = Duration::from_secs(2);
/// How a client of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How a server that wants TLS answers that: a record of alerts.
const TLS_ALERT: [u8; 2] = [21, 3];
/// How one of HTTP/2 does: the length of its settings, three bytes of which the first is 0 as it is below 65,536.
const SETTINGS_BEGIN: u8 = 0;

type Looked<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What is wrong with a connection without encryption: the server may want it, or be another.
pub(in super::super) async fn plain(host: &str, port: u16) -> Option<Trouble> {
    let look = async {
        let mut socket = TcpStream::connect((host, port)).await?;
        socket.write_all(PREFACE).await?;
        let mut begin = [0; TLS_ALERT.len()];
        socket.read_exact(&mut begin).await?;
        Looked::Ok(begin)
    };
    let begin = tokio::time::timeout(TIME_MAX, look).await.ok()?.ok()?;
    match begin {
        TLS_ALERT => Some(Trouble::WantsTls),
        [SETTINGS_BEGIN, _] => None,
        _ => Some(Trouble::NoHttp2),
    }
}

/// What is wrong with an encrypted one: the server may want a certificate of ours, or another.
pub(in super::super) async fn encrypted(
    host: &str,
    port: u16,
    args: &ConnectArgs,
) -> Option<Trouble> {
    let look = async {
        let connector = TlsConnector::from(Arc::new(config(args)?));
        let socket = TcpStream::connect((host, port)).await?;
        let mut stream = connector.connect(ServerName::try_from(host.to_owned())?, socket).await?;
        stream.write_all(PREFACE).await?;
        stream.read_exact(&mut [0]).await?;
        Looked::Ok(())
    };
    let failed = tokio::time::timeout(TIME_MAX, look).await.ok()?.err()?;
    Trouble::of_tls(&*failed)
}

/// Trusts and shows the same as the connection itself.
fn config(args: &ConnectArgs) -> Looked<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &args.ca_cert {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)?.collect();
            roots.add_parsable_certificates(found?);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (&args.client_cert, &args.client_key) {
        (Some(cert), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)?.collect();
            builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
