//! A row that is gone is told: it must not look like a track that has nothing to say.

use super::*;

#[test]
fn missing_peaks_of_a_live_track_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path(), Limits::default());
    index.add(&[track(1, 1), track(2, 2)]).unwrap();
    let span = |id: &str| index.track(&TrackId::new(id).unwrap()).unwrap().unwrap().span;
    let (lost, removed) = (span("t1").start, span("t2").start);
    index.remove(&TrackId::new("t2").unwrap()).unwrap().unwrap();
    let peaks = index.inner.family(CONSTELLATIONS);
    index.inner.db.delete_cf(peaks, lost.to_be_bytes()).unwrap();
    let error = index.peaks(lost, 0..u32::MAX).unwrap_err();
    assert!(error.to_string().contains("track t1 has no peaks"), "{error}");
    assert_eq!(index.peaks(removed, 0..u32::MAX).unwrap(), None);
}
