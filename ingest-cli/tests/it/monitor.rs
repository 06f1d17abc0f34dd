//! Streams followed from the command line: files, standard input, a radio station, a server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use fingerprint_core::decode::{DecodeOptions, Input, decode};
use serde_json::Value;

use crate::support::{Process, Run, Server, World, testdata};

const CLIP: &str = "catalog/palace.ogg";

/// The events of a run, and its last line.
fn events(run: &Run) -> (Vec<Value>, Value) {
    let mut lines = run.json();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["event"], "summary", "{run:?}");
    (lines, summary)
}

/// The names of the events without updates.
fn kinds(events: &[Value]) -> Vec<String> {
    let kind = |event: &Value| event["event"].as_str().unwrap().to_owned();
    events.iter().map(kind).filter(|kind| kind != "match_updated").collect()
}

fn is_about(value: &Value, expected: f64) -> bool {
    (value.as_f64().unwrap() - expected).abs() < 1.0
}

/// The bare samples of test audio, and their rate in Hz.
fn bare(name: &str) -> (Vec<u8>, u32) {
    let (mut bytes, mut rate_hz) = (Vec::new(), 0);
    decode(Input::Path(&testdata(name)), &DecodeOptions::default(), &mut |samples, hz| {
        rate_hz = hz;
        #[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
        let sample = |x: &f32| ((x * 32_767.0) as i16).to_le_bytes();
        bytes.extend(samples.iter().flat_map(sample));
        ControlFlow::Continue(())
    })
    .unwrap();
    (bytes, rate_hz)
}

/// Runs the command with these bytes as standard input.
fn piped(world: &World, args: &[&str], bytes: Vec<u8>) -> Run {
    let mut child = world
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(&bytes));
    Run::new(child.wait_with_output().unwrap())
}

#[test]
fn a_file_is_told_as_it_is_read_and_as_a_playlist() {
    let world = World::new().with_catalog();
    let clip = testdata(CLIP);
    let clip = clip.to_str().unwrap();
    let run = world.run(["monitor", "--format", "json", clip]);
    assert_eq!(run.code, 0, "{run:?}");
    let (told, summary) = events(&run);
    assert_eq!(kinds(&told), ["match_started", "match_ended"]);
    let [found] = &summary["matches"].as_array().unwrap()[..] else { panic!("{summary}") };
    assert_eq!(found["title"], "hr-savino-palace");
    assert!(is_about(&found["query_start_s"], 0.0) && is_about(&summary["duration_s"], 30.0));
    assert!(is_about(&summary["recognised_s"], 30.0), "{summary}");
    let human = world.run(["monitor", clip]);
    assert!(human.stdout.contains('▶') && human.stdout.contains(" recognised"), "{human:?}");
    // As it began, as it ended, and in the playlist.
    assert_eq!(human.stdout.matches("hr-savino-palace").count(), 3, "{human:?}");
    // Nothing of the catalog.
    let other = testdata("clips/not_in_catalog.mp3");
    let run = world.run(["monitor", "--format", "json", other.to_str().unwrap()]);
    assert_eq!((run.code, kinds(&events(&run).0)), (1, vec![]), "{run:?}");
}

#[test]
fn a_server_tells_the_same_as_a_folder() {
    let server = Server::start();
    let (remote, local) = (World::at(&server.url).with_catalog(), World::new().with_catalog());
    let clip = testdata(CLIP);
    let args = ["monitor", "--format", "json", clip.to_str().unwrap()];
    let [(of_server, last), (of_folder, expected)] =
        [&remote, &local].map(|world| events(&world.run(args)));
    assert_eq!(last, expected);
    assert_eq!(kinds(&of_server), kinds(&of_folder));
}

#[test]
fn bare_samples_come_through_a_pipe() {
    let world = World::new().with_catalog();
    let (bytes, rate_hz) = bare(CLIP);
    let pcm = format!("{rate_hz}:1");
    let run = piped(&world, &["monitor", "--format", "json", "--pcm", &pcm], bytes);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(kinds(&events(&run).0)[0], "match_started", "{run:?}");
}

#[test]
fn formats_that_need_ffmpeg_are_followed_as_files_and_through_a_pipe() {
    let server = Server::start();
    for world in [World::new().with_catalog(), World::at(&server.url)] {
        for name in ["codecs/ac3.ac3", "codecs/wma.wma"] {
            let path = testdata(name);
            let of_file = world.run(["monitor", "--format", "json", path.to_str().unwrap()]);
            let bytes = std::fs::read(&path).unwrap();
            let of_pipe = piped(&world, &["monitor", "--format", "json", "-"], bytes);
            for run in [of_file, of_pipe] {
                assert!(run.code != 2, "{name}: {run:?}");
                let heard_s = events(&run).1["duration_s"].as_f64().unwrap();
                assert!(heard_s > 5.0, "{name}: {run:?}");
            }
        }
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_is_gone_on_with_and_nothing_is_told_twice() {
    let server = Server::start();
    let world = World::at(&server.url).with_catalog();
    let address = server.url.trim_start_matches("http://").to_owned();
    // Silence, and then music that is known: both are heard again.
    let (music, rate_hz) = bare(CLIP);
    let second_bytes = 2 * usize::try_from(rate_hz).unwrap();
    let path = world.path("stream.pcm");
    let bytes = [&vec![0; 5 * second_bytes], &music[..20 * second_bytes]].concat();
    std::fs::write(&path, bytes).unwrap();
    let (path, pcm) = (path.to_str().unwrap(), format!("{rate_hz}:1"));
    let child = world
        .command(["monitor", "--realtime", "--format", "json", "--pcm", &pcm, path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(12));
    let index = server.stop();
    thread::sleep(Duration::from_secs(1));
    let _again = Process::start_at(&address, index.path(), &[]);
    let run = Run::new(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let (told, summary) = events(&run);
    let expected = ["silence_started", "silence_ended", "match_started", "match_ended"];
    assert_eq!(kinds(&told), expected, "{run:?}");
    let heard_s = |event: &Value| event["heard_s"].as_f64().unwrap();
    assert!(told.is_sorted_by(|a, b| heard_s(a) <= heard_s(b)), "{run:?}");
    let [found] = &summary["matches"].as_array().unwrap()[..] else { panic!("{summary}") };
    assert!(is_about(&found["query_start_s"], 5.0) && is_about(&found["query_end_s"], 25.0));
    for said in ["; connecting again", "the server is back"] {
        assert_eq!(run.stderr.matches(said).count(), 1, "{run:?}");
    }
}

/// Answers one call like a radio station: no length, and then it hangs up.
fn station(body: Vec<u8>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/live.ogg", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut call, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        let _ = call.read(&mut request).unwrap();
        call.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: audio/ogg\r\nicy-name: Test\r\n\r\n")
            .unwrap();
        call.write_all(&body).unwrap();
    });
    (address, thread)
}

#[test]
fn a_station_is_followed_and_called_again_when_it_hangs_up() {
    let world = World::new().with_catalog();
    let (address, thread) = station(std::fs::read(testdata(CLIP)).unwrap());
    let run = world.run(["monitor", "--format", "json", &address]);
    thread.join().unwrap();
    // Nobody answers any more, which is said; what was heard is told nevertheless.
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("hung up; calling again in 1 s"), "{run:?}");
    let (told, summary) = events(&run);
    assert_eq!(kinds(&told)[0], "match_started");
    assert_eq!(summary["matches"][0]["title"], "hr-savino-palace");
}

#[test]
fn a_station_that_only_ffmpeg_could_decode_is_refused_with_a_way_out() {
    let world = World::new().with_catalog();
    let (address, thread) = station(std::fs::read(testdata("codecs/ac3.ac3")).unwrap());
    let run = world.run(["monitor", &address]);
    thread.join().unwrap();
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
    let way_out = format!("ffmpeg -i {address} -f wav - | earmark monitor");
    for said in ["ac3/ac3 is not built in", "only used for whole files", &way_out] {
        assert!(run.stderr.contains(said), "{said}: {run:?}");
    }
    assert!(!run.stderr.contains("install ffmpeg"), "{run:?}");
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_way_out() {
    let world = World::new().with_catalog();
    for (args, said) in [
        (vec!["monitor", "rtsp://x/y"], "ffmpeg -i rtsp://x/y"),
        (vec!["monitor", "http://127.0.0.1:1/x"], "does not answer"),
        (vec!["monitor", "nothing.mp3"], "nothing.mp3"),
        (vec!["monitor", "--realtime"], "--realtime is for files"),
        (vec!["monitor", "--max-gap", "13s", "x"], "2 to 12"),
    ] {
        let run = world.run(args);
        assert!(run.code == 2 && run.stderr.contains(said), "{run:?}");
        assert_eq!(run.stdout, "", "there is nothing to sum up");
    }
}
