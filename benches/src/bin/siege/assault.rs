//! What those share who beset the server: where it is, where each kind comes from, and what became of what they tried.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use earmark_benches::work::tell;
use tokio::net::{TcpSocket, TcpStream};

/// Pause before somebody tries again who was turned away.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// The assault.
pub(crate) struct Assault {
    pub(crate) server: SocketAddr,
    /// How often what happened to whom.
    came_to: Mutex<BTreeMap<(&'static str, String), u64>>,
}

impl Assault {
    pub(crate) fn new(server: SocketAddr) -> Arc<Self> {
        Arc::new(Self { server, came_to: Mutex::default() })
    }

    /// Connects from one of the addresses of this machine.
    pub(crate) async fn connect(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(self.server).await
    }

    /// Counts what became of an attempt.
    pub(crate) fn count(&self, who: &'static str, what: impl Into<String>) {
        let mut came_to = self.came_to.lock().unwrap_or_else(PoisonError::into_inner);
        *came_to.entry((who, what.into())).or_default() += 1;
    }

    /// Prints what became of it all.
    pub(crate) fn report(&self) {
        let came_to = self.came_to.lock().unwrap_or_else(PoisonError::into_inner);
        for ((who, what), count) in &*came_to {
            tell(&format!("{who}: {count} × {what}"));
        }
    }
}

/// The address that number `number` of a kind comes from: half of them share one.
pub(crate) fn home(kind: u8, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, kind, if number.is_multiple_of(2) { 2 } else { 3 })
}
