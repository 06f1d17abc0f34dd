//! Clips and uploads of which most comes, and then nothing more.

use std::sync::Arc;

use crate::assault::{Assault, PAUSE, home};
use crate::request::Request;

/// Third byte of the addresses that they come from.
const KIND: u8 = 2;
/// Each piece of what they send.
const PIECE: &[u8] = &[0; 1 << 20];
/// Length of a clip in pieces, as said and as sent: the longest that a server takes by default.
const CLIP_LEN: usize = 32;
const CLIP_SENT: usize = 31;
/// The same of an upload, which a server takes up to 2 GiB.
const UPLOAD_LEN: usize = 1 << 10;
const UPLOAD_SENT: usize = 60;

/// Sends clips and uploads, so many at a time, again whenever the server has had enough.
pub(crate) fn begin(assault: &Arc<Assault>, clip_count: usize, upload_count: usize) {
    for number in 0..clip_count + upload_count {
        let assault = Arc::clone(assault);
        tokio::spawn(async move {
            let is_clip = number < clip_count;
            let path = format!("/v1/tracks?track_id=stalled-{number}");
            let request = Request {
                path: if is_clip { "/v1/match" } else { &path },
                announced: if is_clip { CLIP_LEN } else { UPLOAD_LEN } * PIECE.len(),
                body: PIECE,
                times: if is_clip { CLIP_SENT } else { UPLOAD_SENT },
            };
            let who = if is_clip { "stalled clips" } else { "stalled uploads" };
            loop {
                assault.count(who, request.send(&assault, home(KIND, number)).await);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}
