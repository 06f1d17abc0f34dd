//! `BackupService`, and a server that follows an index: codes of what is refused.

use earmark_proto::v1::backup::State;
use earmark_proto::v1::backup_service_client::BackupServiceClient;
use earmark_proto::v1::catalog_service_client::CatalogServiceClient;
use earmark_proto::v1::{
    CreateBackupRequest, GetTrackRequest, ListBackupsRequest, RemoveTrackRequest,
};
use fingerprint_core::index::{Index, RocksIndex, backup};
use fingerprint_core::params::Params;
use tonic::Code;

use crate::support::{Process, Server, add, tune, wav};

#[tokio::test]
async fn backups_are_made_and_listed_while_tracks_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let flags = ["--backup-dir", backups.to_str().unwrap()];
    let server = Process::start(&folder.path().join("index"), &flags);
    let mut catalog = CatalogServiceClient::connect(server.url()).await.unwrap();
    let mut client = BackupServiceClient::connect(server.url()).await.unwrap();
    for (count, id) in ["a", "b", "c"].into_iter().enumerate() {
        let (audio, next) = (wav(&tune(count as u64, 5)), wav(&tune(10 + count as u64, 5)));
        add(&mut catalog, id, &audio).await.unwrap();
        // At the same time as another upload.
        let mut other = catalog.clone();
        let name = format!("{id}-too");
        let upload = tokio::spawn(async move { add(&mut other, &name, &next).await.unwrap() });
        let made = client.create_backup(CreateBackupRequest { keep: 2 }).await.unwrap();
        let made = made.into_inner().backup.unwrap();
        upload.await.unwrap();
        assert_eq!(made.state(), State::Verified);
        let least = 2 * count as u64 + 1;
        assert!((least..=least + 1).contains(&made.track_count), "{made:?}");
        assert!(made.taken_at.is_some() && made.bytes >= made.added_bytes);
        assert_eq!(made.params_digest, format!("{:016x}", Params::default().digest()));
        let listed = client.list_backups(ListBackupsRequest {}).await.unwrap().into_inner();
        assert_eq!(listed.backups.len(), (count + 1).min(2));
        assert_eq!(listed.backups.last().map(|backup| backup.backup_id), Some(made.backup_id));
    }
    let place = folder.path().join("restored");
    backup::restore(&backups, None, &place, &Params::default()).unwrap();
    let restored = RocksIndex::open(&place, &Params::default()).unwrap();
    for id in ["a", "a-too", "b", "b-too", "c"] {
        let id = fingerprint_core::units::TrackId::new(id).unwrap();
        assert!(restored.track(&id).unwrap().is_some(), "{id}");
    }
}

#[tokio::test]
async fn a_server_without_a_folder_makes_no_backups() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let mut on_disk = BackupServiceClient::connect(process.url()).await.unwrap();
    let server = Server::start("backup_dir = '/nowhere'").await;
    let mut in_memory = BackupServiceClient::new(server.channel().await);
    for client in [&mut on_disk, &mut in_memory] {
        let made = client.create_backup(CreateBackupRequest { keep: 0 }).await.unwrap_err();
        let listed = client.list_backups(ListBackupsRequest {}).await.unwrap_err();
        assert_eq!(
            (made.code(), listed.code()),
            (Code::FailedPrecondition, Code::FailedPrecondition)
        );
        assert!(made.message().contains("backup") && !made.message().contains("nowhere"), "{made}");
    }
}

#[tokio::test]
async fn a_follower_refuses_changes_and_answers_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let writer = Process::start(&index, &[]);
    let follower = Process::start(&index, &["--follow"]);
    let mut writing = CatalogServiceClient::connect(writer.url()).await.unwrap();
    let mut reading = CatalogServiceClient::connect(follower.url()).await.unwrap();
    add(&mut writing, "x", &wav(&tune(1, 5))).await.unwrap();
    let wanted = GetTrackRequest { track_id: "x".to_owned() };
    let limit = std::time::Duration::from_secs(20);
    let seen = async {
        while reading.get_track(wanted.clone()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, seen).await.unwrap();
    let added = add(&mut reading, "y", &wav(&tune(2, 5))).await.unwrap_err();
    let request = RemoveTrackRequest { track_id: "x".to_owned(), ..RemoveTrackRequest::default() };
    let removed = reading.remove_track(request).await.unwrap_err();
    for status in [added, removed] {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("only follows"), "{status}");
    }
    follower.signal("-TERM");
    assert_eq!(follower.ended().await.code(), Some(0));
}
