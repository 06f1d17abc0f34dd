//! How RocksDB is set up: one place for every option, with its reason.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionDecision, DBCompressionType,
    LogLevel, MergeOperands, Options, WriteOptions,
};

use super::{CONSTELLATIONS, PARTS, POSTINGS};
use crate::index::posting::Row;

/// How much memory an index may use. The defaults suit a server that does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of the cache for blocks read from disk, all parts together (default 256 MiB).
    pub cache_bytes: usize,
    /// Bytes of changes gathered in memory before they are written to files, all parts together
    /// (default 192 MiB). More makes bulk ingest faster.
    pub write_buffer_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, write_buffer_bytes: 192 << 20 }
    }
}

pub(super) fn database(store: &StoreOptions) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(store.write_buffer_bytes);
    // One flush must not wait for a long compaction.
    options.set_max_background_jobs(3);
    options.set_bytes_per_sync(1 << 20);
    // RocksDB's own diary: bounded, and without the routine entries.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options
}

pub(super) fn families(store: &StoreOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(store.cache_bytes);
    let family = |part| ColumnFamilyDescriptor::new(part, family(part, store, &cache));
    PARTS.into_iter().map(family).collect()
}

/// Acknowledged means durable: the log is synced before a write returns.
pub(super) fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    // Batches list the rows in order, so each search can start where the last one ended.
    options.set_memtable_insert_hint_per_batch(true);
    options
}

fn family(part: &str, store: &StoreOptions, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_format_version(6);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    if part == CONSTELLATIONS {
        // Written once and in the order of their keys, so compaction moves the files without
        // rewriting them: what a flush does not compress stays so. LZ4 has no entropy coder and
        // would leave them 40 % larger.
        options.set_compression_type(DBCompressionType::Zstd);
    }
    if part == POSTINGS {
        blocks.set_block_size(4 << 10);
        blocks.set_bloom_filter(10.0, false);
        options.set_write_buffer_size(store.write_buffer_bytes / 3);
        options.set_merge_operator("earmark.row.1", merge_full, merge_partial);
        // A row emptied by removals is not worth a key.
        options.set_compaction_filter("earmark.empty.1", |_, _, value| {
            if Row::is_empty(value) { CompactionDecision::Remove } else { CompactionDecision::Keep }
        });
    }
    options.set_block_based_table_factory(&blocks);
    options
}

/// Merges parts of a row with its oldest part, or with nothing below them.
#[expect(clippy::unnecessary_wraps, reason = "the type is RocksDB's; None would stop all writes")]
fn merge_full(_: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let rows = existing.into_iter().chain(operands).map(Row::decode);
    Some(Row::merge(rows).without_drops().encode())
}

/// Merges parts of a row that have others below them, so drops must stay.
#[expect(clippy::unnecessary_wraps, reason = "the type is RocksDB's")]
fn merge_partial(_: &[u8], _: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    Some(Row::merge(operands.into_iter().map(Row::decode)).encode())
}
