//! How a server is reached: its address, whom to trust, and the key that every call shows.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use matcher_server::keys::Token;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::patience::Patience;
use super::trouble::{Trouble, look};
use crate::args::{ConnectArgs, KEY_ENV};

/// How often a silent server is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When a server that does not say that it is there is looked at more closely.
const LOOK_AFTER: Duration = Duration::from_secs(3);

/// A connection whose calls show a key, if there is one.
pub(crate) type Calls = InterceptedService<Channel, Bearer>;

/// A server that can be connected to, more than once.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    endpoint: Endpoint,
    bearer: Bearer,
    url: String,
    args: ConnectArgs,
}

/// Why it could not be connected to.
struct Failure {
    trouble: Trouble,
    /// The error that it was told from, if that has more to say.
    cause: Option<tonic::transport::Error>,
}

/// The key, as every call shows it.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Dial {
    /// Reads certificates and the key.
    ///
    /// # Errors
    ///
    /// If `url` is no address, or a file cannot be used.
    pub(crate) fn new(url: &str, args: &ConnectArgs) -> Result<Self> {
        let url = complete_url(url)?;
        let mut endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("{url:?} is not an address; try http://127.0.0.1:50051"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A network that is gone says nothing.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .user_agent(concat!("earmark/", env!("CARGO_PKG_VERSION")))
            .context("the user agent is not a header value")?;
        let is_encrypted = url.starts_with("https://");
        if is_encrypted {
            endpoint = endpoint
                .tls_config(tls(args)?)
                .with_context(|| format!("{url}: the certificates cannot be used"))?;
        } else if args.client_cert.is_some() {
            bail!("a client certificate is for an https server, and {url} is none");
        }
        let token = token(args)?;
        let host = endpoint.uri().host().unwrap_or_default();
        if token.is_some() && !is_encrypted && !is_this_machine(host) {
            tracing::warn!(
                "the key is sent to {url} without encryption: whoever listens can use it"
            );
        }
        Ok(Self { endpoint, bearer: Bearer::new(token)?, url, args: args.clone() })
    }

    /// Connects within `timeout`. A server that hangs up is waited for, as it may be restarting just then; one that is
    /// not there from the beginning is not.
    ///
    /// # Errors
    ///
    /// If nobody answers, or the two do not come together.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<Calls> {
        let mut patience = Patience::of(timeout);
        let mut was_there = false;
        loop {
            let Failure { trouble, cause } = match self.try_to_connect(&patience).await {
                Ok(calls) => return Ok(calls),
                Err(failure) => failure,
            };
            let has_hung_up = matches!(trouble, Trouble::Broken(_));
            if has_hung_up && !was_there {
                let limit = humantime::format_duration(patience.left());
                tracing::warn!("{} hangs up; trying again for {limit} at most", self.url);
            }
            was_there |= has_hung_up;
            let may_pass = has_hung_up || (was_there && trouble == Trouble::NoServer);
            if may_pass && patience.lasts_for_another().await {
                continue;
            }
            let mut words = trouble.explain(&self.url);
            if may_pass {
                let limit = humantime::format_duration(patience.limit);
                words = format!("{words} It did not pass within {limit}");
            }
            return Err(match cause {
                Some(cause) => anyhow!(cause).context(words),
                None => anyhow!(words),
            });
        }
    }

    /// Connects, and asks the server whether it is there: only then a server tells what it thinks of our certificate,
    /// or that it wants TLS.
    async fn try_to_connect(&self, patience: &Patience) -> Result<Calls, Failure> {
        let endpoint = self.endpoint.clone().connect_timeout(CONNECT_TIMEOUT.min(patience.left()));
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(cause) => {
                let trouble = self.look_into(Trouble::of_connecting(&cause)).await;
                return Err(Failure { trouble, cause: Some(cause) });
            }
        };
        // Open to everybody. Whatever the server itself answers, it is there.
        let mut health = HealthClient::new(channel.clone());
        let mut asked = pin!(health.check(HealthCheckRequest::default()));
        let mut answer = tokio::time::timeout(LOOK_AFTER.min(patience.left()), &mut asked).await;
        if answer.is_err() {
            // The connection may be made and lost again and again meanwhile, without a word.
            if let Some(trouble) = self.look().await {
                return Err(Failure { trouble, cause: None });
            }
            answer = tokio::time::timeout(patience.left(), asked).await;
        }
        let trouble = match answer {
            Err(_) => Trouble::Silent(patience.limit),
            Ok(answer) => match answer.as_ref().err().and_then(Error::source) {
                None => return Ok(InterceptedService::new(channel, self.bearer.clone())),
                Some(broken) => self.look_into(Trouble::of_first_call(broken)).await,
            },
        };
        Err(Failure { trouble, cause: None })
    }

    /// The same trouble, or a better known one, if a look can tell it.
    async fn look_into(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Broken(words) => self.look().await.unwrap_or(Trouble::Broken(words)),
            trouble => trouble,
        }
    }

    /// What is wrong with the server, or with us, that a look can tell.
    async fn look(&self) -> Option<Trouble> {
        let uri = self.endpoint.uri();
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        if uri.scheme_str() == Some("https") {
            look::encrypted(host, uri.port_u16().unwrap_or(443), &self.args).await
        } else {
            look::plain(host, uri.port_u16().unwrap_or(80)).await
        }
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Bearer {
    fn new(token: Option<Token>) -> Result<Self> {
        let value = token.map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.reveal()))
                .context("the key is no header value")?;
            // Never in a log, and never in a table of compressed headers.
            value.set_sensitive(true);
            Ok::<_, anyhow::Error>(value)
        });
        Ok(Self(value.transpose()?))
    }
}

fn tls(args: &ConnectArgs) -> Result<ClientTlsConfig> {
    let read = |path: &Path| {
        fs::read(path).with_context(|| format!("{}: could not be read", path.display()))
    };
    let certificate = |path: &Path| {
        let pem = read(path)?;
        match CertificateDer::pem_slice_iter(&pem).next() {
            Some(Ok(_)) => Ok(pem),
            _ => bail!(
                "no certificate in {}; it must hold one in PEM, which begins with -----BEGIN CERTIFICATE-----",
                path.display()
            ),
        }
    };
    let config = match &args.ca_cert {
        None => ClientTlsConfig::new().with_webpki_roots(),
        Some(path) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate(path)?))
        }
    };
    match (&args.client_cert, &args.client_key) {
        (None, None) => Ok(config),
        (Some(cert), Some(key)) => {
            Ok(config.identity(Identity::from_pem(certificate(cert)?, read(key)?)))
        }
        _ => bail!("--client-cert and --client-key go together; give both"),
    }
}

/// The key of the file, or else of the environment.
fn token(args: &ConnectArgs) -> Result<Option<Token>> {
    let (text, place) = match &args.key_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("key {}: could not be read", path.display()))?;
            (text, path.display().to_string())
        }
        None => match std::env::var(KEY_ENV) {
            Ok(text) if !text.is_empty() => (text, KEY_ENV.to_owned()),
            _ => return Ok(None),
        },
    };
    let token = Token::parse(text.trim());
    token.map(Some).ok_or_else(|| {
        anyhow!(
            "{place}: there is no key in it; it must hold one as `earmark keys create` prints it"
        )
    })
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn complete_url(url: &str) -> Result<String> {
    match url.split_once("://") {
        Some(("http" | "https", _)) => Ok(url.trim_end_matches('/').to_owned()),
        Some((scheme, _)) => {
            bail!("{url}: unknown scheme {scheme}; use http://HOST:PORT or https://HOST:PORT")
        }
        None => Ok(format!("http://{url}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused_with_a_way_out() {
        assert_eq!(complete_url("localhost:1").unwrap(), "http://localhost:1");
        assert_eq!(complete_url("http://a:1/").unwrap(), "http://a:1");
        assert_eq!(complete_url("https://a").unwrap(), "https://a");
        assert!(complete_url("ftp://a").unwrap_err().to_string().contains("http://HOST:PORT"));
    }

    #[test]
    fn what_is_wrong_with_keys_and_certificates_is_said_without_repeating_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let args = ConnectArgs { key_file: Some(path.clone()), ..ConnectArgs::default() };
        let told =
            |args: &ConnectArgs| format!("{:#}", Dial::new("http://[::1]:1", args).unwrap_err());
        assert!(told(&args).contains("could not be read"));
        fs::write(&path, "earmark_secret").unwrap();
        let text = told(&args);
        assert!(text.contains("no key in it") && !text.contains("earmark_secret"), "{text}");
        let secret = "0f".repeat(32);
        fs::write(&path, format!("earmark_0123abcd_{secret}\n")).unwrap();
        let dial = Dial::new("http://[::1]:1", &args).unwrap();
        assert!(!format!("{dial:?}").contains(&secret));

        let half = ConnectArgs { client_cert: Some(path), ..ConnectArgs::default() };
        assert!(told(&half).contains("for an https server"));
        let text = Dial::new("https://localhost:1", &half).unwrap_err().to_string();
        assert!(text.contains("go together"), "{text}");

        // A key of TLS in the place of a certificate, and none at all.
        let path = folder.path().join("tls.pem");
        for pem in ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ""] {
            fs::write(&path, pem).unwrap();
            let args = ConnectArgs { ca_cert: Some(path.clone()), ..ConnectArgs::default() };
            let text = Dial::new("https://localhost:1", &args).unwrap_err().to_string();
            assert!(text.contains("no certificate in") && text.contains("tls.pem"), "{text}");
        }
    }

    #[test]
    fn this_machine_is_recognised_by_its_address() {
        for (host, expected) in [
            ("localhost", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_this_machine(host), expected, "{host}");
        }
    }
}
