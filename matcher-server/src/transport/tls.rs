//! Certificates: read from PEM files, and read again while the server runs.
//!
//! Connections that are open keep what they began with; new ones, and resumed sessions too, get what was read
//! last. TLS 1.2 and 1.3 by rustls, which speaks nothing older.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::certificate;
use crate::config::TlsFiles;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read, or is no PEM.
    #[error("{setting} {}: could not be read as PEM: {source}", path.display())]
    Pem {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// There is nothing of the kind in it.
    #[error("{setting} {}: there is no certificate in it; it must hold some in PEM", path.display())]
    Empty {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are no pair, or not understood.
    #[error("tls-cert {} with tls-key {}: cannot be used", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A root is none.
    #[error("tls-client-ca {}: a certificate in it is no root", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The roots do not do.
    #[error("tls-client-ca {}: cannot be used", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
}

/// The server's certificate, and whom it trusts.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Current>,
}

/// What was read last.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When the first certificate of the server's chain ends.
    ends: Option<SystemTime>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads the files again, for connections that come from now on.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; everything then stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// When the server's certificate, or one between it and its root, ends: the first of them.
    #[must_use]
    pub fn ends(&self) -> Option<SystemTime> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).ends
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.config).into()
    }
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { setting, path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(TlsError::Empty { setting, path: path.to_owned() });
    }
    Ok(found)
}

fn read(files: &TlsFiles) -> Result<Current, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let chain = certificates("tls-cert", cert)?;
    let ends = certificate::first_end(&chain);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem {
        setting: "tls-key",
        path: key.clone(),
        source,
    })?;
    let pair = |source| TlsError::Pair { cert: cert.clone(), key: key.clone(), source };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("tls-client-ca", path)? {
                roots.add(root).map_err(|source| TlsError::Root { path: path.clone(), source })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|source| TlsError::Roots { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Current { config: Arc::new(config), ends })
}
