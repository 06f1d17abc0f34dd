//! Rows of content: each track has one, for its own audio, and there are no others.

use super::tracks::Known;
use super::{Check, Fault};
use crate::index::IndexError;
use crate::index::rocks::{CONTENT, HASH_BYTES};
use crate::units::TrackId;

impl Check<'_> {
    /// Marks the tracks that have a row. Gives the ids of rows whose track has no record.
    pub(super) fn check_content(
        &mut self,
        tracks: &mut [Known],
    ) -> Result<Vec<TrackId>, IndexError> {
        let mut by_id: Vec<usize> = (0..tracks.len()).collect();
        by_id.sort_unstable_by(|a, b| tracks[*a].id.cmp(&tracks[*b].id));
        let mut unclaimed = Vec::new();
        let mut rows = self.rows(CONTENT);
        while let Some((key, _)) = rows.next()? {
            let Some((hash, id)) = parse_key(key) else {
                let track_id = String::from_utf8_lossy(key.get(HASH_BYTES..).unwrap_or(key));
                self.faults.push(Fault::ContentOrphan { track_id: track_id.into_owned() });
                self.delete(CONTENT, key);
                continue;
            };
            match by_id.binary_search_by(|place| tracks[*place].id.cmp(&id)) {
                Ok(at) if tracks[by_id[at]].content_hash.0 == *hash => {
                    tracks[by_id[at]].has_content = true;
                }
                Ok(_) => {
                    self.faults.push(Fault::ContentOrphan { track_id: id.to_string() });
                    self.delete(CONTENT, key);
                }
                Err(_) => {
                    self.delete(CONTENT, key);
                    // A track that is given up needs no other word.
                    if !self.lost.contains(&id) {
                        unclaimed.push(id);
                    }
                }
            }
        }
        self.note_damage(CONTENT, rows.damage);
        unclaimed.sort_unstable();
        unclaimed.dedup();
        Ok(unclaimed)
    }

    /// What rows are that name a track without a record: if there are peaks without a track too, its
    /// record is lost; else most likely the rows are of a track that was removed, as one damage explains them then
    /// and not two.
    pub(super) fn judge_unclaimed(&mut self, unclaimed: Vec<TrackId>, orphan_count: u64) {
        for track_id in unclaimed {
            if orphan_count > 0 {
                self.lost.insert(track_id.clone());
                self.faults.push(Fault::RecordMissing { track_id });
            } else {
                self.faults.push(Fault::ContentOrphan { track_id: track_id.into() });
            }
        }
    }
}

/// Content hash and track of a row.
fn parse_key(key: &[u8]) -> Option<(&[u8; HASH_BYTES], TrackId)> {
    let (hash, id) = key.split_first_chunk()?;
    Some((hash, TrackId::new(std::str::from_utf8(id).ok()?).ok()?))
}
