//! The bytes that symphonia reads, watched for failed reads.
//!
//! Demuxers take a failed read for the end of the file, or answer with an error that looks like
//! damage; and some report damage as an I/O error. So the reader itself notes what happened.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use symphonia::core::io::MediaSource;

use super::Source;

/// The first error of a reader, shared with who wants to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<io::Error>>>);

impl Fault {
    /// The error, if there was one.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the first error and hands the decoder one like it.
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            kind.into()
        })
    }
}

/// A [`Source`] that notes failed reads.
#[derive(Debug)]
pub(super) struct Watched<'s> {
    // The lock makes a stream that is only `Send` fit for symphonia, which asks for `Sync`; it is
    // never waited for.
    source: Mutex<Source<'s>>,
    /// `None` if it cannot seek.
    len_bytes: Option<u64>,
    fault: Fault,
}

impl<'s> Watched<'s> {
    /// `sequential` makes a file look like a stream.
    pub(super) fn new(source: Source<'s>, sequential: bool, fault: Fault) -> Self {
        let len_bytes = match &source {
            Source::File(file) => file.metadata().ok().map(|metadata| metadata.len()),
            Source::Bytes(bytes) => Some(bytes.get_ref().len() as u64),
            Source::Stream(_) => None,
        };
        Self { source: Mutex::new(source), len_bytes: len_bytes.filter(|_| !sequential), fault }
    }

    fn source(&mut self) -> &mut Source<'s> {
        self.source.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self.source() {
            Source::File(file) => file.read(buffer),
            Source::Bytes(bytes) => bytes.read(buffer),
            Source::Stream(stream) => stream.read(buffer),
        };
        self.fault.note(result)
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // A seek to an impossible place is the container's fault, not the reader's.
        match self.source() {
            Source::File(file) => file.seek(to),
            Source::Bytes(bytes) => bytes.seek(to),
            Source::Stream(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

impl MediaSource for Watched<'_> {
    fn is_seekable(&self) -> bool {
        self.len_bytes.is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.len_bytes
    }
}
