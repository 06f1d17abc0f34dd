//! Receiving an upload: a header, then pieces, kept in memory while small and in a temporary
//! file beyond that, so that slow senders hold neither a worker nor much memory.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_request::Part;
use fingerprint_core::decode::Input;
use fingerprint_core::index::Metadata;
use fingerprint_core::units::TrackId;
use tempfile::NamedTempFile;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::reason::Reason;
use crate::{convert, status};

/// Uploads up to this size stay in memory; pieces of larger ones are written in blocks of it.
const BLOCK_BYTES: usize = 1 << 20;

/// The limits of an upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most bytes of all pieces together.
    pub(crate) bytes_max: u64,
    /// Longest wait for the next piece.
    pub(crate) pause_max: Duration,
}

impl Limits {
    /// Waits for the next piece, but not for ever.
    ///
    /// # Errors
    ///
    /// `CLIENT_STALLED`.
    pub(crate) async fn wait<T>(self, next: impl Future<Output = T>) -> Result<T, Status> {
        tokio::time::timeout(self.pause_max, next).await.map_err(|_| {
            let text = format!("no data for {} s; send the upload again", self.pause_max.as_secs());
            Reason::ClientStalled.status(text)
        })
    }
}

/// What is said of a recording before it comes.
#[derive(Debug)]
pub(crate) struct Announced {
    /// The caller's name for the request; empty if it has none.
    pub(crate) request_id: String,
    /// The id that the track is to have; else it follows from its audio.
    pub(crate) track_id: Option<TrackId>,
    pub(crate) metadata: Metadata,
    pub(crate) encoding: Encoding,
}

impl TryFrom<v1::AddTrackHeader> for Announced {
    type Error = Status;

    /// # Errors
    ///
    /// `ARGUMENT_INVALID`.
    fn try_from(header: v1::AddTrackHeader) -> Result<Self, Status> {
        let v1::AddTrackHeader { track_id, metadata, encoding, request_id } = header;
        convert::check_request_id(&request_id)?;
        let track_id = (!track_id.is_empty()).then(|| convert::track_id(track_id)).transpose()?;
        let metadata = convert::metadata(metadata)?;
        let encoding = Encoding::try_from(encoding).map_err(|_| {
            Reason::ArgumentInvalid.status(format!("header.encoding {encoding} is unknown"))
        })?;
        Ok(Self { request_id, track_id, metadata, encoding })
    }
}

/// A whole upload.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) announced: Announced,
    pub(crate) spool: Spool,
}

impl Upload {
    /// Receives all of `stream`; nothing more of one whose header is no good.
    ///
    /// # Errors
    ///
    /// `ARGUMENT_INVALID` if the messages are not one good header and then data, `TOO_LARGE` beyond the limit,
    /// `CLIENT_STALLED` after too long a pause, or what the stream ended with.
    pub(crate) async fn receive<S>(mut stream: S, limits: Limits) -> Result<Self, Status>
    where
        S: Stream<Item = Result<v1::AddTrackRequest, Status>> + Unpin,
    {
        let header = match next_part(&mut stream, limits).await? {
            Some(Part::Header(header)) => header,
            Some(Part::Data(_)) | None => {
                return Err(
                    Reason::ArgumentInvalid.status("the first message must carry the header")
                );
            }
        };
        let announced = Announced::try_from(header)?;
        let mut spool = Spool::new(limits.bytes_max);
        while let Some(part) = next_part(&mut stream, limits).await? {
            let Part::Data(data) = part else {
                return Err(Reason::ArgumentInvalid
                    .status("the header may be sent only once, as the first message"));
            };
            spool.take(data).await?;
        }
        spool.finish().await?;
        Ok(Self { announced, spool })
    }
}

/// The bytes of an upload. Their temporary file is deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    bytes_max: u64,
    byte_count: u64,
    block: Vec<u8>,
    /// Of the bytes in the file.
    hasher: blake3::Hasher,
    file: Option<NamedTempFile>,
}

impl Spool {
    /// Nothing yet, and at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let hasher = blake3::Hasher::new();
        Self { bytes_max, byte_count: 0, block: Vec::new(), hasher, file: None }
    }

    /// Adds a piece.
    ///
    /// # Errors
    ///
    /// `TOO_LARGE`, or if the file system fails.
    pub(crate) async fn take(&mut self, data: Bytes) -> Result<(), Status> {
        self.byte_count += data.len() as u64;
        if self.byte_count > self.bytes_max {
            let text = format!(
                "the upload is larger than the limit of {} bytes; split it, send its fingerprint, or raise upload-max of the server",
                self.bytes_max
            );
            return Err(Reason::TooLarge.status(text));
        }
        if self.block.len() + data.len() > BLOCK_BYTES {
            self.flush().await?;
        }
        self.block.extend_from_slice(&data);
        Ok(())
    }

    /// Digest of all bytes, however they were cut.
    pub(crate) fn digest(&self) -> blake3::Hash {
        self.hasher.clone().update(&self.block).finalize()
    }

    /// To be called after the last piece.
    ///
    /// # Errors
    ///
    /// `ARGUMENT_INVALID` if there was none, or if the file system fails.
    pub(crate) async fn finish(&mut self) -> Result<(), Status> {
        if self.byte_count == 0 {
            let text = "the upload is empty; send the bytes of the recording";
            return Err(Reason::ArgumentInvalid.status(text));
        }
        if self.file.is_some() { self.flush().await } else { Ok(()) }
    }

    /// Moves the block to the file. Disks can stall, and digests take time, so off the async threads.
    async fn flush(&mut self) -> Result<(), Status> {
        let (file, block) = (self.file.take(), std::mem::take(&mut self.block));
        let mut hasher = std::mem::take(&mut self.hasher);
        let written = tokio::task::spawn_blocking(move || {
            hasher.update(&block);
            let mut file = file.map_or_else(NamedTempFile::new, Ok)?;
            file.write_all(&block)?;
            Ok((file, hasher))
        });
        let written =
            written.await.map_err(|_| Reason::Unavailable.status("server is shutting down"))?;
        let (file, hasher) =
            written.map_err(|error| status::from_io("spooling an upload", &error))?;
        (self.file, self.hasher) = (Some(file), hasher);
        Ok(())
    }

    /// All bytes of an upload of at most `bytes_max` bytes.
    pub(crate) fn read(&self, bytes_max: usize) -> Result<Vec<u8>, Status> {
        if self.byte_count > bytes_max as u64 {
            let text = format!("the fingerprint is larger than the limit of {bytes_max} bytes");
            return Err(Reason::TooLarge.status(text));
        }
        match &self.file {
            None => Ok(self.block.clone()),
            Some(file) => std::fs::read(file.path())
                .map_err(|error| status::from_io("reading a spooled upload", &error)),
        }
    }

    /// As input of the decoder.
    pub(crate) fn input(&self) -> Input<'_> {
        match &self.file {
            None => Input::Bytes(&self.block),
            Some(file) => Input::Path(file.path()),
        }
    }
}

/// The next part; `None` at the end of the stream.
async fn next_part<S>(stream: &mut S, limits: Limits) -> Result<Option<Part>, Status>
where
    S: Stream<Item = Result<v1::AddTrackRequest, Status>> + Unpin,
{
    let message = limits.wait(stream.next()).await?;
    let Some(message) = message.transpose()? else { return Ok(None) };
    let part = message.part.ok_or_else(|| {
        Reason::ArgumentInvalid.status("a message has no part; send a header or data")
    })?;
    Ok(Some(part))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const LIMITS: Limits = Limits { bytes_max: 3 << 20, pause_max: Duration::from_secs(5) };

    fn header() -> Part {
        Part::Header(v1::AddTrackHeader::default())
    }

    fn data(len: usize) -> Part {
        Part::Data(Bytes::from(vec![7; len]))
    }

    async fn receive(parts: Vec<Part>) -> Result<Upload, Status> {
        let messages = parts.into_iter().map(|part| Ok(v1::AddTrackRequest { part: Some(part) }));
        Upload::receive(tokio_stream::iter(messages), LIMITS).await
    }

    #[tokio::test]
    async fn uploads_of_any_size_arrive_whole() {
        for sizes in [
            vec![1],
            vec![BLOCK_BYTES],
            vec![BLOCK_BYTES, 1],
            vec![BLOCK_BYTES + 1],
            vec![3, 0, BLOCK_BYTES, 5, BLOCK_BYTES - 1],
            vec![3 << 20],
        ] {
            let total: usize = sizes.iter().sum();
            let parts = [header()].into_iter().chain(sizes.iter().map(|len| data(*len)));
            let upload = receive(parts.collect()).await.unwrap();
            let spool = upload.spool;
            assert_eq!(spool.read(total).unwrap(), vec![7; total], "{sizes:?}");
            assert_eq!(spool.file.is_none(), total <= BLOCK_BYTES, "{sizes:?}");
            assert_eq!(spool.read(total - 1).unwrap_err().code(), Code::ResourceExhausted);
        }
    }

    #[tokio::test]
    async fn an_upload_has_the_digest_of_its_bytes_however_they_were_cut() {
        let long = 2 * BLOCK_BYTES + 5;
        for sizes in [vec![5], vec![2, 0, 3], vec![long], vec![BLOCK_BYTES, 9, BLOCK_BYTES - 4]] {
            let digest = blake3::hash(&vec![7; sizes.iter().sum()]);
            let parts = [header()].into_iter().chain(sizes.into_iter().map(data)).collect();
            assert_eq!(receive(parts).await.unwrap().spool.digest(), digest);
        }
    }

    #[tokio::test]
    async fn whatever_is_not_one_header_and_then_data_is_refused() {
        for parts in [
            vec![],
            vec![header()],
            vec![header(), data(0)],
            vec![data(1)],
            vec![header(), header()],
            vec![header(), data(1), header()],
        ] {
            assert_eq!(receive(parts).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let beyond = vec![header(), data(3 << 20), data(1)];
        assert_eq!(receive(beyond).await.unwrap_err().code(), Code::ResourceExhausted);
    }

    /// Its data would be waited for in vain here.
    #[tokio::test]
    async fn nothing_is_received_behind_a_bad_header() {
        let good = v1::AddTrackHeader::default();
        for bad in [
            v1::AddTrackHeader { request_id: "x".repeat(129), ..good.clone() },
            v1::AddTrackHeader { track_id: "a\nb".to_owned(), ..good.clone() },
            v1::AddTrackHeader { encoding: 9, ..good },
        ] {
            let header = v1::AddTrackRequest { part: Some(Part::Header(bad)) };
            let stream = tokio_stream::iter([Ok(header)]).chain(tokio_stream::pending());
            let status = Upload::receive(Box::pin(stream), LIMITS).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }

    #[tokio::test]
    async fn a_sender_that_stops_is_not_waited_for() {
        let stalled = tokio_stream::iter([Ok(v1::AddTrackRequest { part: Some(header()) })])
            .chain(tokio_stream::pending());
        let limits = Limits { pause_max: Duration::from_millis(20), ..LIMITS };
        let status = Upload::receive(Box::pin(stalled), limits).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
