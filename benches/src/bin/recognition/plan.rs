//! Which excerpts are cut, and what happens to each: drawn before anything is done, so that it
//! depends on the seed alone.

use earmark_benches::seeded;

use crate::catalog::{Catalog, Recording};
use crate::condition::Condition;

/// Left free at the end of a recording, in seconds: what a change of tempo takes more, and the
/// fading of most recordings.
const END_S: f64 = 1.0;
/// Places that are drawn until one sounds.
const DRAWS_MAX: usize = 50;

/// One excerpt, and what is expected of it.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Unique in a run, e.g. `p_pink0-10_003`; `n_` for held-out recordings.
    pub(crate) id: String,
    /// Place of its row in the table.
    pub(crate) row: usize,
    pub(crate) condition: &'static Condition,
    /// Length of the query in seconds.
    pub(crate) seconds: f64,
    /// Place of its recording in the catalog.
    pub(crate) recording: usize,
    /// That of its recording, see [`Recording::group`].
    pub(crate) group: usize,
    /// Whether the recording is indexed: whether it is to be found.
    pub(crate) is_indexed: bool,
    /// Where it begins in the recording, in seconds.
    pub(crate) offset_s: f64,
}

/// One row of the table: a condition at a length.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) condition: &'static Condition,
    /// Length of its queries in seconds.
    pub(crate) seconds: f64,
}

/// How many are wanted of each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) queries: usize,
    pub(crate) negatives: usize,
}

/// The rows of the table, and their queries.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<Row>,
    pub(crate) queries: Vec<Query>,
}

/// Seconds of the recording that a query of this length takes.
pub(crate) fn taken_s(condition: &Condition, seconds: f64) -> f64 {
    seconds * condition.speed()
}

/// Draws the queries of `conditions` at `lengths_s` (their own if empty).
pub(crate) fn draw(
    catalog: &Catalog,
    conditions: &[&'static Condition],
    lengths_s: &[f64],
    counts: Counts,
    seed: u64,
) -> Plan {
    let mut plan = Plan::default();
    for condition in conditions {
        let lengths_s = if lengths_s.is_empty() { condition.lengths_s } else { lengths_s };
        for &seconds in lengths_s {
            let row = plan.rows.len();
            plan.rows.push(Row { condition, seconds });
            for (is_indexed, places, count) in [
                (true, &catalog.indexed, counts.queries),
                (false, &catalog.held_out, counts.negatives),
            ] {
                let kind = if is_indexed { 'p' } else { 'n' };
                let label = format!("{kind}_{}-{seconds}", condition.name);
                let drawn = draw_excerpts(
                    catalog,
                    places,
                    taken_s(condition, seconds),
                    count,
                    &mut seeded(seed, &label),
                );
                plan.queries.extend(drawn.into_iter().enumerate().map(
                    |(i, (recording, offset_s))| Query {
                        id: format!("{label}_{i:03}"),
                        row,
                        condition,
                        seconds,
                        recording,
                        group: catalog.recordings[recording].group,
                        is_indexed,
                        offset_s,
                    },
                ));
            }
        }
    }
    plan
}

/// Up to `count` excerpts of `taken_s` seconds: recording and offset. Each recording is taken once
/// before one is taken again. Recordings that are too short or silent give none.
fn draw_excerpts(
    catalog: &Catalog,
    places: &[usize],
    taken_s: f64,
    count: usize,
    rng: &mut fastrand::Rng,
) -> Vec<(usize, f64)> {
    let mut order = places.to_vec();
    rng.shuffle(&mut order);
    let mut excerpts = Vec::with_capacity(count);
    let mut failed_in_a_row = 0;
    for place in order.iter().cycle() {
        if excerpts.len() == count || failed_in_a_row == order.len() {
            break;
        }
        match draw_offset(&catalog.recordings[*place], taken_s, rng) {
            Some(offset_s) => {
                excerpts.push((*place, offset_s));
                failed_in_a_row = 0;
            }
            None => failed_in_a_row += 1,
        }
    }
    excerpts
}

/// A place in `recording` from which `taken_s` seconds can be cut of which at least half sound.
pub(crate) fn draw_offset(
    recording: &Recording,
    taken_s: f64,
    rng: &mut fastrand::Rng,
) -> Option<f64> {
    let last_s = recording.duration_s - taken_s - END_S;
    if last_s < 0.0 {
        return None;
    }
    let offset_s = |rng: &mut fastrand::Rng| {
        // To the millisecond, so that what is reported is what was cut.
        let offset_s = (rng.f64() * last_s * 1e3).floor() / 1e3;
        is_sounding(&recording.is_sounding, offset_s, taken_s).then_some(offset_s)
    };
    (0..DRAWS_MAX).find_map(|_| offset_s(rng))
}

fn is_sounding(seconds: &[bool], offset_s: f64, taken_s: f64) -> bool {
    let from = crate::audio::whole(offset_s.floor());
    let to = crate::audio::whole((offset_s + taken_s).ceil()).min(seconds.len());
    let heard = seconds.get(from..to).unwrap_or_default();
    2 * heard.iter().filter(|is| **is).count() >= heard.len() && !heard.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::named;

    fn catalog() -> Catalog {
        let recording = |i: usize, duration_s: f64| Recording {
            is_sounding: (0..=crate::audio::whole(duration_s)).map(|s| s >= 20).collect(),
            ..Recording::made_up(&format!("{i}.wav"), duration_s)
        };
        Catalog {
            recordings: vec![
                recording(0, 60.0),
                recording(1, 8.0),
                recording(2, 90.0),
                recording(3, 50.0),
            ],
            indexed: vec![0, 1, 2],
            held_out: vec![3],
            ..Catalog::default()
        }
    }

    fn drawn(seed: u64) -> Plan {
        let conditions = named(&["clean".to_owned(), "speed-5".to_owned()]).unwrap();
        draw(&catalog(), &conditions, &[], Counts { queries: 5, negatives: 2 }, seed)
    }

    #[test]
    fn queries_fit_their_recordings_and_sound() {
        let plan = drawn(7);
        assert_eq!(plan.rows.len(), 5);
        assert_eq!(plan.queries.len(), 5 * 7);
        for query in &plan.queries {
            let end_s = query.offset_s + taken_s(query.condition, query.seconds);
            assert!(end_s <= catalog().recordings[query.recording].duration_s, "{query:?}");
            // Half of it sounds at least, and recordings begin with 20 silent seconds.
            assert!((query.offset_s + end_s) / 2.0 > 19.0, "{query:?}");
            assert_eq!(query.is_indexed, query.recording != 3);
            assert_ne!(query.recording, 1, "is too short or silent");
        }
        // Of two recordings that can be taken, each is taken in turn.
        let of_row = plan.queries.iter().filter(|query| query.row == 0 && query.is_indexed);
        let first_count = of_row.filter(|query| query.recording == 0).count();
        assert!((2..=3).contains(&first_count), "{first_count} of 5");
        let mut ids: Vec<_> = plan.queries.iter().map(|query| &query.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), plan.queries.len());
    }

    #[test]
    fn the_seed_decides() {
        let offsets = |seed| drawn(seed).queries.iter().map(|q| q.offset_s).collect::<Vec<_>>();
        assert_eq!(offsets(7), offsets(7));
        assert_ne!(offsets(7), offsets(8));
    }
}
