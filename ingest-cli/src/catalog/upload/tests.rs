//! Uploads as a server sees them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
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
use fingerprint_core::units::TrackId;
use tokio::runtime::Runtime;
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

/// The name of a change, and how long it may take, in microseconds.
type Named = (String, u64);

/// A server that only looks at uploads, and at the names of changes.
struct Witness {
    seen: mpsc::Sender<Seen>,
    names: mpsc::Sender<Named>,
    /// How many changes it refuses at first.
    refusals: AtomicUsize,
}

impl Witness {
    /// Takes the name of a change, and its limit; fails as a server that is about to stop.
    fn note(&self, name: String, limit_us: u64) -> Result<(), Status> {
        self.names.send((name, limit_us)).unwrap();
        let left = self.refusals.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        left.map_or(Ok(()), |_| Err(Status::unavailable("")))
    }
}

/// How long a call may take, as its client says, in microseconds.
fn limit_us<T>(request: &Request<T>) -> u64 {
    let text = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap();
    text.strip_suffix('u').unwrap().parse().unwrap()
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
        let limit_us = limit_us(&request);
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            match message.part.unwrap() {
                Part::Data(bytes) => call.byte_count += bytes.len(),
                Part::Header(header) => self.note(header.request_id, limit_us)?,
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
        request: Request<RemoveTrackRequest>,
    ) -> Result<Response<RemoveTrackResponse>, Status> {
        let limit_us = limit_us(&request);
        self.note(request.into_inner().request_id, limit_us)?;
        Ok(Response::new(RemoveTrackResponse::default()))
    }

    async fn get_stats(
        &self,
        _: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        Ok(Response::new(GetStatsResponse::default()))
    }
}

/// Starts a witness, and connects to it.
fn witness(
    refusals: usize,
) -> (Runtime, RemoteCatalog, mpsc::Receiver<Seen>, mpsc::Receiver<Named>) {
    let ((sender, seen), (names, named)) = (mpsc::channel(), mpsc::channel());
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        let service =
            CatalogServiceServer::new(Witness { seen: sender, names, refusals: refusals.into() });
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
    });
    let dial = Dial::new(&url, &ConnectArgs::default()).unwrap();
    let catalog = RemoteCatalog::connect(&dial, PATIENCE).unwrap();
    (runtime, catalog, seen, named)
}

/// Uploads `audio` to a witness: the client's result, and what the witness saw.
fn upload(audio: Audio) -> (Result<(), AddError>, Seen) {
    let (_runtime, catalog, seen, _named) = witness(0);
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

#[test]
fn all_tries_of_a_change_have_its_name_and_share_its_time() {
    let (_runtime, catalog, _seen, named) = witness(2);
    let audio = Audio::Bytes(vec![7].into());
    let recording = Recording { id: None, metadata: Metadata::default(), audio };
    catalog.add(vec![recording]).remove(0).unwrap();
    let (names, limits_us): (Vec<_>, Vec<_>) = named.try_iter().unzip();
    assert!(names.len() == 3 && names.iter().all(|name| *name == names[0]), "{names:?}");
    // Each has what the one before it and the wait have left.
    let has_less = |pair: &[u64]| pair[1] + 100_000 <= pair[0];
    assert!(limits_us.windows(2).all(has_less), "{limits_us:?}");
    let (_runtime, catalog, _seen, named) = witness(1);
    let id = TrackId::new("T").unwrap();
    assert!(catalog.remove(&id).unwrap() && catalog.remove(&id).unwrap());
    let removals: Vec<_> = named.try_iter().map(|(name, _)| name).collect();
    assert_eq!(removals[0], removals[1]);
    assert!(removals[2] != removals[0] && removals[0] != names[0], "{removals:?}");
    assert_eq!(names[0].len(), 32);
}
