//! Recordings come and go: one after the other is added, as the file it is, or removed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use earmark_benches::seeded;
use earmark_proto::v1;
use earmark_proto::v1::add_track_header::Encoding;
use earmark_proto::v1::add_track_response::Change;

use crate::Soak;
use crate::calls::{Calls, patiently};
use crate::ledger::State;

/// Time between two changes. Each of twelve recordings changes once a minute, so that most parts of a
/// stream see none.
const PERIOD: Duration = Duration::from_secs(5);
/// Changes between two looks at the list of all tracks.
const LISTED_EVERY: usize = 6;
/// Tracks of a page of the list: few, so that there are many pages.
const PAGE_LEN: u32 = 50;

/// Changes one recording after the other until the soak ends.
pub(crate) async fn run(soak: Arc<Soak>) -> Result<()> {
    let calls = Calls::connect(&soak).await?;
    let mut random = seeded(soak.seed, "changes");
    // Most of them are there before the first stream asks.
    for number in 0..soak.sound.recordings.len() {
        if number % 4 != 0 {
            add(&soak, &calls, number).await;
        }
    }
    for round in 1.. {
        tokio::time::sleep(PERIOD).await;
        if !soak.goes_on() {
            break;
        }
        let number = random.usize(0..soak.sound.recordings.len());
        match soak.ledger.now(number) {
            State::Present => remove(&soak, &calls, number).await,
            // After a failed call it is not known what is there; adding makes it known again.
            State::Absent | State::Unsure => add(&soak, &calls, number).await,
        }
        if round % LISTED_EVERY == 0 {
            list(&soak, &calls).await;
        }
    }
    Ok(())
}

async fn add(soak: &Soak, calls: &Calls, number: usize) {
    let recording = &soak.sound.recordings[number];
    let was_absent = soak.ledger.now(number) == State::Absent;
    soak.ledger.note(number, State::Unsure);
    match calls.add(soak, &recording.id, Encoding::Audio, &recording.file).await {
        Ok(answer) => {
            if was_absent && answer.change() != Change::Inserted {
                let change = answer.change().as_str_name();
                soak.tally
                    .wrong(&format!("adding {}, which was not there: {change}", recording.id));
            }
            soak.ledger.note(number, State::Present);
            soak.tally.count("recordings added");
        }
        Err(status) => soak.tally.wrong(&format!("adding {}: {status}", recording.id)),
    }
}

async fn remove(soak: &Soak, calls: &Calls, number: usize) {
    let id = &soak.sound.recordings[number].id;
    soak.ledger.note(number, State::Unsure);
    match calls.remove(soak, id, "").await {
        Ok(_) => {
            soak.ledger.note(number, State::Absent);
            soak.tally.count("recordings removed");
        }
        Err(status) => soak.tally.wrong(&format!("removing {id}, which is there: {status}")),
    }
}

/// Reads the list of all tracks; nothing else is changing a recording meanwhile.
async fn list(soak: &Soak, calls: &Calls) {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTracksRequest {
            page_size: PAGE_LEN,
            page_token: std::mem::take(&mut page_token),
        };
        let page = patiently(soak, || {
            let (mut client, request) = (calls.catalog.clone(), request.clone());
            async move { client.list_tracks(request).await }
        })
        .await;
        match page {
            Ok(page) => {
                ids.extend(page.tracks.into_iter().map(|track| track.track_id));
                page_token = page.next_page_token;
            }
            Err(status) => return soak.tally.wrong(&format!("listing the tracks: {status}")),
        }
        if page_token.is_empty() {
            break;
        }
    }
    if !ids.is_sorted_by(|a, b| a < b) {
        soak.tally.wrong("the list of tracks does not ascend");
    }
    for (number, recording) in soak.sound.recordings.iter().enumerate() {
        let is_listed = ids.binary_search(&recording.id).is_ok();
        match soak.ledger.now(number) {
            State::Present if !is_listed => {
                soak.tally.wrong(&format!("{} is there, and not in the list", recording.id));
            }
            State::Absent if is_listed => {
                soak.tally.wrong(&format!("{} is not there, and in the list", recording.id));
            }
            _ => {}
        }
    }
    soak.tally.count("lists of all tracks");
}
