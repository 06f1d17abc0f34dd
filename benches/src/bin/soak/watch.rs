//! What the server's process takes: memory, files, threads. What only ever grows is a leak.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use earmark_benches::daemon::{Taken, look};
use earmark_benches::work::tell;

use crate::Soak;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// Time between two lines of progress.
const TOLD_PERIOD: Duration = Duration::from_secs(60);
/// Below this many looks, 20 minutes, nothing can be said about growth: postings gather in memory until there are two
/// million of them, and both halves of the time must have seen that.
const LOOKS_MIN: usize = 600;
/// How much the most of the second half may lie above that of the first: 10 %, and these.
const GROWTH_MAX: Taken = Taken { resident_kib: 16 << 10, file_count: 16, thread_count: 4 };

/// What was seen, from the beginning to the end.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    looks: Vec<Taken>,
}

/// Looks now and then until the soak ends.
pub(crate) async fn watch(soak: Arc<Soak>, pid: u32) -> Result<Memory> {
    let began = Instant::now();
    let mut told = began;
    let mut memory = Memory::default();
    while soak.goes_on() {
        let taken = look(pid)?;
        memory.looks.push(taken);
        if told.elapsed() >= TOLD_PERIOD {
            told = Instant::now();
            tell(&format!(
                "{} min: {} MiB, {} files, {} threads; {}",
                began.elapsed().as_secs() / 60,
                taken.resident_kib >> 10,
                taken.file_count,
                taken.thread_count,
                soak.tally.line()
            ));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(memory)
}

impl Memory {
    /// Prints what was taken; whether it grew.
    pub(crate) fn report(&self) -> bool {
        if self.looks.len() < LOOKS_MIN {
            tell("whether memory grows cannot be told yet; soak for half an hour or more");
            return false;
        }
        let (first, second) = self.looks.split_at(self.looks.len() / 2);
        let rows = [
            ("MiB", 10, (|taken| taken.resident_kib) as fn(&Taken) -> u64),
            ("files", 0, |taken| taken.file_count),
            ("threads", 0, |taken| taken.thread_count),
        ];
        let mut has_grown = false;
        for (unit, shift, of) in rows {
            let most = |looks: &[Taken]| looks.iter().map(of).max().unwrap_or_default();
            let (before, after) = (most(first), most(second));
            let grows = grows(before, after, of(&GROWTH_MAX));
            let word = if grows { "GROWS" } else { "steady" };
            let (before, after) = (before >> shift, after >> shift);
            tell(&format!(
                "at most {before} {unit} in the first half, {after} in the second; {word}"
            ));
            has_grown |= grows;
        }
        has_grown
    }
}

fn grows(before: u64, after: u64, margin: u64) -> bool {
    after > before + before / 10 + margin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_ever_grows_is_told_from_what_settles() {
        let memory = |of: fn(u64) -> u64| Memory {
            looks: (0..800)
                .map(|i| Taken { resident_kib: of(i), file_count: 40, thread_count: 10 })
                .collect(),
        };
        assert!(memory(|i| (100 << 10) + i * 256).report());
        assert!(!memory(|i| (100 << 10) + i.min(100) * 256 + i % 300 * 64).report());
        let leak = |i: u64| Taken { resident_kib: 1, file_count: 40 + i / 10, thread_count: 9 };
        assert!(Memory { looks: (0..800).map(leak).collect() }.report());
        assert!(!Memory::default().report());
    }
}
