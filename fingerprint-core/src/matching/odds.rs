//! Score → odds: how many chance alignments as good an index of this size is expected to hold.
//!
//! LAB placeholder
pub(super) const FALSE_ACCEPTS_MAX: f64 = 1e-4;
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds;
impl Odds {
    pub(super) fn new(_index_s: f64, _query_s: f64) -> Self {
        Self
    }
    pub(super) fn score_min(&self, _max: f64) -> f64 {
        std::env::var("SMIN").map_or(8.0, |v| v.parse().unwrap())
    }
    pub(super) fn confidence(&self, _score: f64) -> f64 {
        1.0
    }
    pub(super) fn e_value(&self, _score: f64) -> f64 {
        0.0
    }
}
