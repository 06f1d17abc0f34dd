//! How RocksDB is set up, and how it merges rows.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, MergeOperands, Options};

use super::POSTINGS;
use crate::index::posting::Row;

/// Changes gathered in memory before they are written to files.
const WRITE_BUFFER_BYTES: usize = 64 << 20;

pub(super) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}

pub(super) fn family(part: &str, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    if part == POSTINGS {
        blocks.set_block_size(4 << 10);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES / 2);
        options.set_merge_operator("earmark.row.1", merge_full, merge_partial);
        // A row emptied by removals is not worth a key.
        options.set_compaction_filter("earmark.empty.1", |_, _, value| {
            let empty = Row::default().encode();
            if value == empty.as_slice() {
                rocksdb::CompactionDecision::Remove
            } else {
                rocksdb::CompactionDecision::Keep
            }
        });
    }
    options.set_block_based_table_factory(&blocks);
    options
}

/// Merges a row with everything below it. A damaged part makes the merge fail, which RocksDB
/// reports to whoever reads the row.
fn merge_full(_: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let rows = existing.into_iter().chain(operands).map(Row::decode).collect::<Option<Vec<_>>>()?;
    Some(Row { drops: Vec::new(), ..Row::merge(rows) }.encode())
}

/// Merges parts of a row that have others below them, so drops must stay.
fn merge_partial(_: &[u8], _: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let rows = operands.into_iter().map(Row::decode).collect::<Option<Vec<_>>>()?;
    Some(Row::merge(rows).encode())
}
