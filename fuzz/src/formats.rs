//! The rows and files of an index.

/// Reads `data` as every kind of row and file that an index has.
///
/// # Panics
///
/// As of [`fingerprint_core::index::read_as_every_row`].
pub fn run(data: &[u8]) {
    fingerprint_core::index::read_as_every_row(data);
}
