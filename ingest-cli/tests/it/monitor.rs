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
    let (mut bytes, mut pcm) = (Vec::new(), String::new());
    decode(Input::Path(&testdata(CLIP)), &DecodeOptions::default(), &mut |samples, rate_hz| {
        pcm = format!("{rate_hz}:1");
        #[expect(clippy::cast_possible_truncation, reason = "`as` from float saturates")]
        let sample = |x: &f32| ((x * 32_767.0) as i16).to_le_bytes();
        bytes.extend(samples.iter().flat_map(sample));
        ControlFlow::Continue(())
    })
    .unwrap();
    let mut child = world
        .command(["monitor", "--format", "json", "--pcm", &pcm])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("match_started") && out.contains("\"event\":\"summary\""), "{out}");
}

#[test]
fn a_server_that_is_killed_and_started_again_is_gone_on_with_and_nothing_is_told_twice() {
    let server = Server::start();
    let world = World::at(&server.url).with_catalog();
    let address = server.url.trim_start_matches("http://").to_owned();
    let child = world
        .command(["monitor", "--realtime", "--format", "json", testdata(CLIP).to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(8));
    let index = server.stop();
    thread::sleep(Duration::from_secs(1));
    let _again = Process::start_at(&address, index.path(), &[]);
    let run = Run::new(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let (told, summary) = events(&run);
    assert_eq!(kinds(&told), ["match_started", "match_ended"], "{run:?}");
    let [found] = &summary["matches"].as_array().unwrap()[..] else { panic!("{summary}") };
    assert!(is_about(&found["query_start_s"], 0.0) && is_about(&found["query_end_s"], 30.0));
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
    }
}
