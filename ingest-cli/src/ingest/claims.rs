//! Entries that repeat or contradict an earlier one, told apart before the work begins.
//!
//! Files are read in parallel. Of two entries that would write one track, the one that happens to
//! be read last would win; so the first entry counts, and later ones are told.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use fingerprint_core::units::TrackId;

use super::item::Entry;

/// What earlier entries said. About 100 bytes a file and 200 for each `track_id`.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Files that are listed.
    files: HashSet<[u8; 16]>,
    /// Files with the ids that they are to have.
    pairs: HashSet<([u8; 16], TrackId)>,
    /// Which file is to have an id.
    by_id: HashMap<TrackId, PathBuf>,
}

impl Claims {
    /// Passes an entry on, or says why it does not count.
    pub(super) fn check(&mut self, entry: Entry) -> Entry {
        let Entry::File(item) = entry else { return entry };
        let file = identity(&item.path);
        match &item.track_id {
            // Who says nothing about a file says nothing new about one that is listed.
            None if self.files.contains(&file) => return Entry::Repeated { path: item.path },
            None => {}
            Some(id) if self.pairs.contains(&(file, id.clone())) => {
                return Entry::Repeated { path: item.path };
            }
            Some(id) => {
                if let Some(first) = self.by_id.get(id) {
                    return contradiction(item.path, id, first);
                }
                self.by_id.insert(id.clone(), item.path.clone());
                self.pairs.insert((file, id.clone()));
            }
        }
        self.files.insert(file);
        Entry::File(item)
    }
}

fn contradiction(path: PathBuf, id: &TrackId, first: &Path) -> Entry {
    let reason = format!(
        "track_id {id} is already that of {} in this run; give each file its own",
        first.display()
    );
    Entry::Refused { path, reason }
}

/// The file itself, however it is named; what does not exist goes by its name.
fn identity(path: &Path) -> [u8; 16] {
    let resolved = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let resolved = resolved.unwrap_or_else(|_| path.to_owned());
    let hash = blake3::hash(resolved.as_os_str().as_encoded_bytes());
    hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::super::item::Item;
    use super::*;

    fn check(claims: &mut Claims, path: PathBuf, id: Option<&str>) -> &'static str {
        let track_id = id.map(|id| TrackId::new(id).unwrap());
        match claims.check(Entry::File(Item { track_id, ..Item::bare(path) })) {
            Entry::File(_) => "counts",
            Entry::Repeated { .. } => "repeated",
            Entry::Refused { reason, .. } => {
                assert!(reason.contains("is already that of"), "{reason}");
                "refused"
            }
        }
    }

    #[test]
    fn the_first_entry_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::write(file(name), "").unwrap();
        }
        let mut claims = Claims::default();
        for (name, id, expected) in [
            ("a", Some("A"), "counts"),
            ("./a", Some("A"), "repeated"),
            ("a", None, "repeated"),
            // One recording may stand under two ids; the catalog calls them duplicates.
            ("a", Some("A2"), "counts"),
            ("b", Some("A"), "refused"),
            // A refused entry claims nothing.
            ("b", None, "counts"),
            ("missing", None, "counts"),
            ("missing", None, "repeated"),
        ] {
            assert_eq!(check(&mut claims, file(name), id), expected, "{name} {id:?}");
        }
    }
}
