//! Uploads as a server sees them.

use std::sync::mpsc;
use std::time::Duration;

use earmark_proto::v1::add_track_request::Part;
use earmark_proto::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use earmark_proto::v1::{
    AddTrackRequest, AddTrackResponse, GetStatsRequest, GetStatsResponse, GetTrackRequest,
    GetTrackResponse, ListTracksRequest, ListTracksResponse, RemoveTrackRequest,
    RemoveTrackResponse, Track,
};
use fingerprint_core::index::Metadata;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::super::dial::Dial;
use super::super::remote::RemoteCatalog;
use crate::args::ConnectArgs;

use super::super::{AddError, Audio, Catalog, Recording};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time that storing takes. A call that is cancelled meanwhile stores nothing.
const STORING: Duration = Duration::from_millis(300);

/// What a server got: how many bytes, and whether the call was still there when it was stored.
type Seen = (usize, bool);

/// A server that only looks at uploads.
struct Witness {
    seen: mpsc::Sender<Seen>,
}

/// Tells how a call ended; if nothing else does, by being dropped with it.
struct Call<'a> {
    seen: &'a mpsc::Sender<Seen>,
    byte_count: usize,
    is_stored: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.seen.send((self.byte_count, self.is_stored)).unwrap();
    }
}

#[tonic::async_trait]
impl CatalogService for Witness {
    async fn add_track(
        &self,
        request: Request<Streaming<AddTrackRequest>>,
    ) -> Result<Response<AddTrackResponse>, Status> {
        let mut call = Call { seen: &self.seen, byte_count: 0, is_stored: false };
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            if let Some(Part::Data(bytes)) = message.part {
                call.byte_count += bytes.len();
            }
        }
        // A cancelled call looks like one that ended: the transport reports its reset as the end
        // of the body, and drops the call a moment later.
        tokio::time::sleep(STORING).await;
        call.is_stored = true;
        let content_hash = "0".repeat(64);
        let track = Track { track_id: "T".into(), content_hash, ..Track::default() };
        Ok(Response::new(AddTrackResponse { track: Some(track), change: 1, duplicate_of: vec![] }))
    }

    async fn get_track(
        &self,
        _: Request<GetTrackRequest>,
    ) -> Result<Response<GetTrackResponse>, Status> {
        Err(Status::not_found(""))
    }

    async fn list_tracks(
        &self,
        _: Request<ListTracksRequest>,
    ) -> Result<Response<ListTracksResponse>, Status> {
        Ok(Response::new(ListTracksResponse::default()))
    }

    async fn remove_track(
        &self,
        _: Request<RemoveTrackRequest>,
    ) -> Result<Response<RemoveTrackResponse>, Status> {
        Err(Status::not_found(""))
    }

    async fn get_stats(
        &self,
        _: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        Ok(Response::new(GetStatsResponse::default()))
    }
}

/// Uploads `audio` to a witness: the client's result, and what the witness saw.
fn upload(audio: Audio) -> (Result<(), AddError>, Seen) {
    let (sender, seen) = mpsc::channel();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        let service = CatalogServiceServer::new(Witness { seen: sender });
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
    });
    let dial = Dial::new(&url, &ConnectArgs::default()).unwrap();
    let catalog = RemoteCatalog::connect(&dial, PATIENCE).unwrap();
    let recording = Recording { id: None, metadata: Metadata::default(), audio };
    let result = catalog.add(vec![recording]).remove(0).map(drop);
    (result, seen.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn all_bytes_arrive_and_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    // Pieces of one length, of none, and one byte around the boundary.
    for len in [0, 1, super::PIECE_BYTES, 2 * super::PIECE_BYTES + 1] {
        std::fs::write(&path, vec![7; len]).unwrap();
        let (result, seen) = upload(Audio::File(path.clone()));
        assert_eq!((result.is_ok(), seen), (true, (len, true)));
        let (result, seen) = upload(Audio::Bytes(vec![7; len].into()));
        assert_eq!((result.is_ok(), seen), (true, (len, true)));
    }
}

/// A folder can be opened, and fails when it is read: as a file on a failing disk does.
#[test]
fn a_file_that_cannot_be_read_to_its_end_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (result, (_, is_stored)) = upload(Audio::File(folder.path().to_owned()));
    assert!(!is_stored, "the server has stored a part of the file");
    let Err(AddError::Track(error)) = result else { panic!("{result:?}") };
    assert!(format!("{error:#}").contains("could not be read"), "{error:#}");
}
