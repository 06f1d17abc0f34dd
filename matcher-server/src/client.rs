//! Who sends a request, as limits and turns tell clients apart.

use std::net::IpAddr;

use axum::http::Extensions;

use crate::access::Caller;
use crate::places::site_of;
use crate::transport::Peer;

/// A client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Whoever has this key.
    Key(String),
    /// Without keys, whoever calls from there.
    Site(IpAddr),
    /// Whoever it is: there is no socket, or it does not matter.
    #[default]
    Unknown,
}

impl Client {
    /// Whose request has these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let address = || extensions.get::<Peer>().and_then(Peer::address);
        match extensions.get::<Caller>() {
            Some(caller) => Self::Key(caller.id().to_owned()),
            None => address().map_or(Self::Unknown, |address| Self::Site(site_of(address.ip()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_key_and_socket_nobody_is_told_apart() {
        assert_eq!(Client::of(&Extensions::new()), Client::Unknown);
    }
}
