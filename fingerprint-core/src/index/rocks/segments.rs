//! Segments in RocksDB: where postings are, how a segment is written, taken over and deleted.
//!
//! A buffer that is full is *frozen*: readers go on reading it while it becomes a segment, and the
//! next postings go into a new one. What readers see is replaced in one step, so each posting is in
//! exactly one place.
//!
//! The blocks of a segment are written as files beside the database, which RocksDB then takes over
//! without copying. A segment counts once its directory is in the database, in one write batch with
//! those that it replaces; blocks without a directory are what a crash has left, and are deleted
//! when the index is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rocksdb::{IngestExternalFileOptions, IteratorMode, SstFileWriter, WriteBatch};

use super::backup::SNAPSHOT;
use super::lens::LensChange;
use super::{
    BLOCKS, CONSTELLATIONS, INCOMING, Inner, META, SEGMENTS, corrupt, io_failure, lens, lock,
    options, storage,
};
use crate::index::buffer::Buffer;
use crate::index::segment::{Directory, Entry, SegmentBuilder, Stretch};
use crate::index::{IndexError, Posting, Span, stored_peaks, write};

/// Files are begun anew at this size, so that each has a small index of its own.
const FILE_BYTES: u64 = 64 << 20;

/// A segment in the database.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u32,
    pub(super) directory: Directory,
}

/// Where postings are. A snapshot; changes make a new one.
#[derive(Debug)]
pub(super) struct Store {
    /// In the order of the timeline.
    pub(super) segments: Vec<Arc<Segment>>,
    /// A buffer that is becoming a segment.
    pub(super) frozen: Option<Arc<Buffer>>,
    /// The buffer for new postings.
    pub(super) active: Arc<Buffer>,
}

impl Store {
    pub(super) fn new(segments: Vec<Arc<Segment>>, active: Buffer) -> Self {
        Self { segments, frozen: None, active: Arc::new(active) }
    }

    pub(super) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        self.frozen.iter().chain([&self.active]).map(AsRef::as_ref)
    }
}

/// Key of a block.
pub(super) fn block_key(segment: u32, block: u32) -> [u8; 8] {
    (u64::from(segment) << u32::BITS | u64::from(block)).to_be_bytes()
}

/// Segment and number of a block.
pub(super) fn parse_block_key(key: &[u8]) -> Option<(u32, u32)> {
    let key = u64::from_be_bytes(key.try_into().ok()?);
    Some((u32::try_from(key >> u32::BITS).ok()?, u32::try_from(key & u64::from(u32::MAX)).ok()?))
}

/// What to tell of a block that is missing or damaged.
pub(super) fn damaged(segment: u32, block: usize) -> IndexError {
    corrupt(format!("block {block} of segment {segment} is damaged"))
}

/// What to tell of a live track without peaks.
pub(super) fn no_peaks(span: Span) -> IndexError {
    corrupt(format!("the track at position {} has no peaks", span.start))
}

/// Position behind the last of segments that are in order.
pub(super) fn end_of(segments: &[Arc<Segment>]) -> u32 {
    segments.last().map_or(0, |segment| segment.directory.stretch.end)
}

impl Inner {
    /// Loads the directories and makes the postings anew that had not become a segment. Deletes
    /// what a crash has left.
    pub(super) fn load_segments(&mut self) -> Result<(), IndexError> {
        // Files that had not been taken over. What cannot be deleted is in nobody's way.
        let _ = fs::remove_dir_all(self.path.join(INCOMING));
        let _ = fs::remove_dir_all(self.path.join(SNAPSHOT));
        let segments = self.read_segments(&[])?;
        let end = end_of(&segments);
        let last_id = segments.iter().map(|segment| segment.id).max();
        let last_block = self.delete_leftovers(&segments)?;
        let next_id = last_id.max(last_block).map_or(Some(0), |id| id.checked_add(1));
        *self.next_segment.get_mut() =
            next_id.ok_or_else(|| corrupt("a segment has the last number"))?;
        let next = self.next_position.get_mut().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(end);
        self.load_lens(&segments, end)?;

        let store = Store::new(segments, Buffer::new(end));
        for (span, _) in self.live().timeline.entries().filter(|(span, _)| span.start >= end) {
            if !self.buffer_again(*span, &store.active)? {
                return Err(no_peaks(*span));
            }
        }
        *self.store.get_mut().unwrap_or_else(PoisonError::into_inner) = Arc::new(store);
        Ok(())
    }

    /// The segments that count, in the order of the timeline. Of those that are known their
    /// directories are not read again.
    pub(super) fn read_segments(
        &self,
        known: &[Arc<Segment>],
    ) -> Result<Vec<Arc<Segment>>, IndexError> {
        let mut segments = Vec::new();
        for item in self.db.iterator_cf(self.family(SEGMENTS), IteratorMode::Start) {
            let (key, value) = item.map_err(storage("list the segments"))?;
            let id = u32::from_be_bytes(
                key.as_ref().try_into().map_err(|_| corrupt("a segment has a damaged number"))?,
            );
            if let Some(segment) = known.iter().find(|segment| segment.id == id) {
                segments.push(Arc::clone(segment));
                continue;
            }
            let directory = Directory::decode(&value)
                .ok_or_else(|| corrupt(format!("the directory of segment {id} is damaged")))?;
            segments.push(Arc::new(Segment { id, directory }));
        }
        segments.sort_unstable_by_key(|segment| segment.directory.stretch.start);
        let overlap =
            |pair: &[Arc<Segment>]| pair[0].directory.stretch.end > pair[1].directory.stretch.start;
        if let Some(pair) = segments.windows(2).find(|pair| overlap(pair)) {
            return Err(corrupt(format!("segments {} and {} overlap", pair[0].id, pair[1].id)));
        }
        Ok(segments)
    }

    /// Adds the postings of a stored track to `buffer`, and counts them; false if the track has no
    /// peaks.
    pub(super) fn buffer_again(&self, span: Span, buffer: &Buffer) -> Result<bool, IndexError> {
        self.make_again(span, |postings| {
            self.lens.count_all(postings);
            buffer.add(postings);
        })
    }

    /// Calls `visit` with the postings of a stored track, part by part, as they follow from its peaks;
    /// false if the track has no peaks.
    pub(super) fn make_again(
        &self,
        span: Span,
        mut visit: impl FnMut(&[Posting]),
    ) -> Result<bool, IndexError> {
        let start = span.start;
        let bytes = self
            .db
            .get_pinned_cf(self.family(CONSTELLATIONS), start.to_be_bytes())
            .map_err(storage("read the peaks of a track"))?;
        let Some(bytes) = bytes else { return Ok(false) };
        let peaks = stored_peaks::decode(&bytes, 0..u32::MAX)
            .filter(|peaks| write::span_len(peaks) <= span.len)
            .ok_or_else(|| corrupt(format!("the peaks of the track at {start} are damaged")))?;
        write::for_each_part(&peaks, span, &self.params, |postings| {
            visit(postings);
            Ok::<_, IndexError>(())
        })?;
        Ok(true)
    }

    /// Makes the active buffer the frozen one. Only for the one writer, between changes.
    pub(super) fn freeze(&self, next_position: u32) -> Result<(), IndexError> {
        if self.store().active.len() == 0 {
            return Ok(());
        }
        // One at a time.
        self.flush_frozen()?;
        self.change_store(|store| Store {
            segments: store.segments.clone(),
            frozen: Some(Arc::clone(&store.active)),
            active: Arc::new(Buffer::new(next_position)),
        });
        Ok(())
    }

    /// Makes the frozen buffer a segment, if there is one. Any thread.
    pub(super) fn flush_frozen(&self) -> Result<(), IndexError> {
        let _flushing = lock(&self.flushing);
        let store = self.store();
        let Some(frozen) = &store.frozen else { return Ok(()) };
        let stretch = Stretch { start: frozen.start, end: store.active.start };
        let holes = self.live().timeline.holes(stretch.start..stretch.end);
        let mut change = LensChange::default();
        let segment = self.write_segment(stretch, &mut |push| {
            frozen.for_each(|entry| {
                // Of tracks that were removed meanwhile, or could not be added.
                if holes.contains(entry.position()) {
                    change.dropped.count(entry.posting().key.bucket);
                    return Ok(());
                }
                change.stored.count(entry.posting().key.bucket);
                push(entry)
            })
        })?;
        self.replace_segments(segment, &change)?;
        self.sweep();
        Ok(())
    }

    /// Writes a segment of the ascending entries that `fill` pushes. Nobody sees it yet.
    pub(super) fn write_segment(
        &self,
        stretch: Stretch,
        fill: Fill<'_>,
    ) -> Result<Segment, IndexError> {
        self.refuse_exchanged()?;
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let folder = self.path.join(INCOMING);
        fs::create_dir_all(&folder).map_err(io_failure("make a folder for postings"))?;
        let mut paths = Vec::new();
        let written = write_files(id, stretch, &folder, fill, &mut paths);
        let taken_over = written.and_then(|directory| {
            if !paths.is_empty() {
                let mut options = IngestExternalFileOptions::default();
                options.set_move_files(true);
                self.db
                    .ingest_external_file_cf_opts(self.family(BLOCKS), &options, paths.clone())
                    .map_err(storage("take over postings"))?;
            }
            Ok(Segment { id, directory })
        });
        if taken_over.is_err() {
            // The disk may be full of them.
            for path in paths {
                let _ = fs::remove_file(path);
            }
        }
        taken_over
    }

    /// Makes a segment that has been written count, in the place of those that it replaces, or of
    /// the frozen buffer if there are none.
    pub(super) fn replace_segments(
        &self,
        segment: Segment,
        change: &LensChange<'_>,
    ) -> Result<(), IndexError> {
        let replaced = change.replaced;
        let counting = lock(&self.counting);
        let mut batch = WriteBatch::default();
        let segments = self.family(SEGMENTS);
        batch.put_cf(segments, segment.id.to_be_bytes(), segment.directory.encode());
        for old in replaced {
            batch.delete_cf(segments, old.id.to_be_bytes());
        }
        self.lens.change(change, segment.directory.stretch.end, |bytes| {
            batch.put_cf(self.family(META), lens::KEY, bytes);
            self.commit(batch)
        })?;
        drop(counting);
        let segment = Arc::new(segment);
        self.change_store(|store| {
            let is_kept = |old: &&Arc<Segment>| replaced.iter().all(|gone| gone.id != old.id);
            let mut segments: Vec<_> = store.segments.iter().filter(is_kept).cloned().collect();
            segments.push(Arc::clone(&segment));
            segments.sort_unstable_by_key(|segment| segment.directory.stretch.start);
            let frozen = store.frozen.clone().filter(|_| !replaced.is_empty());
            Store { segments, frozen, active: Arc::clone(&store.active) }
        });
        lock(&self.retired).extend_from_slice(replaced);
        Ok(())
    }

    /// Deletes the blocks of segments that nobody reads any more. What fails is deleted when the
    /// index is opened again.
    pub(super) fn sweep(&self) {
        let mut retired = lock(&self.retired);
        let unread: Vec<_> =
            retired.extract_if(.., |segment| Arc::strong_count(segment) == 1).collect();
        drop(retired);
        for segment in unread {
            let _ = self.delete_blocks(segment.id);
        }
    }

    pub(super) fn delete_blocks(&self, segment: u32) -> Result<(), IndexError> {
        let (first, last) = (block_key(segment, 0), block_key(segment, u32::MAX));
        let blocks = self.family(BLOCKS);
        self.db
            .delete_file_in_range_cf(blocks, first, last)
            .map_err(storage("delete merged postings"))?;
        // Whole files only, which is usually all.
        let mut rest = self.db.raw_iterator_cf(blocks);
        rest.seek(first);
        if rest.key().is_some_and(|key| key <= last.as_slice()) {
            self.db
                .delete_range_cf(blocks, first, last)
                .map_err(storage("delete merged postings"))?;
        }
        Ok(())
    }

    /// Deletes blocks of other segments than these. Says the last number that has been given out.
    fn delete_leftovers(&self, segments: &[Arc<Segment>]) -> Result<Option<u32>, IndexError> {
        let mut last = None;
        let mut blocks = self.db.raw_iterator_cf(self.family(BLOCKS));
        blocks.seek_to_first();
        while let Some((id, _)) = blocks.key().and_then(parse_block_key) {
            last = Some(id);
            if segments.iter().all(|segment| segment.id != id) {
                self.delete_blocks(id)?;
            }
            let Some(next) = id.checked_add(1) else { break };
            blocks.seek(block_key(next, 0));
        }
        blocks.status().map_err(storage("list the postings"))?;
        Ok(last)
    }
}

/// Pushes ascending entries.
pub(super) type Fill<'f> =
    &'f mut dyn FnMut(&mut dyn FnMut(Entry) -> Result<(), IndexError>) -> Result<(), IndexError>;

/// Writes the blocks of a segment to files in `folder`, which are told in `paths`.
fn write_files(
    id: u32,
    stretch: Stretch,
    folder: &Path,
    fill: Fill<'_>,
    paths: &mut Vec<PathBuf>,
) -> Result<Directory, IndexError> {
    let failed = storage("write postings");
    let options = options::blocks();
    let mut file: Option<SstFileWriter<'_>> = None;
    let mut builder = SegmentBuilder::new(stretch, |block, bytes: &[u8]| {
        let mut current = match file.take() {
            Some(mut full) if full.file_size() >= FILE_BYTES => {
                full.finish().map_err(&failed)?;
                None
            }
            current => current,
        };
        if current.is_none() {
            let path = folder.join(format!("{id}-{}.sst", paths.len()));
            let new = SstFileWriter::create(&options);
            paths.push(path.clone());
            new.open(path).map_err(&failed)?;
            current = Some(new);
        }
        file = current;
        let Some(file) = &mut file else { return Ok(()) };
        file.put(block_key(id, block), bytes).map_err(&failed)
    });
    fill(&mut |entry| builder.push(entry))?;
    let directory = builder.finish()?;
    if let Some(mut last) = file {
        last.finish().map_err(&failed)?;
    }
    Ok(directory)
}
