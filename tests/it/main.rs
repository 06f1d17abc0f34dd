//! The server on port 0, a real client, real audio; and the real command for what only a process
//! has: settings, signals, exit codes.

mod catalog;
mod command;
mod hostile;
mod load;
mod matching;
mod protocol;
mod python;
mod support;
