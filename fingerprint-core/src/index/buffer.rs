//! The buffer: postings of the latest tracks, in memory until they become a segment.
//!
//! Position in the flow: landmarks → **postings** → votes. Postings are added in the order of
//! tracks and read in the order of keys. They lie in short lists, unsorted, so that adding is a
//! push and reading a look through some dozens.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::Posting;
use super::segment::Entry;
use crate::hash::KeyRange;

/// Buckets of one list: at four million postings a list has about a hundred of them.
const LIST_BUCKETS: u32 = 32;

/// Postings whose positions begin at `start`. Any thread may read while one adds.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Position on the timeline from which on all postings are here.
    pub(super) start: u32,
    /// By number of the list: bucket / [`LIST_BUCKETS`].
    lists: DashMap<u32, Vec<Entry>>,
    len: AtomicUsize,
}

impl Buffer {
    pub(super) fn new(start: u32) -> Self {
        Self { start, lists: DashMap::new(), len: AtomicUsize::new(0) }
    }

    /// Adds postings, ascending.
    pub(super) fn add(&self, postings: &[Posting]) {
        let list_of = |posting: &Posting| posting.key.bucket / LIST_BUCKETS;
        for of_list in postings.chunk_by(|a, b| list_of(a) == list_of(b)) {
            let entries = of_list.iter().map(|posting| Entry::new(*posting));
            self.lists.entry(list_of(&of_list[0])).or_default().extend(entries);
        }
        self.len.fetch_add(postings.len(), Ordering::Relaxed);
    }

    /// Appends the postings of a range, in any order.
    pub(super) fn read(&self, range: &KeyRange, postings: &mut Vec<Posting>) {
        if self.len() == 0 {
            return;
        }
        let (first, last) = Entry::bounds(range);
        for list in range.buckets.start() / LIST_BUCKETS..=range.buckets.end() / LIST_BUCKETS {
            let Some(list) = self.lists.get(&list) else { continue };
            let near = list.iter().filter(|entry| (first..=last).contains(*entry));
            postings.extend(near.map(|entry| entry.posting()).filter(|p| range.contains(p.key)));
        }
    }

    /// Number of postings.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Calls `visit` with all entries, ascending; those of one list are copied to be sorted.
    pub(super) fn for_each<E>(
        &self,
        mut visit: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lists: Vec<u32> = self.lists.iter().map(|list| *list.key()).collect();
        lists.sort_unstable();
        let mut sorted = Vec::new();
        for list in lists {
            sorted.clear();
            sorted.extend(self.lists.get(&list).iter().flat_map(|list| list.iter().copied()));
            sorted.sort_unstable();
            sorted.iter().try_for_each(|entry| visit(*entry))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::Key;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn what_is_added_is_read_in_the_order_of_keys(
            batches in proptest::collection::vec(
                proptest::collection::btree_set((0_u32..40, 0_u16..35, 0_u32..1_000), 0..60), 0..4,
            ),
            bucket in 0_u32..40, dts in 0_u32..9, low in 0_u16..35, width in 0_u16..50,
        ) {
            let buffer = Buffer::new(0);
            let mut all = BTreeSet::new();
            for (i, batch) in batches.iter().enumerate() {
                let base = i as u32 * 1_000;
                let posting = |(bucket, cell, position): &(u32, u16, u32)| {
                    let key = Key { bucket: *bucket, cell: *cell };
                    Posting { key, position: base + position }
                };
                let batch: Vec<_> = batch.iter().map(posting).collect();
                buffer.add(&batch);
                all.extend(batch);
            }
            let mut entries = Vec::new();
            buffer.for_each(|entry| { entries.push(entry.posting()); Ok::<_, Infallible>(()) }).unwrap();
            prop_assert_eq!(buffer.len(), all.len());
            prop_assert_eq!(entries, all.iter().copied().collect::<Vec<_>>());
            let range = KeyRange { buckets: bucket..=bucket + dts, cells: low..=low + width };
            let mut read = Vec::new();
            buffer.read(&range, &mut read);
            read.sort_unstable();
            let wanted = all.iter().filter(|posting| range.contains(posting.key));
            prop_assert_eq!(read, wanted.copied().collect::<Vec<_>>());
        }
    }
}
