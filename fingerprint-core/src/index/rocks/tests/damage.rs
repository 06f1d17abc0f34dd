//! Every kind of damage to rows: a check names exactly that, and a repair makes the index answer as one
//! that was never damaged.

use super::*;
use crate::index::CheckReport;
use crate::index::block::{self, Block};
use crate::index::rocks::check::{self, Access, Fault};
use crate::index::segment::Directory;
use crate::index::stored_peaks;

/// A folder as a killed process leaves it: 20 tracks, of which the last two are in no segment.
pub(super) fn index() -> (TempDir, Vec<NewTrack>) {
    let (folder, index, tracks) = in_parts();
    let copy = killed(folder.path());
    drop(index);
    (copy, tracks)
}

/// Opens the database alone, and changes it.
pub(super) fn damage<T>(folder: &Path, change: impl FnOnce(&Inner) -> T) -> T {
    let (inner, fault) = check::open(folder, &Params::default(), Access::Repair).unwrap();
    assert_eq!(fault, None);
    change(&inner)
}

pub(super) fn check(folder: &Path) -> CheckReport {
    RocksIndex::check(folder, &Params::default(), &|_| ()).unwrap()
}

/// Repairs, and compares the answers with those of an index of `tracks` that are not lost.
pub(super) fn assert_mended(folder: &Path, tracks: &[NewTrack], lost: &[u32]) {
    let before = check(folder);
    let repaired = RocksIndex::repair(folder, &Params::default(), &|_| ()).unwrap();
    assert_eq!(repaired.before.faults, before.faults);
    let after = repaired.after.expect("something was mended");
    assert_eq!((after.faults, after.lost), (Vec::new(), Vec::new()));
    let ids: Vec<_> = before.lost.iter().map(|track| track.track_id.clone()).collect();
    let mut expected: Vec<_> = lost.iter().map(|number| track(*number, 0).id).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_answers(folder, tracks, &ids);
    assert!(check(folder).is_whole());
}

/// Compares the answers with those of an index of `tracks` without those that are `lost`.
pub(super) fn assert_answers(folder: &Path, tracks: &[NewTrack], lost: &[TrackId]) {
    let index = RocksIndex::open(folder, &Params::default()).unwrap();
    let memory = memory_with(tracks);
    lost.iter().for_each(|id| drop(memory.remove(id).unwrap().unwrap()));
    let all = ranges(0..20);
    assert_eq!(read(&index, &all), read(&memory, &all));
    let live = live_lens(&memory);
    let counted = lens(&index.inner.lens);
    let is_enough = counted.iter().zip(&live).all(|(counted, live)| counted >= live);
    // What is lost is counted until a merge.
    assert!(if lost.is_empty() { counted == live } else { is_enough });
    let records = |index: &dyn Index| {
        let mut records = index.tracks(None, 100).unwrap();
        records.iter_mut().for_each(|record| record.added_at_ms = 0);
        records
    };
    assert_eq!(records(&index), records(&memory));
    for record in records(&memory) {
        let peaks = |index: &dyn Index| index.peaks(record.span.start, 0..u32::MAX).unwrap();
        assert_eq!(peaks(&index), peaks(&memory));
        assert_eq!(index.tracks_with_content(&record.content_hash).unwrap(), [record.id]);
    }
    index.compact().unwrap();
    assert!(lens(&index.inner.lens) == live);
    assert_eq!(read(&index, &all), read(&memory, &all));
}

/// The faults that `change` is found by; then mends it.
fn faults_of(lost: &[u32], change: impl FnOnce(&Inner)) -> Vec<Fault> {
    let (folder, tracks) = index();
    assert!(check(folder.path()).is_whole());
    damage(folder.path(), change);
    let report = check(folder.path());
    assert_eq!(check(folder.path()), report, "a check changes nothing");
    assert_mended(folder.path(), &tracks, lost);
    report.faults
}

fn put(inner: &Inner, part: &'static str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    inner.db.put_cf(inner.family(part), key, value).unwrap();
}

fn delete(inner: &Inner, part: &'static str, key: impl AsRef<[u8]>) {
    inner.db.delete_cf(inner.family(part), key).unwrap();
}

fn get(inner: &Inner, part: &'static str, key: impl AsRef<[u8]>) -> Vec<u8> {
    inner.db.get_cf(inner.family(part), key).unwrap().unwrap()
}

fn record(inner: &Inner, number: u32) -> TrackRecord {
    inner.track(&track(number, 0).id).unwrap().unwrap()
}

fn put_record(inner: &Inner, record: &TrackRecord) {
    put(inner, TRACKS, record.id.as_str(), serde_json::to_vec(record).unwrap());
}

/// Changes the entries of a segment as if it had been written with others.
fn rewrite_segment(inner: &Inner, id: u32, change: impl FnOnce(&mut BTreeSet<Entry>)) {
    let directory = Directory::decode(&get(inner, SEGMENTS, id.to_be_bytes())).unwrap();
    let mut entries = BTreeSet::new();
    for number in 0..directory.block_count() {
        let bytes = get(inner, BLOCKS, block_key(id, number as u32));
        let mut numbers = Vec::new();
        Block::open(&bytes, directory.first_of(number)).unwrap().decode(&mut numbers).unwrap();
        entries.extend(numbers.iter().map(|n| directory.stretch.unpack(*n).unwrap()));
    }
    change(&mut entries);
    let sink = |number, bytes: &[u8]| {
        put(inner, BLOCKS, block_key(id, number), bytes);
        Ok(())
    };
    let mut builder = crate::index::segment::SegmentBuilder::new(directory.stretch, sink);
    entries.iter().for_each(|entry| builder.push(*entry).unwrap());
    put(inner, SEGMENTS, id.to_be_bytes(), builder.finish().unwrap().encode());
}

#[test]
fn removed_tracks_that_wait_for_a_merge_are_no_fault() {
    let (folder, tracks) = index();
    let index = open(folder.path(), Limits::default());
    let gone = index.remove(&tracks[3].id).unwrap().unwrap();
    drop(index);
    let report = check(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!(report.purgeable_posting_count, u64::from(gone.posting_count));
    assert_eq!((report.track_count, report.lost.len()), (19, 0));
    let index = open(folder.path(), Limits::default());
    let stats = index.stats().unwrap();
    assert_eq!(stats.purgeable_posting_count, report.purgeable_posting_count);
    assert_eq!(stats.posting_count, report.posting_count);
    index.compact().unwrap();
    assert_eq!(index.stats().unwrap().purgeable_posting_count, 0);
    drop(index);
    assert_eq!(check(folder.path()).purgeable_posting_count, 0);
}

#[test]
fn an_index_that_nothing_was_added_to_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), Limits::default()));
    assert_eq!(check(folder.path()), CheckReport::default());
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    assert_eq!(repaired.after, None);
}

#[test]
fn a_posting_that_is_missing_is_named() {
    let faults = faults_of(&[], |inner| {
        rewrite_segment(inner, 0, |entries| {
            let third = *entries.iter().nth(2).unwrap();
            entries.remove(&third);
        });
    });
    let [Fault::Postings { segment: 0, track_count: 1, missing: 1, foreign: 0, doubled: 0, .. }] =
        faults.as_slice()
    else {
        panic!("{faults:?}")
    };
    let text = faults[0].to_string();
    assert!(text.contains("bucket ") && text.contains(" s is missing"), "{text}");
}

#[test]
fn a_foreign_posting_is_named() {
    let faults = faults_of(&[], |inner| {
        let position = record(inner, 1).span.start + 7;
        let key = Key { bucket: BUCKET_COUNT - 1, cell: 3 };
        rewrite_segment(inner, 0, |entries| {
            assert!(entries.insert(Entry::new(Posting { key, position })));
        });
    });
    let [Fault::Postings { segment: 0, track_count: 1, missing: 0, foreign: 1, doubled: 0, .. }] =
        faults.as_slice()
    else {
        panic!("{faults:?}")
    };
    assert!(faults[0].to_string().contains("cell 3 of track t1 at 0.9 s is foreign"), "{faults:?}");
}

#[test]
fn postings_that_are_there_twice_are_counted() {
    let faults = faults_of(&[], |inner| {
        let directory = get(inner, SEGMENTS, 1_u32.to_be_bytes());
        for block in 0..Directory::decode(&directory).unwrap().block_count() as u32 {
            let bytes = get(inner, BLOCKS, block_key(1, block));
            put(inner, BLOCKS, block_key(9, block), bytes);
        }
        put(inner, SEGMENTS, 9_u32.to_be_bytes(), directory);
    });
    assert_eq!(faults[0], Fault::SegmentOverlap { segment: 9, other: 1 });
    let is_doubled = |fault: &Fault| {
        matches!(fault, Fault::Postings { track_count: 6, missing: 0, foreign: 0, doubled, .. }
            if *doubled > 100)
    };
    assert!(faults.len() == 3 && faults[1..].iter().all(is_doubled), "{faults:?}");
}

#[test]
fn blocks_that_cannot_be_used_are_named() {
    let key = block_key(1, 0);
    let of_block = |change: &dyn Fn(&Inner)| {
        let faults = faults_of(&[], change);
        let [Fault::Blocks { segment: 1, block_count: 1, first: 0, what }, Fault::Postings { .. }] =
            faults.as_slice()
        else {
            panic!("{faults:?}")
        };
        what.clone()
    };
    assert_eq!(of_block(&|inner| put(inner, BLOCKS, key, [9, 9, 9])), "cannot be understood");
    assert_eq!(of_block(&|inner| delete(inner, BLOCKS, key)), "is missing");
    let too_high = block::encode(&[0, 1 << 50]);
    let what = of_block(&|inner| put(inner, BLOCKS, key, &too_high));
    assert!(what.contains("next") || what.contains("outside"), "{what}");
}

#[test]
fn a_flipped_byte_of_a_block_is_found_wherever_it_is() {
    let len = {
        let (folder, _) = index();
        damage(folder.path(), |inner| get(inner, BLOCKS, block_key(0, 0)).len())
    };
    for at in [0, 1, 5, len / 2, len - 1] {
        let faults = faults_of(&[], |inner| {
            let mut bytes = get(inner, BLOCKS, block_key(0, 0));
            bytes[at] ^= 4;
            put(inner, BLOCKS, block_key(0, 0), bytes);
        });
        let is_of_segment = |fault: &Fault| {
            matches!(
                fault,
                Fault::Blocks { segment: 0, .. }
                    | Fault::Postings { segment: 0, .. }
                    | Fault::SegmentCount { segment: 0, .. }
            )
        };
        assert!(!faults.is_empty() && faults.iter().all(is_of_segment), "byte {at}: {faults:?}");
    }
}

#[test]
fn a_wrong_number_of_postings_is_told() {
    let faults = faults_of(&[], |inner| {
        let key = 2_u32.to_be_bytes();
        let mut directory = Directory::decode(&get(inner, SEGMENTS, key)).unwrap();
        directory.posting_count += 5;
        put(inner, SEGMENTS, key, directory.encode());
    });
    let [Fault::SegmentCount { segment: 2, recorded, actual }] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert_eq!(*recorded, actual + 5);
}

#[test]
fn damaged_directories_are_named_though_the_index_cannot_be_opened() {
    let faults = faults_of(&[], |inner| {
        let mut bytes = get(inner, SEGMENTS, 1_u32.to_be_bytes());
        bytes[6] ^= 1;
        put(inner, SEGMENTS, 1_u32.to_be_bytes(), bytes);
    });
    assert_eq!(faults, [Fault::Directory { segment: Some(1) }]);
    let faults = faults_of(&[], |inner| put(inner, SEGMENTS, [7], [7]));
    assert_eq!(faults, [Fault::Directory { segment: None }]);
}

#[test]
fn tracks_in_no_segment_are_named() {
    let faults = faults_of(&[], |inner| delete(inner, SEGMENTS, 1_u32.to_be_bytes()));
    let [Fault::Uncovered { track_count: 6, posting_count, examples }] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert!(*posting_count > 100 && examples[0].as_str() == "t6", "{faults:?}");
}

#[test]
fn tracks_without_peaks_are_lost_and_named() {
    let track_id = track(7, 0).id;
    let start = |inner: &Inner| record(inner, 7).span.start.to_be_bytes();
    let faults = faults_of(&[7], |inner| delete(inner, CONSTELLATIONS, start(inner)));
    assert_eq!(faults, [Fault::PeaksMissing { track_id: track_id.clone() }]);
    let faults = faults_of(&[7], |inner| {
        let mut bytes = get(inner, CONSTELLATIONS, start(inner));
        // The number of peaks.
        bytes[0] ^= 1;
        put(inner, CONSTELLATIONS, start(inner), bytes);
    });
    assert_eq!(faults, [Fault::PeaksDamaged { track_id }]);
}

#[test]
fn tracks_without_a_record_are_lost_and_named() {
    let id = track(7, 0).id;
    let mut position = None;
    let faults = faults_of(&[7], |inner| {
        position = Some(record(inner, 7).span.start);
        delete(inner, TRACKS, id.as_str());
    });
    let missing = Fault::RecordMissing { track_id: id.clone() };
    assert_eq!(faults, [Fault::PeaksOrphan { position }, missing]);
    let faults = faults_of(&[7], |inner| put(inner, TRACKS, id.as_str(), "{\"id\":"));
    let [Fault::Record { track_id, what }, Fault::PeaksOrphan { position: at }] = faults.as_slice()
    else {
        panic!("{faults:?}")
    };
    assert_eq!((track_id.as_str(), *at), ("t7", position));
    assert!(what.contains("the record of track t7 is damaged"), "{what}");
}

/// Its row of content looks like one of a track that was removed.
#[test]
fn a_track_without_record_and_peaks_is_named_but_may_have_been_removed() {
    let id = track(7, 0).id;
    let (folder, tracks) = index();
    damage(folder.path(), |inner| {
        let start = record(inner, 7).span.start.to_be_bytes();
        delete(inner, CONSTELLATIONS, start);
        delete(inner, TRACKS, id.as_str());
    });
    let report = check(folder.path());
    let [fault @ Fault::ContentOrphan { track_id }] = report.faults.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!((track_id.as_str(), report.lost.as_slice()), (id.as_str(), [].as_slice()));
    assert!(fault.way_out().contains("ingest its recording again"), "{}", fault.way_out());
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ()).unwrap();
    assert!(repaired.after.unwrap().is_whole());
    assert_answers(folder.path(), &tracks, &[id]);
}

#[test]
fn rows_that_belong_to_nothing_are_told() {
    let stranger = TrackId::new("nobody").unwrap();
    let hash = ContentHash([7; 32]);
    let faults = faults_of(&[], |inner| put(inner, CONTENT, content_key(&hash, &stranger), []));
    assert_eq!(faults, [Fault::ContentOrphan { track_id: "nobody".to_owned() }]);
    let faults =
        faults_of(&[], |inner| put(inner, CONTENT, content_key(&hash, &track(2, 0).id), []));
    assert_eq!(faults, [Fault::ContentOrphan { track_id: "t2".to_owned() }]);
    let faults = faults_of(&[], |inner| put(inner, CONTENT, [1; 9], []));
    assert!(matches!(faults.as_slice(), [Fault::ContentOrphan { .. }]), "{faults:?}");
    let far = 9_000_000_u32;
    let faults = faults_of(&[], |inner| put(inner, CONSTELLATIONS, far.to_be_bytes(), [0]));
    assert_eq!(faults, [Fault::PeaksOrphan { position: Some(far) }]);
    let faults = faults_of(&[], |inner| {
        // Inside a track.
        let position = record(inner, 9).span.start + 1;
        put(inner, CONSTELLATIONS, position.to_be_bytes(), [0]);
    });
    assert!(matches!(faults.as_slice(), [Fault::PeaksOrphan { .. }]), "{faults:?}");
    let faults = faults_of(&[], |inner| put(inner, CONSTELLATIONS, [1, 2], [0]));
    assert_eq!(faults, [Fault::PeaksOrphan { position: None }]);
}

#[test]
fn a_track_that_duplicates_would_miss_is_told() {
    let faults = faults_of(&[], |inner| {
        let record = record(inner, 4);
        delete(inner, CONTENT, content_key(&record.content_hash, &record.id));
    });
    assert_eq!(faults, [Fault::ContentMissing { track_id: track(4, 0).id }]);
}

#[test]
fn records_that_count_wrong_are_mended() {
    let track_id = track(4, 0).id;
    let mut counts = (0, 0, 0);
    let faults = faults_of(&[], |inner| {
        let right = record(inner, 4);
        counts = (right.span.len, right.peak_count, right.posting_count);
        let mut wrong = right;
        wrong.span.len -= 1;
        wrong.peak_count += 2;
        wrong.posting_count += 3;
        put_record(inner, &wrong);
    });
    let field = |field, recorded, actual| Fault::RecordField {
        track_id: track_id.clone(),
        field,
        recorded,
        actual,
    };
    let expected = [
        field("span.len", counts.0 - 1, counts.0),
        field("peak_count", counts.1 + 2, counts.1),
        field("posting_count", counts.2 + 3, counts.2),
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_record_that_places_its_track_elsewhere_costs_no_other_track() {
    let mut position = None;
    let faults = faults_of(&[5], |inner| {
        let mut moved = record(inner, 5);
        position = Some(moved.span.start);
        moved.span.start -= 1;
        put_record(inner, &moved);
    });
    let missing = Fault::PeaksMissing { track_id: track(5, 0).id };
    assert_eq!(faults, [missing, Fault::PeaksOrphan { position }]);

    let faults = faults_of(&[5], |inner| {
        let mut moved = record(inner, 5);
        position = Some(moved.span.start);
        moved.span = record(inner, 4).span;
        moved.span.len += 1;
        put_record(inner, &moved);
    });
    let same = Fault::SamePlace { track_id: track(5, 0).id, other: track(4, 0).id };
    assert_eq!(faults, [same, Fault::PeaksOrphan { position }]);

    let (mut recorded, mut actual) = (0, 0);
    let faults = faults_of(&[], |inner| {
        let mut long = record(inner, 4);
        (recorded, actual) = (long.span.len + 1_000, long.span.len);
        long.span.len = recorded;
        put_record(inner, &long);
    });
    let track_id = track(4, 0).id;
    assert_eq!(faults, [Fault::RecordField { track_id, field: "span.len", recorded, actual }]);
}

#[test]
fn peaks_that_reach_into_the_next_track_are_damaged() {
    let faults = faults_of(&[4], |inner| {
        let key = record(inner, 4).span.start.to_be_bytes();
        let bytes = get(inner, CONSTELLATIONS, key);
        let mut peaks = stored_peaks::decode(&bytes, 0..u32::MAX).unwrap();
        peaks.last_mut().unwrap().time_ms += 1_000_000;
        put(inner, CONSTELLATIONS, key, stored_peaks::encode(&peaks));
    });
    assert!(faults.contains(&Fault::PeaksDamaged { track_id: track(4, 0).id }), "{faults:?}");
}

#[test]
fn a_table_of_lengths_that_is_wrong_is_told() {
    let lengths = |change: &dyn Fn(&Inner)| match faults_of(&[], change).as_slice() {
        [Fault::Lengths { what }] => what.clone(),
        faults => panic!("{faults:?}"),
    };
    assert_eq!(lengths(&|inner| delete(inner, META, lens::KEY)), "is missing");
    assert_eq!(lengths(&|inner| put(inner, META, lens::KEY, "lengths")), "is damaged");
    let what = lengths(&|inner| {
        let bytes = get(inner, META, lens::KEY);
        let end = u32::from_be_bytes(*bytes.first_chunk().unwrap());
        let mut table = vec![0; SLOT_COUNT as usize];
        let decoded = lens::decode(&bytes, end).unwrap();
        decoded.iter().for_each(|(slot, len)| table[*slot as usize] = *len);
        // The sum stays, so that opening does not notice.
        let (from, to) = (decoded[0].0 as usize, decoded[1].0 as usize);
        (table[from], table[to]) = (table[from] - 1, table[to] + 1);
        put(inner, META, lens::KEY, lens::encode(&table, end));
    });
    assert_eq!(what, "counts other postings than there are");
}

#[test]
fn header_fields_are_named() {
    let header = |change: &dyn Fn(&Inner)| match faults_of(&[], change).as_slice() {
        [Fault::Header { field, what }] => (*field, what.clone()),
        faults => panic!("{faults:?}"),
    };
    let missing = |field| (field, "is missing".to_owned());
    assert_eq!(header(&|inner| delete(inner, META, "format")), missing("format"));
    assert_eq!(header(&|inner| delete(inner, META, "params")), missing("params"));
    assert_eq!(header(&|inner| delete(inner, META, "next")), missing("next"));
    let (field, what) = header(&|inner| put(inner, META, "params", [1, 2, 3]));
    assert_eq!((field, what.as_str()), ("params", "has 3 bytes instead of 8"));
    let (field, what) = header(&|inner| put(inner, META, "next", 3_u32.to_be_bytes()));
    assert!(field == "next" && what.starts_with("is 3, but tracks lie up to "), "{what}");
}

#[test]
fn an_index_of_other_parameters_cannot_be_checked() {
    let (folder, _) = index();
    damage(folder.path(), |inner| put(inner, META, "params", 7_u64.to_be_bytes()));
    let checked = RocksIndex::check(folder.path(), &Params::default(), &|_| ());
    assert!(matches!(checked, Err(IndexError::ParamsMismatch { actual: 7, .. })), "{checked:?}");
    let opened = RocksIndex::open(folder.path(), &Params::default());
    assert!(matches!(opened, Err(IndexError::ParamsMismatch { .. })), "{opened:?}");
    let repaired = RocksIndex::repair(folder.path(), &Params::default(), &|_| ());
    assert!(matches!(repaired, Err(IndexError::ParamsMismatch { .. })), "{repaired:?}");
}
