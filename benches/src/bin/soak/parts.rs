//! All parts side by side, and a limit to the whole: a server that answers nobody any more must fail the soak, and not
//! hold it up for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::watch::Memory;
use crate::{Cli, Soak, changes, clips, nonsense, passing, streams, watch};

/// What is known once all parts have come to their end.
#[derive(Default)]
pub(crate) struct Ended {
    /// The ids of the passing tracks that were left.
    pub(crate) kept: BTreeSet<String>,
    /// What the server's process has taken.
    pub(crate) memory: Memory,
}

/// What one part leaves.
enum Left {
    Nothing,
    Kept(BTreeSet<String>),
    Memory(Memory),
}

/// The parts that have not ended, with their names.
#[derive(Default)]
struct Parts {
    running: JoinSet<Result<Left>>,
    names: BTreeMap<Id, String>,
}

impl Parts {
    fn start(&mut self, name: String, part: impl Future<Output = Result<Left>> + Send + 'static) {
        self.names.insert(self.running.spawn(part).id(), name);
    }

    /// Like [`Self::start`], of a part that leaves nothing.
    fn start_plain(
        &mut self,
        name: String,
        part: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.start(name, async { part.await.map(|()| Left::Nothing) });
    }

    /// Waits until all have ended, or one has broken down.
    async fn end(&mut self) -> Result<Ended> {
        let mut ended = Ended::default();
        while let Some(part) = self.running.join_next_with_id().await {
            let (id, left) = part.context("a part of the soak broke down")?;
            let name = self.names.remove(&id).unwrap_or_default();
            match left.with_context(|| format!("{name} broke down"))? {
                Left::Nothing => {}
                Left::Kept(kept) => ended.kept = kept,
                Left::Memory(memory) => ended.memory = memory,
            }
        }
        Ok(ended)
    }
}

/// Runs all parts to their end. `None` if some do not come to it, which is told.
pub(crate) async fn run(cli: &Cli, soak: &Arc<Soak>, pid: u32) -> Result<Option<Ended>> {
    let soak = || Arc::clone(soak);
    let mut parts = Parts::default();
    let (watching, passing) = (watch::watch(soak(), pid), passing::run(soak()));
    parts.start("the watch".to_owned(), async { watching.await.map(Left::Memory) });
    parts.start("passing tracks".to_owned(), async { passing.await.map(Left::Kept) });
    parts.start_plain("changes".to_owned(), changes::run(soak()));
    parts.start_plain("nonsense".to_owned(), nonsense::run(soak()));
    for number in 0..cli.callers {
        parts.start_plain(format!("caller {number}"), clips::run(soak(), number, cli.pause));
    }
    for number in 0..cli.streams {
        parts.start_plain(format!("stream {number}"), streams::run(soak(), number));
    }
    let soak = soak();
    let end = Instant::from_std(soak.end + cli.end_time_max);
    if let Ok(ended) = tokio::time::timeout_at(end, parts.end()).await {
        return ended.map(Some);
    }
    for name in parts.names.values() {
        let limit = humantime::format_duration(cli.end_time_max);
        soak.tally
            .wrong_at_the_end(&format!("{name} had not ended {limit} after the time was over"));
    }
    Ok(None)
}
