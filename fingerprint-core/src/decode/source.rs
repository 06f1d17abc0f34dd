//! What encoded bytes are read from, for decoders that want to seek and for those that need not.
//!
//! A stream can be read once only, but two decoders may have to look at it. So its bytes are kept
//! while they are read, in memory at first and then in a temporary file, until the first samples
//! are out; from then on nothing is kept, and a stream of any length needs no room. If the
//! built-in decoders refuse, what was kept and the rest of the stream become a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::sniff::HEAD_BYTES;

/// Kept bytes beyond this go to a temporary file.
const MEMORY_BYTES_MAX: usize = 4 << 20;

/// What a built-in decoder reads.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// A file, which can seek.
    File(File),
    /// Bytes in memory.
    Bytes(io::Cursor<&'a [u8]>),
    /// A stream, which cannot seek.
    Stream(Reader<'a>),
}

/// Marks the error of a stream that goes on beyond the limit.
#[derive(Debug, thiserror::Error)]
#[error("larger than {limit_bytes} bytes")]
pub(super) struct TooLarge {
    /// The limit.
    pub(super) limit_bytes: u64,
}

/// Marks the error of a stream of which more would have to be kept than may be.
#[derive(Debug, thiserror::Error)]
#[error("nothing was decoded of the first {limit_bytes} bytes")]
pub(super) struct KeptTooMuch {
    /// The limit.
    pub(super) limit_bytes: u64,
}

/// A stream and what has been read of it. Clones share both.
#[derive(Clone)]
pub(super) struct Stream<'a>(Arc<Mutex<State<'a>>>);

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

struct State<'a> {
    rest: Box<dyn Read + Send + 'a>,
    /// Bytes that may be read yet.
    allowance_bytes: u64,
    limit_bytes: u64,
    /// Bytes that may be read while they are kept.
    kept_max_bytes: u64,
    keeping: bool,
    /// The first bytes of the stream, while they are kept …
    memory: Vec<u8>,
    /// … or all of them, if they are many.
    file: Option<NamedTempFile>,
}

impl<'a> Stream<'a> {
    /// Takes a stream of at most `limit_bytes`, of which at most `kept_max_bytes` are kept.
    pub(super) fn new(
        rest: Box<dyn Read + Send + 'a>,
        limit_bytes: u64,
        kept_max_bytes: u64,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            rest,
            allowance_bytes: limit_bytes,
            limit_bytes,
            kept_max_bytes,
            keeping: true,
            memory: Vec::new(),
            file: None,
        })))
    }

    /// The first [`HEAD_BYTES`], or all there are. To be called before anything else is read.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let mut buffer = [0; HEAD_BYTES];
        while state.memory.len() < HEAD_BYTES {
            let wanted = HEAD_BYTES - state.memory.len();
            if state.read(&mut buffer[..wanted])? == 0 {
                break;
            }
        }
        Ok(state.memory.clone())
    }

    /// Reads the stream from its first byte. Only one reader may be in use, and none after
    /// [`into_file`](Self::into_file).
    pub(super) fn reader(&self) -> Reader<'a> {
        Reader { stream: self.clone(), replayed: 0 }
    }

    /// Stops keeping: the bytes read so far will not be needed again.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.keeping = false;
        state.file = None;
    }

    /// Reads the stream to its end and returns all of it as a file.
    pub(super) fn into_file(self) -> io::Result<NamedTempFile> {
        let mut state = self.state();
        assert!(state.keeping, "a stream that is forgotten cannot become a file");
        let mut file = state.take_file()?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match state.read_unkept(&mut buffer)? {
                0 => break,
                read => file.write_all(&buffer[..read])?,
            }
        }
        file.flush()?;
        Ok(file)
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        // A decoder that panicked while it read leaves the bytes in order.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State<'_> {
    /// Reads on, and keeps what is read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_unkept(buffer)?;
        if self.keeping {
            if self.file.is_none() && self.memory.len() + read > MEMORY_BYTES_MAX {
                self.file = Some(self.take_file()?);
            }
            match &mut self.file {
                Some(file) => file.write_all(&buffer[..read])?,
                None => self.memory.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(read)
    }

    fn read_unkept(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.rest.read(buffer) {
                Ok(read) => {
                    let Some(left) = self.allowance_bytes.checked_sub(read as u64) else {
                        let limit_bytes = self.limit_bytes;
                        return Err(io::Error::other(TooLarge { limit_bytes }));
                    };
                    self.allowance_bytes = left;
                    if self.keeping && self.limit_bytes - left > self.kept_max_bytes {
                        let limit_bytes = self.kept_max_bytes;
                        return Err(io::Error::other(KeptTooMuch { limit_bytes }));
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A file with what is kept. The memory stays, because the reader may be replaying it.
    fn take_file(&mut self) -> io::Result<NamedTempFile> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        let mut file = NamedTempFile::new()?;
        file.write_all(&self.memory)?;
        Ok(file)
    }
}

/// Reads a [`Stream`]: first what its head is, then on.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    stream: Stream<'a>,
    /// Bytes given again so far.
    replayed: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.stream.state();
        // The head was read before this reader was made; everything after it, by this reader.
        let head_len = state.memory.len().min(HEAD_BYTES);
        if self.replayed < head_len {
            let read = buffer.len().min(head_len - self.replayed);
            buffer[..read].copy_from_slice(&state.memory[self.replayed..self.replayed + read]);
            self.replayed += read;
            return Ok(read);
        }
        state.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    #[test]
    fn nothing_is_lost_between_reader_and_file() {
        // Around the head, and around what memory holds.
        for len in [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, MEMORY_BYTES_MAX + 9_999] {
            for consumed in [0, 5, HEAD_BYTES, HEAD_BYTES + 1, MEMORY_BYTES_MAX + 5] {
                let bytes = pattern(len);
                let stream = Stream::new(Box::new(&bytes[..]), u64::MAX, u64::MAX);
                assert_eq!(stream.head().unwrap(), &bytes[..len.min(HEAD_BYTES)]);
                let mut read = Vec::new();
                stream.reader().take(consumed as u64).read_to_end(&mut read).unwrap();
                assert!(read == bytes[..len.min(consumed)], "{len} {consumed}");
                let file = stream.into_file().unwrap();
                assert!(std::fs::read(file.path()).unwrap() == bytes, "{len} {consumed}");
            }
        }
    }

    #[test]
    fn a_forgotten_stream_is_read_to_its_end() {
        let bytes = pattern(HEAD_BYTES * 3);
        let stream = Stream::new(Box::new(&bytes[..]), u64::MAX, u64::MAX);
        stream.head().unwrap();
        let mut reader = stream.reader();
        let mut read = vec![0; 100];
        reader.read_exact(&mut read).unwrap();
        stream.forget();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn the_limit_is_the_last_byte_allowed() {
        let bytes = pattern(HEAD_BYTES * 2);
        let stream = |limit_bytes| Stream::new(Box::new(&bytes[..]), limit_bytes, u64::MAX);
        assert!(stream(bytes.len() as u64).into_file().is_ok());
        let error = stream(bytes.len() as u64 - 1).into_file().unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()), "{error}");
        assert!(stream(10).head().is_err());
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let bytes = pattern(HEAD_BYTES * 3);
        let kept = HEAD_BYTES as u64 * 2;
        let stream = Stream::new(Box::new(&bytes[..]), u64::MAX, kept);
        stream.head().unwrap();
        let error = stream.into_file().unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<KeptTooMuch>()), "{error}");
        // What is not kept may be as long as it likes.
        let stream = Stream::new(Box::new(&bytes[..]), u64::MAX, kept);
        stream.head().unwrap();
        stream.forget();
        let mut read = Vec::new();
        let behind_head = stream.state().rest.read_to_end(&mut read).unwrap();
        assert_eq!(behind_head, HEAD_BYTES * 2);
    }
}
