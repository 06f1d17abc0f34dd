//! What stands between the server and everybody else: encryption, keys, and which addresses it dares to serve.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use crate::access::{Access, KeyChanges};
use crate::config::{Config, TlsFiles};
use crate::keys::{KeyFile, KeysError};
use crate::task::Task;
use crate::transport::Transport;
use crate::transport::tls::{Tls, TlsError};

/// How often files are looked at for changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// From when on a certificate's end is warned of, when it is read.
const END_WARNING: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// Certificates are no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Keys are no good.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Other machines could read and change everything.
    #[error(
        "{address} can be reached from other machines, and {missing}; set tls-cert and tls-key, and keys (`earmark keys create` makes some) or tls-client-ca, or listen on 127.0.0.1, or, if something in front of the server sees to it, say --allow-insecure"
    )]
    Exposed {
        /// Where it would listen.
        address: SocketAddr,
        /// What is missing.
        missing: &'static str,
    },
}

/// Encryption and keys of a server.
#[derive(Debug, Clone)]
pub struct Security {
    /// Who may do what.
    pub access: Arc<Access>,
    /// What connections go through.
    pub transport: Arc<Transport>,
    failed: Arc<Failed>,
    /// Files of certificates, which are read again when one of them changes.
    tls_files: Vec<PathBuf>,
    /// The same of keys.
    key_files: Vec<PathBuf>,
    /// How all of these were before they were read.
    seen: Seen,
}

/// What could not be read again when it had changed.
#[derive(Debug, Default)]
struct Failed {
    certificates: AtomicBool,
    keys: AtomicBool,
}

/// What tells whether a file has changed: when it was written, its length and its number.
type Seen = HashMap<PathBuf, Option<(SystemTime, u64, u64)>>;

impl Security {
    /// Reads certificates and keys.
    ///
    /// # Errors
    ///
    /// [`SecurityError::Tls`], [`SecurityError::Keys`].
    pub fn load(config: &Config) -> Result<Self, SecurityError> {
        let key_files: Vec<_> = config.keys.iter().cloned().collect();
        let tls_files: Vec<_> = config.tls.iter().flat_map(TlsFiles::all).cloned().collect();
        // First, so that what changes from here on, though the index may be opened for long, is read again.
        let seen = look(tls_files.iter().chain(&key_files));
        let keys = config.keys.as_ref().map(KeyFile::new);
        let access = Arc::new(keys.map_or(Ok(Access::unlimited()), Access::with_keys)?);
        let transport = Arc::new(Transport::load(config)?);
        if let Some(tls) = transport.tls() {
            log_end(tls, "certificates were read");
        }
        Ok(Self { access, transport, failed: Arc::default(), tls_files, key_files, seen })
    }

    /// Whether what was read last could not be used, so that what was read before holds: by name, of what there is.
    pub(crate) fn reload_failures(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let certificates = (!self.tls_files.is_empty())
            .then(|| ("certificates", self.failed.certificates.load(Ordering::Relaxed)));
        let keys = (!self.key_files.is_empty())
            .then(|| ("keys", self.failed.keys.load(Ordering::Relaxed)));
        certificates.into_iter().chain(keys)
    }

    /// Refuses an address of which other machines could misuse the server, and says in the log how open it is.
    ///
    /// # Errors
    ///
    /// [`SecurityError::Exposed`].
    pub fn check_address(&self, address: SocketAddr, config: &Config) -> Result<(), SecurityError> {
        let encrypted = config.tls.is_some();
        let shows_who = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let guarded = self.access.needs_key() || shows_who;
        let missing = match (encrypted, guarded) {
            (true, true) => None,
            (true, false) => Some("clients need no key"),
            (false, true) => Some("nothing is encrypted, keys included"),
            (false, false) => Some("nothing is encrypted and clients need no key"),
        };
        if self.access.valid_count() == Some(0) {
            tracing::warn!("no key is valid: nobody gets in; make one with `earmark keys create`");
        }
        match missing {
            None => Ok(()),
            Some(missing) if address.ip().is_loopback() => {
                tracing::info!("for this machine only, as {missing}");
                Ok(())
            }
            Some(missing) if config.allow_insecure => {
                tracing::warn!("{address} can be reached from other machines, and {missing}");
                Ok(())
            }
            Some(missing) => Err(SecurityError::Exposed { address, missing }),
        }
    }

    /// Reads certificates and keys again when their files change, and on SIGHUP, until the answer is dropped.
    pub(crate) fn keep_fresh(&self) -> Task {
        let security = self.clone();
        Task::spawn(async move { security.watch().await })
    }

    async fn watch(&self) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut seen = self.seen.clone();
        let mut is_first = true;
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let pause = if is_first { Duration::ZERO } else { LOOK_INTERVAL };
            is_first = false;
            let asked = tokio::time::timeout(pause, asked).await.is_ok();
            let now = look(self.tls_files.iter().chain(&self.key_files));
            let has_changed = |files: &[PathBuf]| {
                asked || files.iter().any(|file| now.get(file) != seen.get(file))
            };
            if has_changed(&self.tls_files) {
                self.reload_certificates();
            }
            if has_changed(&self.key_files) {
                self.reload_keys();
            }
            seen = now;
        }
    }

    // What is wrong stays as it was, and is read again when it changes once more.
    fn reload_certificates(&self) {
        let Some(tls) = self.transport.tls() else { return };
        let read = tls.reload();
        self.failed.certificates.store(read.is_err(), Ordering::Relaxed);
        match read {
            Ok(()) => log_end(tls, "certificates were read again"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "certificates could not be read again; those of before stay"
            ),
        }
    }

    fn reload_keys(&self) {
        let read = self.access.reload();
        self.failed.keys.store(read.is_err(), Ordering::Relaxed);
        match (read, self.access.valid_count()) {
            (Ok(_), None) => {}
            (Ok(KeyChanges { added, changed, removed }), Some(valid_count)) => {
                tracing::info!(valid_count, added, changed, removed, "keys were read again");
            }
            (Err(error), _) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "keys could not be read again; those of before stay"
            ),
        }
    }
}

/// Tells until when certificates hold that were read.
fn log_end(tls: &Tls, what: &str) {
    let Some(end) = tls.ends() else {
        tracing::warn!("{what}; when they end could not be told");
        return;
    };
    let ends = humantime::format_rfc3339_seconds(end);
    if end <= SystemTime::now() {
        tracing::error!(%ends, "{what}; one has ended, and clients refuse it: put another in its place (tls-cert)");
    } else if end <= SystemTime::now() + END_WARNING {
        tracing::warn!(%ends, "{what}; one ends soon");
    } else {
        tracing::info!(%ends, "{what}");
    }
}

fn look<'f>(files: impl Iterator<Item = &'f PathBuf>) -> Seen {
    let state = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.map(|path| (path.clone(), state(path))).collect()
}
