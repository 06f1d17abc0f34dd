//! One connection: bytes in and out, and an end when none come.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::certificate;

use crate::places::Place;

/// Until so many bytes have come nobody has asked for anything: the preface of HTTP/2 has 24.
const HELLO_BYTES: usize = 24;

/// Who is at the other end: the client, or a proxy in front of us. An extension of each request of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    address: Option<SocketAddr>,
    /// Whose certificate was shown and found good.
    certificate: Option<Arc<str>>,
}

impl Peer {
    /// Where it calls from.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whose certificate it has shown, if the server wants one.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }
}

/// The socket, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that is served. Reading fails once it was silent for too long.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Bytes that must come before it counts as more than a connection.
    hello_left: usize,
    /// When bytes last came or went, or when it was accepted.
    active: Instant,
    /// Rings at the earliest time at which it may have been silent for too long.
    alarm: Pin<Box<Sleep>>,
    /// How long it may be silent now: until the first byte shorter than afterwards.
    silence_max: Duration,
    idle_max: Duration,
    _place: Place<IpAddr>,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        place: Place<IpAddr>,
        hello_max: Duration,
        idle_max: Duration,
    ) -> Self {
        Self {
            stream,
            active: Instant::now(),
            hello_left: HELLO_BYTES,
            alarm: Box::pin(tokio::time::sleep(hello_max)),
            silence_max: hello_max,
            idle_max,
            _place: place,
        }
    }

    fn halves(&mut self) -> Pin<&mut dyn Both> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream as &mut dyn Both),
            Stream::Tls(stream) => Pin::new(stream.as_mut() as &mut dyn Both),
        }
    }

    /// Bytes came or went. Only once a request has begun they put the end off.
    fn was_active(&mut self) {
        if self.hello_left == 0 {
            self.active = Instant::now();
            self.silence_max = self.idle_max;
        }
    }

    /// What writing answers. Who is answered has asked.
    fn wrote(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.poll_silence(context)?;
        } else {
            self.hello_left = 0;
            self.was_active();
        }
        written
    }

    /// Fails if it was silent for too long; has the task woken when that may be so.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(context).is_ready() {
            // The alarm is not set anew with each byte, but when it rings too early.
            let end = self.active + self.silence_max;
            if end <= Instant::now() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was silent"));
            }
            self.alarm.as_mut().reset(end);
        }
        Ok(())
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.halves().poll_read(context, buffer);
        // However little comes: a byte now and then is no request.
        if read.is_pending() || self.hello_left > 0 {
            self.poll_silence(context)?;
        }
        if read.is_ready() {
            self.hello_left = self.hello_left.saturating_sub(buffer.filled().len() - before);
            self.was_active();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.halves().poll_write(context, bytes);
        self.wrote(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.halves().poll_write_vectored(context, parts);
        self.wrote(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.halves().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.halves().poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match &self.stream {
            Stream::Plain(stream) => {
                Peer { address: stream.connect_info().remote_addr(), certificate: None }
            }
            Stream::Tls(stream) => {
                let (socket, tls) = stream.get_ref();
                let shown = tls.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.and_then(certificate::subject).map(Arc::from);
                Peer { address: socket.connect_info().remote_addr(), certificate }
            }
        }
    }
}
