//! Streams of real recordings: what begins, goes on and ends in them.

use fingerprint_core::listening::Listener;
use fingerprint_core::matching::live::{
    LiveEvent, LiveMatch, LiveMatcher, LiveOptions, Stretch, StretchKind, Surroundings,
};
use fingerprint_core::params::Params;
use fingerprint_core::peaks::Peak;

use crate::matching::{CATALOG, changed, cut, foreign};

fn around() -> Surroundings<'static> {
    Surroundings { index: &*CATALOG, may_search_changes: &|| true, is_cancelled: &|| false }
}

/// The events of a stream of these peaks, which are handed over every `packet_ms`, and the time at which
/// each was told.
fn events_of(mut peaks: Vec<Peak>, end_ms: u32, packet_ms: u32) -> Vec<(u32, LiveEvent)> {
    peaks.sort_unstable();
    let mut matcher = LiveMatcher::new(LiveOptions::default(), &Params::default(), 0);
    let (mut told, mut events) = (Vec::new(), Vec::new());
    let mut rest = peaks.as_slice();
    for until_ms in (packet_ms..=end_ms).step_by(packet_ms as usize) {
        let count = rest.partition_point(|peak| peak.time_ms < until_ms);
        matcher.push(&rest[..count], until_ms, around(), &mut events).unwrap();
        rest = &rest[count..];
        told.extend(events.drain(..).map(|event| (matcher.heard_ms(), event)));
    }
    matcher.push(rest, 0, around(), &mut events).unwrap();
    matcher.finish(end_ms, around(), &mut events).unwrap();
    told.extend(events.into_iter().map(|event| (end_ms, event)));
    told
}

fn is_about(time_s: f64, expected_s: f64) -> bool {
    (time_s - expected_s).abs() < 1.2
}

/// The matches that began, and those that ended, in their order.
fn matches(events: &[(u32, LiveEvent)]) -> (Vec<LiveMatch>, Vec<LiveMatch>) {
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for (_, event) in events {
        match event {
            LiveEvent::MatchStarted(found) => started.push(found.clone()),
            LiveEvent::MatchEnded(found) => ended.push(found.clone()),
            LiveEvent::MatchUpdated(_) | LiveEvent::Stretch(_) => {}
        }
    }
    (started, ended)
}

/// What ended: track, beginning and end in the stream, place in the track at its beginning.
fn ended(events: &[(u32, LiveEvent)]) -> Vec<(String, f64, f64, f64)> {
    let (_, ended) = matches(events);
    let tell = |LiveMatch { found, .. }: LiveMatch| {
        (
            found.track_id.to_string(),
            found.query_start_s,
            found.query_end_s,
            found.reference_start_s,
        )
    };
    ended.into_iter().map(tell).collect()
}

/// Palace from 5 to 25 s; 4 s of silence; Mountain from 2 to 20 s; 15 s of something else.
fn programme() -> (Vec<Peak>, u32) {
    let mut peaks = cut("palace.ogg", 5_000, 25_000, 0);
    peaks.extend(cut("mountain.flac", 2_000, 20_000, 24_000));
    let other = foreign(15_000).into_iter();
    peaks.extend(other.map(|peak| Peak { time_ms: peak.time_ms + 42_000, ..peak }));
    (peaks, 57_000)
}

#[test]
fn tracks_silence_and_unknown_sound_are_told_as_they_come_and_go() {
    let (peaks, end_ms) = programme();
    let events = events_of(peaks, end_ms, 250);
    let (started, _) = matches(&events);
    assert_eq!(started.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 2]);
    let ended = ended(&events);
    let [palace, mountain] = &ended[..] else { panic!("{ended:?}") };
    assert!(palace.0 == "palace.ogg" && is_about(palace.1, 0.0) && is_about(palace.2, 20.0));
    assert!(is_about(palace.3, 5.0), "{palace:?}");
    assert!(
        mountain.0 == "mountain.flac" && is_about(mountain.1, 24.0) && is_about(mountain.2, 42.0)
    );
    // Told soon.
    let told_ms = |id| {
        let is_it =
            |event: &LiveEvent| matches!(event, LiveEvent::MatchStarted(found) if found.id == id);
        events.iter().find(|(_, event)| is_it(event)).unwrap().0
    };
    assert!(told_ms(1) <= 3_000 && told_ms(2) <= 27_000, "{} {}", told_ms(1), told_ms(2));
    let stretches: Vec<Stretch> = events
        .iter()
        .filter_map(
            |(_, event)| if let LiveEvent::Stretch(told) = event { Some(*told) } else { None },
        )
        .collect();
    let silent: Vec<_> = stretches.iter().filter(|s| s.kind == StretchKind::Silent).collect();
    assert!(silent.len() == 2 && is_about(silent[0].start_s, 20.0), "{silent:?}");
    assert!(is_about(silent[1].end_s.unwrap(), 24.0), "{silent:?}");
    let unknown: Vec<_> = stretches.iter().filter(|s| s.kind == StretchKind::Unknown).collect();
    assert!(unknown.len() == 2 && is_about(unknown[0].start_s, 42.0), "{unknown:?}");
    assert!(is_about(unknown[1].end_s.unwrap(), 57.0), "{unknown:?}");
}

#[test]
fn any_packets_give_the_same_events() {
    let (peaks, end_ms) = programme();
    let plain =
        |events: Vec<(u32, LiveEvent)>| events.into_iter().map(|(_, e)| e).collect::<Vec<_>>();
    let expected = plain(events_of(peaks.clone(), end_ms, 250));
    for packet_ms in [10, 999, 1_000, 7_001, end_ms] {
        assert_eq!(plain(events_of(peaks.clone(), end_ms, packet_ms)), expected, "{packet_ms} ms");
    }
}

#[test]
fn a_short_gap_is_one_match_and_a_track_that_is_left_is_two() {
    let with_gap = |gap_ms: u32| {
        let mut peaks = cut("palace.ogg", 0, 12_000, 0);
        // As if somebody had turned the volume down.
        peaks.extend(cut("palace.ogg", 12_000 + gap_ms, 30_000, 12_000 + gap_ms));
        ended(&events_of(peaks, 30_000, 500))
    };
    let short = with_gap(4_000);
    assert!(
        short.len() == 1 && is_about(short[0].1, 0.0) && is_about(short[0].2, 30.0),
        "{short:?}"
    );
    let long = with_gap(9_000);
    let [first, second] = &long[..] else { panic!("{long:?}") };
    assert!(is_about(first.2, 12.0) && is_about(second.1, 21.0), "{long:?}");
    // Again from its beginning, at once.
    let mut peaks = cut("palace.ogg", 0, 12_000, 0);
    peaks.extend(cut("palace.ogg", 0, 12_000, 12_000));
    let again = ended(&events_of(peaks, 24_000, 500));
    assert!(
        again.len() == 2 && is_about(again[1].1, 12.0) && is_about(again[1].3, 0.0),
        "{again:?}"
    );
}

// The tune of Mountain comes again after ten seconds, so its first seconds fit in two places.
#[test]
fn a_track_that_repeats_itself_is_one_match_in_the_right_place() {
    let mut peaks = cut("palace.ogg", 0, 30_000, 0);
    peaks.extend(cut("mountain.flac", 0, 20_000, 30_000));
    let found = ended(&events_of(peaks, 50_000, 500));
    let [_, mountain] = &found[..] else { panic!("{found:?}") };
    assert_eq!(mountain.0, "mountain.flac");
    assert!(is_about(mountain.1, 30.0) && is_about(mountain.2, 50.0), "{mountain:?}");
    assert!(is_about(mountain.3, 0.0), "{mountain:?}");
}

#[test]
fn tracks_over_each_other_are_matches_over_each_other() {
    let mut peaks = cut("palace.ogg", 0, 25_000, 0);
    peaks.extend(cut("mountain.flac", 0, 15_000, 8_000));
    let mut found = ended(&events_of(peaks, 25_000, 500));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let [mountain, palace] = &found[..] else { panic!("{found:?}") };
    assert!(is_about(mountain.1, 8.0) && is_about(mountain.2, 23.0), "{found:?}");
    assert!(is_about(palace.1, 0.0) && is_about(palace.2, 25.0), "{found:?}");
}

#[test]
fn a_changed_track_is_found_and_followed() {
    let peaks = changed(&cut("cold_day.mp3", 0, 30_000, 0), 1.04, 1.0);
    let end_ms = 28_800;
    let events = events_of(peaks, end_ms, 500);
    let (started, ended) = matches(&events);
    assert_eq!((started.len(), ended.len()), (1, 1));
    let found = &ended[0].found;
    assert!((found.speed - 1.04).abs() < 0.003, "{}", found.speed);
    assert!(is_about(found.query_start_s, 0.0) && is_about(found.query_end_s, 28.5), "{found:?}");
}

#[test]
fn a_match_survives_a_loss_of_audio_and_memory_does_not_grow() {
    let mut listener = Listener::new(LiveOptions::default(), &Params::default(), 1_000_000);
    let mut events = Vec::new();
    let at = |from_ms: u32, to_ms: u32| {
        // The track begins with the stream.
        sorted(cut("palace.ogg", from_ms, to_ms, from_ms + 1_000_000))
    };
    listener.take_peaks(&at(0, 10_000), 1_010_000);
    listener.search(around(), &mut events).unwrap();
    listener.skip_to(1_013_000, around(), &mut events).unwrap();
    listener.take_peaks(&at(13_000, 25_000), 1_025_000);
    listener.search(around(), &mut events).unwrap();
    // Hours of something else.
    let other = foreign(60_000);
    let mut most = 0;
    for minute in 0..20 {
        let from_ms = 1_030_000 + minute * 60_000;
        let mut peaks: Vec<_> =
            other.iter().map(|p| Peak { time_ms: p.time_ms + from_ms, ..*p }).collect();
        peaks.sort_unstable();
        listener.take_peaks(&peaks, from_ms + 60_000);
        listener.search(around(), &mut events).unwrap();
        if minute == 3 {
            most = listener.bytes();
        }
    }
    assert!(listener.bytes() <= 2 * most, "{} instead of {most}", listener.bytes());
    listener.finish(around(), &mut events).unwrap();
    let events: Vec<_> = events.into_iter().map(|event| (0, event)).collect();
    let found = ended(&events);
    let [palace] = &found[..] else { panic!("{found:?}") };
    assert!(is_about(palace.1, 1_000.0) && is_about(palace.2, 1_025.0), "{found:?}");
    let silent = |(_, event): &&(u32, LiveEvent)| matches!(event, LiveEvent::Stretch(stretch) if stretch.kind == StretchKind::Silent && stretch.start_s < 1_020.0);
    assert_eq!(events.iter().find(silent), None, "what is lost is not silent");
}

#[test]
fn what_is_not_known_ends_where_audio_is_lost() {
    let mut listener = Listener::new(LiveOptions::default(), &Params::default(), 0);
    let mut events = Vec::new();
    listener.take_peaks(&sorted(foreign(20_000)), 20_000);
    listener.search(around(), &mut events).unwrap();
    listener.skip_to(40_000, around(), &mut events).unwrap();
    // What follows begins with a pause.
    let later =
        foreign(20_000).into_iter().map(|peak| Peak { time_ms: peak.time_ms + 43_000, ..peak });
    listener.take_peaks(&sorted(later.collect()), 63_000);
    listener.finish(around(), &mut events).unwrap();
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            LiveEvent::Stretch(Stretch { kind, start_s, end_s: Some(end_s) }) => {
                Some((*kind, start_s.round() as u32, end_s.round() as u32))
            }
            _ => None,
        })
        .collect();
    let expected = [
        (StretchKind::Unknown, 0, 20),
        (StretchKind::Silent, 40, 43),
        (StretchKind::Unknown, 43, 63),
    ];
    assert_eq!(told, expected, "{events:?}");
}

#[test]
fn a_short_gap_limit_does_not_cut_a_track_that_goes_on() {
    let options = LiveOptions { gap_max_ms: 2_000, ..LiveOptions::default() };
    let mut matcher = LiveMatcher::new(options, &Params::default(), 0);
    let mut events = Vec::new();
    matcher.push(&sorted(cut("palace.ogg", 0, 28_000, 0)), 28_000, around(), &mut events).unwrap();
    matcher.finish(28_000, around(), &mut events).unwrap();
    let events: Vec<_> = events.into_iter().map(|event| (0, event)).collect();
    assert_eq!(ended(&events).len(), 1, "{events:?}");
}

fn sorted(mut peaks: Vec<Peak>) -> Vec<Peak> {
    peaks.sort_unstable();
    peaks
}
