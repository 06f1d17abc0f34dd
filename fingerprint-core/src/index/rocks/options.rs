//! How RocksDB is set up.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, Options,
};

use super::{BLOCKS, PARTS};

/// Changes gathered in memory before they are written to files.
const WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Changes that are only in the log, at most.
const LOG_BYTES_MAX: u64 = 256 << 20;
/// RocksDB's own cache: for everything but blocks of postings.
const CACHE_BYTES: usize = 64 << 20;
/// Blocks of postings are about 2.8 KB: each becomes one of RocksDB's own, so that reading one
/// reads nothing else.
const BLOCK_BYTES: usize = 1 << 10;

pub(super) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Its own log: what goes wrong, not what it does.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
    // Families that change little would keep logs of gigabytes, which opening reads again.
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    // All families are in step in files too, so that the number of the last change tells of all.
    options.set_atomic_flush(true);
    options
}

/// All column families, which share a cache. Quiet ones are not compacted in the background.
pub(super) fn families(are_quiet: bool) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    PARTS.into_iter().map(move |part| {
        let mut options = family(part, &cache);
        if are_quiet {
            options.set_disable_auto_compactions(true);
        }
        ColumnFamilyDescriptor::new(part, options)
    })
}

/// For a part that is made anew.
pub(super) fn quiet(part: &str) -> Options {
    let mut options = family(part, &Cache::new_lru_cache(CACHE_BYTES));
    options.set_disable_auto_compactions(true);
    options
}

fn family(part: &str, cache: &Cache) -> Options {
    if part == BLOCKS {
        return blocks();
    }
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_block_based_table_factory(&blocks);
    options
}

/// For postings, in the database and in files that it is to take over.
pub(super) fn blocks() -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    // They are kept by ourselves.
    blocks.disable_cache();
    blocks.set_block_size(BLOCK_BYTES);
    // They are packed already, and never change: segments are merged by ourselves.
    options.set_compression_type(DBCompressionType::None);
    options.set_disable_auto_compactions(true);
    options.set_block_based_table_factory(&blocks);
    options
}
