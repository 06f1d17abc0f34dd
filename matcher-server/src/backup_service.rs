//! `BackupService`: backups of the served index, in the one folder that the settings name.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use earmark_proto::v1;
use fingerprint_core::index::RocksIndex;
use fingerprint_core::index::backup::{self, BackupError};
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::reason::Reason;
use crate::work::Work;
use crate::{Served, convert, status};

/// Keeps backups.
#[derive(Debug)]
pub(crate) struct Backups {
    /// None of an index that this process does not write.
    index: Option<Arc<RocksIndex>>,
    folder: Option<PathBuf>,
    work: Work,
}

impl Backups {
    pub(crate) fn new(served: &Served, config: &Config, work: Work) -> Self {
        let index = match served {
            Served::Writer(index) => Some(Arc::clone(index)),
            Served::Follower(_) | Served::Other(_) => None,
        };
        Self { index, folder: config.backup_dir.clone(), work }
    }

    /// The index to back up, and where to.
    fn source(&self) -> Result<(Arc<RocksIndex>, PathBuf), Status> {
        let index = self.index.clone().ok_or_else(|| {
            Reason::NotConfigured
                .status("this server does not write its index; ask the one that does for a backup")
        })?;
        let folder = self.folder.clone().ok_or_else(|| {
            Reason::NotConfigured
                .status("this server has no folder for backups; start it with --backup-dir DIR")
        })?;
        Ok((index, folder))
    }
}

#[tonic::async_trait]
impl v1::backup_service_server::BackupService for Backups {
    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        let keep = NonZeroU32::new(request.into_inner().keep);
        let (index, folder) = self.source()?;
        let job = self.work.backups.run(move |cancel| {
            cancel.check()?;
            let made = index.back_up(&folder, keep).map_err(status::from_backup)?;
            tracing::info!(
                backup_id = made.id,
                bytes = made.bytes,
                added_bytes = made.added_bytes,
                "backup made"
            );
            Ok(v1::CreateBackupResponse { backup: Some(convert::backup_message(made)) })
        });
        job.await.map(Response::new)
    }

    async fn list_backups(
        &self,
        _request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let (_, folder) = self.source()?;
        let job = self.work.lookups.run(move |_| {
            let backups = match backup::list(&folder) {
                Err(BackupError::NoBackups { .. }) => Vec::new(),
                listed => listed.map_err(status::from_backup)?,
            };
            let backups = backups.into_iter().map(convert::backup_message).collect();
            Ok(v1::ListBackupsResponse { backups })
        });
        job.await.map(Response::new)
    }
}
