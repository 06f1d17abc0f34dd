//! Where a stream has no sound, and where it has some in which no track is heard.

use super::heard::Heard;
use super::{LiveEvent, Stretch, StretchKind};
use crate::peaks::Peak;

/// Quiet that ends a sound, in ms.
const SILENCE_MIN_MS: u32 = 2_000;
/// Sound without any track that is told, in ms.
const UNKNOWN_MIN_MS: u32 = 10_000;

/// What is known of sound and silence.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Since when there is sound, and where its last peak is; it may have ended.
    sound: Option<(u32, u32)>,
    /// Since when no track is heard, if none is, and whether that was told.
    stretch: Option<(Stretch, bool)>,
}

impl Quiet {
    /// Notices where sound begins and ends in the peaks before `now_ms`, which are ascending. A peak
    /// of `silence_db` or more is sound.
    pub(super) fn listen(&mut self, peaks: &[Peak], now_ms: u32, silence_db: f32) {
        let is_known = |peak: &Peak| self.sound.is_some_and(|(_, last_ms)| peak.time_ms <= last_ms);
        let before = peaks.partition_point(is_known);
        for peak in peaks[before..].iter().take_while(|peak| peak.time_ms < now_ms) {
            if peak.level_db() >= silence_db {
                match &mut self.sound {
                    Some((_, last_ms)) if peak.time_ms - *last_ms < SILENCE_MIN_MS => {
                        *last_ms = peak.time_ms;
                    }
                    sound => *sound = Some((peak.time_ms, peak.time_ms)),
                }
            }
        }
    }

    /// Where the latest sound began, whether it lasts or not.
    pub(super) fn sound_from_ms(&self) -> Option<u32> {
        self.sound.map(|(since_ms, _)| since_ms)
    }

    /// Where sound began that still lasts.
    pub(super) fn sound_since_ms(&self, now_ms: u32) -> Option<u32> {
        let (since_ms, last_ms) = self.sound?;
        (now_ms.saturating_sub(last_ms) < SILENCE_MIN_MS).then_some(since_ms)
    }

    /// What comes next has nothing to do with what was.
    pub(super) fn forget_sound(&mut self) {
        self.sound = None;
    }

    /// Tells of silence and of sound without any track. Nothing is known before `from_ms`, nor from
    /// `lost_from_ms` on.
    pub(super) fn tell(
        &mut self,
        now_ms: u32,
        from_ms: u32,
        lost_from_ms: Option<u32>,
        heard: &Heard,
        events: &mut Vec<LiveEvent>,
    ) {
        let (kind, since_ms) = match (self.sound_since_ms(now_ms), self.sound) {
            _ if lost_from_ms.is_some() => (None, now_ms),
            (None, Some((_, last_ms))) => (Some(StretchKind::Silent), last_ms),
            (None, None) => (Some(StretchKind::Silent), from_ms),
            (Some(_), _) if heard.open().next().is_some() => (None, now_ms),
            (Some(since_ms), _) => {
                (Some(StretchKind::Unknown), since_ms.max(heard.ended_ms(now_ms)))
            }
        };
        if self.stretch.is_some_and(|(open, _)| Some(open.kind) != kind) {
            let sound_from_ms = f64::from(self.sound_from_ms().unwrap_or(since_ms));
            let end_ms = match (lost_from_ms, self.stretch.map(|(open, _)| open.kind)) {
                (Some(lost_ms), _) => f64::from(lost_ms),
                (None, Some(StretchKind::Silent)) => sound_from_ms,
                // What has begun was heard from then on.
                (None, _) if kind.is_none() => heard.latest_start_ms(),
                (None, _) => f64::from(since_ms),
            };
            self.close(end_ms, events);
        }
        let Some(kind) = kind else { return };
        let start_s = f64::from(since_ms) / 1e3;
        let (open, is_told) =
            self.stretch.get_or_insert((Stretch { kind, start_s, end_s: None }, false));
        let long_enough_ms = match kind {
            StretchKind::Silent => SILENCE_MIN_MS,
            StretchKind::Unknown => UNKNOWN_MIN_MS,
        };
        if !*is_told && f64::from(now_ms) - open.start_s * 1e3 >= f64::from(long_enough_ms) {
            *is_told = true;
            events.push(LiveEvent::Stretch(*open));
        }
    }

    /// Ends what lasts, with the stream.
    pub(super) fn end(&mut self, end_ms: u32, events: &mut Vec<LiveEvent>) {
        self.close(f64::from(end_ms), events);
    }

    /// Tells the end of a stretch whose beginning was told.
    fn close(&mut self, end_ms: f64, events: &mut Vec<LiveEvent>) {
        if let Some((open, true)) = self.stretch.take() {
            let end_s = Some((end_ms / 1e3).max(open.start_s));
            events.push(LiveEvent::Stretch(Stretch { end_s, ..open }));
        }
    }
}
