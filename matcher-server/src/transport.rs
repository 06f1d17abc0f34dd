//! Connections: accepted, counted, encrypted if the server has a certificate, and closed when nothing comes.
//!
//! ```text
//! listener ─ a place? ─ TLS handshake (each on a task) ─▶ Connection ─▶ HTTP/2 or HTTP/1.1
//! ```
//!
//! A connection that sends nothing is closed after ten seconds, one that falls silent after some minutes,
//! and when all places are taken, or all of its address, a further one is closed at once: clients that only connect
//! cost a bounded amount of memory, and nobody waits behind them.

mod certificate;
mod connection;
mod plain_http;
pub mod tls;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::{self, InvalidMessage};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Request;

pub use self::connection::{Connection, Peer};
use self::tls::{Tls, TlsError};
use crate::config::Config;
use crate::places::{Full, Place, Places, site_of};

/// Pause after a connection could not be accepted, for example because all file descriptors are
/// in use: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest TLS handshake, and longest wait for the first byte of a request.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// A silent connection is kept for the longest request and this much more. Clients of HTTP/2 answer pings, and are
/// not silent.
const IDLE_MARGIN: Duration = Duration::from_secs(60);
/// Connections that wait to be served.
const BACKLOG: usize = 64;
/// So often it is logged that a TLS handshake has failed, however many do.
const HANDSHAKE_LOG_PAUSE: Duration = Duration::from_secs(1);
/// It is logged that connections were turned away at the first and then at each so many.
const TURNED_AWAY_LOGGED: u64 = 1_000;

/// What connections go through before they are served.
#[derive(Debug)]
pub struct Transport {
    tls: Option<Tls>,
    places: Arc<Places<IpAddr>>,
    idle_max: Duration,
    turned_away: AtomicU64,
    failed_handshakes: AtomicU64,
    /// When one of them was last logged.
    told: Mutex<Option<Instant>>,
}

/// Accepted connections, as tonic takes them. Accepting ends when it is dropped.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

/// Who is at the other end of a request's connection.
pub(crate) fn peer<B>(request: &Request<B>) -> Option<&Peer> {
    request.extensions().get()
}

impl Transport {
    /// Reads the certificates, if there are any.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        Ok(Self {
            tls: config.tls.clone().map(Tls::load).transpose()?,
            places: Places::new(config.connections_max, config.connections_per_address_max),
            idle_max: config.request_time_max.saturating_add(IDLE_MARGIN),
            turned_away: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
            told: Mutex::default(),
        })
    }

    /// Without encryption, for this many connections, each silent for `idle_max` at most.
    pub(crate) fn plain(place_count: usize, idle_max: Duration) -> Self {
        let places = Places::new(place_count, place_count);
        Self {
            tls: None,
            places,
            idle_max,
            turned_away: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// The certificates, if connections are encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_count(&self) -> u64 {
        self.places.taken_count() as u64
    }

    /// Connections that were closed because all places were taken, or all of their address.
    #[must_use]
    pub fn turned_away_count(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Connections that came to nothing because no encryption could be agreed on.
    #[must_use]
    pub fn failed_handshake_count(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    /// Accepts connections on a task of its own until the answer is dropped.
    #[must_use]
    pub fn accept(self: &Arc<Self>, listener: TcpListener) -> Incoming {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let transport = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = sender.closed() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((socket, peer)) => transport.take(socket, peer.ip(), &sender),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    /// Brings a connection to where it can be served, or drops it.
    fn take(
        self: &Arc<Self>,
        socket: TcpStream,
        address: IpAddr,
        sender: &mpsc::Sender<io::Result<Connection>>,
    ) {
        let place = match self.places.take(site_of(address)) {
            Ok(place) => place,
            Err(full) => {
                let why = match full {
                    Full::All => "as many are open as may be (connections-max)",
                    Full::OfClient => {
                        "as many are open from one address as may be (connections-per-address-max)"
                    }
                };
                let count = self.turned_away.fetch_add(1, Ordering::Relaxed);
                if count.is_multiple_of(TURNED_AWAY_LOGGED) {
                    tracing::warn!(count = count + 1, %address, "connections are turned away: {why}");
                }
                return;
            }
        };
        let (transport, sender) = (Arc::clone(self), sender.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HELLO_TIME_MAX, transport.greet(socket, place)).await {
                // If nobody receives it the server is stopping.
                Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                Ok(Err(error)) => transport.no_handshake(address, &error),
                Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
            }
        });
    }

    /// Says why a client could not get in: it was told in a word, if it has heard that at all.
    fn no_handshake(&self, address: IpAddr, error: &io::Error) {
        // Who only looks whether the port is open hangs up, in whatever way.
        if !is_of_tls(error) {
            tracing::debug!(%address, %error, "a connection came to nothing");
            return;
        }
        let count = self.failed_handshakes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= HANDSHAKE_LOG_PAUSE) {
            *told = Some(Instant::now());
            tracing::info!(%address, %error, count_so_far = count, "a client and the server agree on no encryption");
        }
    }

    async fn greet(&self, socket: TcpStream, place: Place<IpAddr>) -> io::Result<Connection> {
        socket.set_nodelay(true)?;
        let encrypted = match &self.tls {
            None => connection::Stream::Plain(socket),
            Some(_) if plain_http::is_spoken_on(&socket).await? => {
                plain_http::turn_away(socket).await;
                let error = rustls::Error::from(InvalidMessage::InvalidContentType);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            Some(tls) => connection::Stream::Tls(Box::new(tls.acceptor().accept(socket).await?)),
        };
        Ok(Connection::new(encrypted, place, HELLO_TIME_MAX, self.idle_max))
    }
}

/// True if the other end is there, and what it says is not what encryption takes.
pub(crate) fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}

#[cfg(test)]
mod tests;
