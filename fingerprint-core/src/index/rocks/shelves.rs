//! Decoded posting lists that are kept in memory.
//!
//! A *shelf* is the buckets that differ only in their time difference (see [`crate::hash`]): 128
//! neighbours, which a search for a change of tempo or speed reads in runs. Their lists stand one
//! behind the other, so that reading a range is two binary searches, and a whole run costs one
//! look into the cache.
//!
//! # What is kept
//!
//! A shelf is decoded when it is first read, until the cache is full; then it is full. Nothing is
//! evicted for another shelf: music asks for shelves about as often as it has postings on them, so
//! no shelf is worth more than those that were asked for first, and a search touches thousands,
//! which in a cache that is too small would only push each other out. Whatever is not kept is read
//! row by row.
//!
//! # Writers
//!
//! What a change adds and removes is added to and removed from the shelves that are kept: a song
//! touches thousands of them, and searches beside an ingest would decode them again and again
//! (measured on 11.7 hours: adding or removing 4 minutes takes the writer 10 to 18 ms more; when
//! shelves were dropped instead, the next passes after ten such changes took 50 ms more each).
//!
//! Changes are numbered. A reader takes the number of the last change *before* it takes its view
//! of the database, and marks what it decodes with that number; a shelf counts only if nothing has
//! changed on it after its mark. So what was decoded while a writer was writing may be used by
//! whoever decoded it, but is never kept for those who come when the writer has returned.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use crate::hash::BUCKET_COUNT;
use crate::index::{Posting, Span};

/// Buckets on a shelf: the cells of time differences.
const BUCKETS: u32 = 128;
const SHELF_COUNT: u32 = BUCKET_COUNT / BUCKETS;

/// Reading a row takes as long as decoding this many postings.
pub(super) const ROW_COST: usize = 16;

const _: () = assert!(SHELF_COUNT * BUCKETS == BUCKET_COUNT);

/// How much is kept and decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Memory of all shelves that are kept.
    pub(super) cache_bytes: usize,
    /// Postings of a shelf that is kept. A writer copies all of it to add a few.
    pub(super) shelf_postings_max: usize,
    /// Postings that one call may decode for the cache, so that no search waits for all of it to
    /// be filled; a row counts as [`ROW_COST`] more. The default takes 10 to 20 ms.
    pub(super) decoded_per_call_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, shelf_postings_max: 1 << 16, decoded_per_call_max: 1 << 18 }
    }
}

/// The shelf of a bucket.
pub(super) fn shelf_of(bucket: u32) -> u32 {
    bucket / BUCKETS
}

/// The buckets of a shelf; none for a number that no shelf has.
pub(super) fn buckets_of(shelf: u32) -> Range<u32> {
    let shelf = shelf.min(SHELF_COUNT);
    let end = (shelf + 1).min(SHELF_COUNT);
    shelf * BUCKETS..end * BUCKETS
}

/// The posting lists of one shelf.
#[derive(Debug)]
pub(super) struct Shelf {
    /// Where each bucket's list begins in `postings`; one more for the end of the last.
    starts: [u32; BUCKETS as usize + 1],
    /// Ascending in each bucket.
    postings: Box<[Posting]>,
    /// Number of the last change that is certainly in it.
    mark: u64,
}

impl Shelf {
    /// The list of a bucket of this shelf.
    pub(super) fn list(&self, bucket: u32) -> &[Posting] {
        let place = (bucket % BUCKETS) as usize;
        &self.postings[self.starts[place] as usize..self.starts[place + 1] as usize]
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.postings)
    }

    /// This shelf, which holds `buckets`, with new postings of it, which are ascending; some may be
    /// there already.
    fn with(&self, buckets: Range<u32>, new: &[(u32, Posting)], mark: u64) -> Self {
        let mut builder = ShelfBuilder::with_capacity(self.postings.len() + new.len());
        let mut rest = new;
        for bucket in buckets {
            let count = rest.iter().take_while(|(of, _)| *of == bucket).count();
            let (of_bucket, behind) = rest.split_at(count);
            merge(self.list(bucket), of_bucket, builder.list(bucket));
            rest = behind;
        }
        builder.finish(mark)
    }

    /// This shelf, which holds `buckets`, without the postings in `spans`, which are ascending.
    fn without(&self, buckets: Range<u32>, spans: &[Span], mark: u64) -> Self {
        let mut builder = ShelfBuilder::with_capacity(self.postings.len());
        let is_left = |posting: &&Posting| {
            let behind = spans.partition_point(|span| span.start <= posting.position);
            behind.checked_sub(1).is_none_or(|i| !spans[i].contains(posting.position))
        };
        for bucket in buckets {
            builder.list(bucket).extend(self.list(bucket).iter().filter(is_left));
        }
        builder.finish(mark)
    }
}

/// Appends both lists, which are ascending, in order; what is in both once.
fn merge(old: &[Posting], new: &[(u32, Posting)], merged: &mut Vec<Posting>) {
    let mut old = old;
    for (_, posting) in new {
        let (before, behind) = old.split_at(old.partition_point(|p| p < posting));
        merged.extend_from_slice(before);
        if behind.first() != Some(posting) {
            merged.push(*posting);
        }
        old = behind;
    }
    merged.extend_from_slice(old);
}

/// Puts lists on a shelf, in ascending order of their buckets.
#[derive(Debug)]
pub(super) struct ShelfBuilder {
    starts: [u32; BUCKETS as usize + 1],
    /// Number of `starts` that are known.
    started: usize,
    postings: Vec<Posting>,
}

impl ShelfBuilder {
    pub(super) fn with_capacity(posting_count: usize) -> Self {
        Self {
            starts: [0; BUCKETS as usize + 1],
            started: 0,
            postings: Vec::with_capacity(posting_count),
        }
    }

    /// Begins the list of a bucket, which is to be appended to what is returned.
    pub(super) fn list(&mut self, bucket: u32) -> &mut Vec<Posting> {
        self.start_until((bucket % BUCKETS) as usize + 1);
        &mut self.postings
    }

    /// Postings so far.
    pub(super) fn len(&self) -> usize {
        self.postings.len()
    }

    /// `mark` is the number of the last change that is certainly in it.
    pub(super) fn finish(mut self, mark: u64) -> Shelf {
        self.start_until(self.starts.len());
        Shelf { starts: self.starts, postings: self.postings.into_boxed_slice(), mark }
    }

    fn start_until(&mut self, end: usize) {
        let start = u32::try_from(self.postings.len()).expect("a shelf has few postings");
        self.starts[self.started..end].fill(start);
        self.started = end;
    }
}

/// The shelves that are kept.
#[derive(Debug)]
pub(super) struct Shelves {
    places: Box<[RwLock<Place>]>,
    /// Number of the last change of postings.
    last_change: AtomicU64,
    /// Memory of all shelves that are kept.
    bytes: AtomicUsize,
    pub(super) limits: Limits,
}

#[derive(Debug, Default)]
struct Place {
    shelf: Option<Arc<Shelf>>,
    /// Number of the last change on this shelf.
    changed_at: u64,
}

impl Place {
    /// The shelf, if nothing has changed since it was decoded.
    fn current(&self) -> Option<&Arc<Shelf>> {
        self.shelf.as_ref().filter(|shelf| shelf.mark >= self.changed_at)
    }
}

impl Shelves {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            places: (0..SHELF_COUNT).map(|_| RwLock::default()).collect(),
            last_change: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            limits,
        }
    }

    /// Number of the last change: the mark of what is decoded from a view of the database that is
    /// taken after this call.
    pub(super) fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    /// A shelf that is kept.
    pub(super) fn get(&self, shelf: u32) -> Option<Arc<Shelf>> {
        let place = self.places.get(shelf as usize)?;
        let place = place.read().unwrap_or_else(PoisonError::into_inner);
        place.current().map(Arc::clone)
    }

    /// True if a shelf of `posting_count` postings may be kept.
    pub(super) fn has_room_for(&self, posting_count: usize) -> bool {
        let bytes = size_of::<Shelf>() + posting_count * size_of::<Posting>();
        posting_count <= self.limits.shelf_postings_max
            && self.bytes.load(Ordering::Relaxed) + bytes <= self.limits.cache_bytes
    }

    /// Memory of all shelves that are kept, counted anew.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        let kept = |place: &RwLock<Place>| place.read().unwrap().shelf.as_ref().map(|s| s.bytes());
        let sum = self.places.iter().filter_map(kept).sum();
        assert!(sum <= self.bytes.load(Ordering::Relaxed));
        sum
    }

    /// Keeps a shelf that has been decoded, unless one is there, it is out of date already, or
    /// there is no room left.
    pub(super) fn keep(&self, shelf: u32, decoded: &Arc<Shelf>) {
        let Some(mut place) = self.place(shelf) else { return };
        if place.current().is_none() && decoded.mark >= place.changed_at {
            self.put(&mut place, Some(Arc::clone(decoded)));
        }
    }

    /// Takes note of postings, ascending, that have just been written to the database. Only for
    /// the one writer.
    pub(super) fn add(&self, postings: &[(u32, Posting)]) {
        let change = self.last_change() + 1;
        for new in postings.chunk_by(|a, b| shelf_of(a.0) == shelf_of(b.0)) {
            let shelf = shelf_of(new[0].0);
            self.replace(shelf, change, |old| old.with(buckets_of(shelf), new, change));
        }
        self.last_change.store(change, Ordering::Release);
    }

    /// Takes note that the postings in `spans`, which are ascending and have postings in `buckets`
    /// only, are no longer in the database. Only for the one writer.
    pub(super) fn remove(&self, buckets: impl Iterator<Item = u32>, spans: &[Span]) {
        let mut touched: Vec<_> = buckets.map(shelf_of).collect();
        touched.sort_unstable();
        touched.dedup();
        let change = self.last_change() + 1;
        for shelf in touched {
            self.replace(shelf, change, |old| old.without(buckets_of(shelf), spans, change));
        }
        self.last_change.store(change, Ordering::Release);
    }

    /// Changes a shelf, if it is kept.
    fn replace(&self, shelf: u32, change: u64, changed: impl FnOnce(&Shelf) -> Shelf) {
        // Outside of the lock, so that nobody waits for the copying.
        let old = self.get(shelf);
        let new = old.as_deref().map(changed);
        let Some(mut place) = self.place(shelf) else { return };
        place.changed_at = change;
        // Readers do not replace one that is there. If none was, one that was kept in between may
        // have been decoded before the database was written, and has to go.
        self.put(&mut place, new.map(Arc::new));
    }

    fn place(&self, shelf: u32) -> Option<RwLockWriteGuard<'_, Place>> {
        let place = self.places.get(shelf as usize)?;
        Some(place.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a shelf, or nothing, in the place of what is there.
    fn put(&self, place: &mut Place, shelf: Option<Arc<Shelf>>) {
        if let Some(old) = place.shelf.take() {
            self.bytes.fetch_sub(old.bytes(), Ordering::Relaxed);
        }
        let Some(shelf) = shelf.filter(|s| s.postings.len() <= self.limits.shelf_postings_max)
        else {
            return;
        };
        // Added before it is compared, so that many at once do not exceed the limit together.
        let bytes = shelf.bytes();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limits.cache_bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        place.shelf = Some(shelf);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn posting(position: u32) -> Posting {
        Posting { cell: 0, position }
    }

    fn shelf(postings: &BTreeSet<(u32, Posting)>, mark: u64) -> Arc<Shelf> {
        let mut builder = ShelfBuilder::with_capacity(postings.len());
        for (bucket, posting) in postings {
            builder.list(*bucket).push(*posting);
        }
        Arc::new(builder.finish(mark))
    }

    fn contents(shelf: &Shelf, buckets: Range<u32>) -> BTreeSet<(u32, Posting)> {
        buckets.flat_map(|bucket| shelf.list(bucket).iter().map(move |p| (bucket, *p))).collect()
    }

    fn any_postings() -> impl Strategy<Value = BTreeSet<(u32, Posting)>> {
        let posting = (0_u16..4, 0_u32..40).prop_map(|(cell, position)| Posting { cell, position });
        proptest::collection::btree_set((256_u32..384, posting), 0..60)
    }

    proptest! {
        #[test]
        fn changed_shelves_are_what_sets_would_be(
            old in any_postings(), new in any_postings(),
            starts in proptest::collection::btree_set(0_u32..10, 0..4),
        ) {
            let buckets = buckets_of(shelf_of(256));
            let shelf = shelf(&old, 0);
            prop_assert_eq!(contents(&shelf, buckets.clone()), old.clone());
            let new_list: Vec<_> = new.iter().copied().collect();
            let with = shelf.with(buckets.clone(), &new_list, 1);
            let both: BTreeSet<_> = old.union(&new).copied().collect();
            prop_assert_eq!(with.postings.len(), both.len());
            prop_assert_eq!(contents(&with, buckets.clone()), both);
            let spans: Vec<_> = starts.iter().map(|i| Span { start: i * 4, len: 4 }).collect();
            let without = shelf.without(buckets.clone(), &spans, 1);
            let is_left = |p: &(u32, Posting)| !spans.iter().any(|span| span.contains(p.1.position));
            let left: BTreeSet<_> = old.iter().copied().filter(is_left).collect();
            prop_assert_eq!(contents(&without, buckets), left);
        }
    }

    #[test]
    fn a_view_from_before_a_change_is_not_kept() {
        let shelves = Shelves::new(Limits::default());
        let mark = shelves.last_change();
        shelves.add(&[(5, posting(1))]);
        shelves.keep(0, &shelf(&BTreeSet::new(), mark));
        assert!(shelves.get(0).is_none());
        // Shelves that the change did not touch are not concerned.
        shelves.keep(1, &shelf(&BTreeSet::new(), mark));
        assert!(shelves.get(1).is_some());
        let mark = shelves.last_change();
        shelves.remove([5].into_iter(), &[Span { start: 1, len: 1 }]);
        shelves.keep(0, &shelf(&[(5, posting(1))].into(), mark));
        assert!(shelves.get(0).is_none());
    }

    #[test]
    fn kept_shelves_follow_changes() {
        let shelves = Shelves::new(Limits::default());
        shelves.keep(0, &shelf(&[(5, posting(1))].into(), shelves.last_change()));
        // The second is there already: it was written before the view was taken.
        shelves.add(&[(4, posting(9)), (5, posting(1)), (5, posting(2))]);
        let list = |bucket| shelves.get(0).unwrap().list(bucket).to_vec();
        assert_eq!(list(4), [posting(9)]);
        assert_eq!(list(5), [posting(1), posting(2)]);
        shelves.remove([5, 5].into_iter(), &[Span { start: 0, len: 2 }]);
        assert_eq!(list(5), [posting(2)]);
    }

    #[test]
    fn a_shelf_that_outgrows_the_limits_is_let_go() {
        let limits = Limits { shelf_postings_max: 2, ..Limits::default() };
        let shelves = Shelves::new(limits);
        assert!(shelves.has_room_for(2) && !shelves.has_room_for(3));
        shelves.keep(0, &shelf(&[(5, posting(1))].into(), 0));
        shelves.add(&[(5, posting(2))]);
        assert_eq!(shelves.get(0).unwrap().postings.len(), 2);
        shelves.add(&[(5, posting(3))]);
        assert!(shelves.get(0).is_none());
        assert_eq!(shelves.bytes.load(Ordering::Relaxed), 0);
    }
}
