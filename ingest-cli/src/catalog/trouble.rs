//! Why a connection to a server came to nothing, and what helps.
//!
//! What goes wrong in a TLS handshake rustls says as an error of its own, somewhere in the chain. What comes behind it goes
//! through HTTP/2, which hands on the text at most: then [`look`] tells more.

pub(super) mod look;

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};

/// How rustls tells what the other side has said.
const ALERT_WORDS: &str = "received fatal alert: ";
/// How tonic tells that the other side does not say that it speaks HTTP/2.
const NO_HTTP2_WORDS: &str = "HTTP/2 was not negotiated.";
/// What a server may say of a client's certificate, or of none.
const ALERTS: [(&str, Trouble); 8] = [
    ("CertificateRequired", Trouble::NoCertificateOfOurs),
    ("UnknownCA", Trouble::OurCertificate("signed by nobody whom it trusts")),
    ("CertificateExpired", Trouble::OurCertificate("expired")),
    ("CertificateRevoked", Trouble::OurCertificate("revoked")),
    ("BadCertificate", Trouble::OurCertificate("not one that it can use")),
    ("UnsupportedCertificate", Trouble::OurCertificate("not one that it can use")),
    ("CertificateUnknown", Trouble::OurCertificate("not one that it can use")),
    ("AccessDenied", Trouble::OurCertificate("not one that it lets in")),
];

/// What is wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody listens, or there is no such host.
    NoServer,
    /// The server's certificate is signed by nobody whom we trust.
    Untrusted,
    /// It is for other names than that of the address.
    OtherName,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It cannot be used, for the reason that rustls gives.
    Unusable(String),
    /// The server does not encrypt.
    NoTls,
    /// The two do not agree on how to encrypt, for the reason that rustls or the server gives.
    Handshake(String),
    /// The server speaks something else than gRPC does.
    NoHttp2,
    /// The server encrypts, and we do not.
    WantsTls,
    /// The server wants to see a certificate.
    NoCertificateOfOurs,
    /// The server does not accept ours, because it is so.
    OurCertificate(&'static str),
    /// Whoever listens has said nothing for so long.
    Silent(Duration),
    /// It broke for a reason that cannot be told: a server that is being restarted does so, too.
    Broken(String),
}

impl Trouble {
    /// What an error of connecting means.
    pub(super) fn of_connecting(error: &(dyn Error + 'static)) -> Self {
        Self::of_tls(error).unwrap_or_else(|| {
            if chain(error).any(|cause| cause.to_string() == NO_HTTP2_WORDS) {
                Self::NoHttp2
            } else if chain(error).any(is_hung_up) {
                Self::Broken(last_words(error))
            } else {
                Self::NoServer
            }
        })
    }

    /// What it means that the first call broke on a connection that was made; `Broken` if it does not say.
    pub(super) fn of_first_call(error: &(dyn Error + 'static)) -> Self {
        Self::of_tls(error).unwrap_or_else(|| Self::Broken(last_words(error)))
    }

    fn of_tls(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = tls_error(error) {
            return Some(match error {
                TlsError::InvalidCertificate(error) => Self::of_certificate(error),
                TlsError::InvalidMessage(_) => Self::NoTls,
                TlsError::AlertReceived(alert) => Self::of_alert(&format!("{alert:?}")),
                other => Self::Handshake(other.to_string()),
            });
        }
        chain(error).find_map(|cause| {
            let text = cause.to_string();
            text.split_once(ALERT_WORDS).map(|(_, alert)| Self::of_alert(alert))
        })
    }

    fn of_alert(alert: &str) -> Self {
        let known = ALERTS.into_iter().find(|(name, _)| alert.starts_with(name));
        known.map_or_else(
            || Self::Handshake(format!("{ALERT_WORDS}{alert}")),
            |(_, trouble)| trouble,
        )
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // The latter: another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            other => Self::Unusable(other.to_string()),
        }
    }

    /// What is wrong, and the way out.
    pub(super) fn explain(&self, url: &str) -> String {
        match self {
            Self::NoServer => format!("no server answers at {url}; is earmark-server running?"),
            Self::Untrusted => format!(
                "{url}: the server's certificate is signed by nobody whom we trust; give --ca-cert FILE with the certificate that signed it"
            ),
            Self::OtherName => format!(
                "{url}: the server's certificate is for another name; call the server by a name that stands in it"
            ),
            Self::Expired => format!(
                "{url}: the server's certificate has expired; whoever runs the server must renew it"
            ),
            Self::NotYetValid => format!(
                "{url}: the server's certificate is not valid yet; is the clock of this machine right?"
            ),
            Self::Unusable(why) => format!(
                "{url}: the server's certificate cannot be used ({why}); whoever runs the server must make another"
            ),
            Self::NoTls => format!("{url}: the server there does not encrypt; give http://"),
            Self::Handshake(words) => format!(
                "{url}: the TLS handshake failed ({words}); is the address right, and does the server there, or a proxy before it, speak TLS 1.2 or 1.3 and HTTP/2?"
            ),
            Self::NoHttp2 => format!(
                "whoever listens at {url} does not speak HTTP/2; is it an earmark-server, and is the port right?"
            ),
            Self::WantsTls => format!("{url}: the server there wants encryption; give https://"),
            Self::NoCertificateOfOurs => format!(
                "{url}: the server wants to see a certificate; give --client-cert and --client-key of one that it trusts"
            ),
            Self::OurCertificate(what) => format!(
                "{url}: the server does not accept our certificate, it is {what}; give --client-cert and --client-key of one that it trusts (its --tls-client-ca)"
            ),
            Self::Silent(limit) => format!(
                "whoever listens at {url} did not answer within {}; is it an earmark-server? If it is only slow, raise --timeout",
                humantime::format_duration(*limit)
            ),
            Self::Broken(words) => format!(
                "the connection to {url} broke at once ({words}); is it an earmark-server, and is the port right? A server that has as many connections as it may have, or as one address may have, hangs up too"
            ),
        }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| (**cause).source())
}

/// What rustls says, if an error is of its making.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    chain(error).find_map(|cause| {
        // An error of I/O tells the causes of what is in it, but not that itself.
        let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inside = inside.and_then(|inside| inside.downcast_ref());
        cause.downcast_ref().or(inside)
    })
}

fn last_words(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// True if there was somebody who has hung up.
fn is_hung_up(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        )
    })
}

#[cfg(test)]
mod tests;
