//! What stands between the server and everybody else: encryption, keys, and which addresses it dares to serve.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use crate::access::Access;
use crate::config::Config;
use crate::keys::{KeyFile, KeysError};
use crate::task::Task;
use crate::transport::Transport;
use crate::transport::tls::TlsError;

/// How often files are looked at for changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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
    /// Files that are read again when they change.
    files: Vec<PathBuf>,
    /// How they were before they were read.
    seen: Seen,
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
        let mut files: Vec<_> = config.keys.iter().cloned().collect();
        if let Some(tls) = &config.tls {
            files.extend([tls.cert.clone(), tls.key.clone()]);
            files.extend(tls.client_ca.clone());
        }
        // First, so that what changes from here on, though the index may be opened for long, is read again.
        let seen = look(&files);
        let keys = config.keys.as_ref().map(KeyFile::new);
        let access = keys.map_or(Ok(Access::unlimited()), Access::with_keys)?;
        let transport = Transport::load(config)?;
        Ok(Self { access: Arc::new(access), transport: Arc::new(transport), files, seen })
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
            let now = look(&self.files);
            if asked || now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        // What is wrong stays as it was, and is read again when it changes once more.
        match self.transport.tls().map(|tls| tls.reload()) {
            None => {}
            Some(Ok(())) => tracing::info!("certificates were read again"),
            Some(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "certificates could not be read again; those of before stay"
            ),
        }
        match (self.access.reload(), self.access.valid_count()) {
            (Ok(()), None) => {}
            (Ok(()), Some(valid_count)) => tracing::info!(valid_count, "keys were read again"),
            (Err(error), _) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "keys could not be read again; those of before stay"
            ),
        }
    }
}

fn look(files: &[PathBuf]) -> Seen {
    let state = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(|path| (path.clone(), state(path))).collect()
}
