//! How to get into a server: whom to trust, and what to show.

use std::path::PathBuf;

use clap::Args;

/// Of each option: a heading of the whole would also be that of whatever follows it in a command.
const HEADING: &str = "Getting in";
/// Environment variable that holds the key itself.
pub(crate) const KEY_ENV: &str = "EARMARK_KEY";

/// How a server is reached, besides its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct ConnectArgs {
    /// Certificates to trust instead of the usual ones (PEM), for an https server
    #[arg(long, value_name = "FILE", help_heading = HEADING, env = "EARMARK_CA_CERT")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Own certificate (PEM), for an https server that asks for one
    #[arg(long, value_name = "FILE", help_heading = HEADING, env = "EARMARK_CLIENT_CERT")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = HEADING, env = "EARMARK_CLIENT_KEY")]
    pub(crate) client_key: Option<PathBuf>,
    /// File with the key that the server wants, as `earmark keys create` prints it; or put the key
    /// itself into EARMARK_KEY
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(crate) key_file: Option<PathBuf>,
}
