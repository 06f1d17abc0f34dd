//! A job that is interrupted, and the one that goes on.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::World;

/// Files of the job: far more than are done before the signal arrives.
const FILE_COUNT: usize = 300;

#[test]
fn an_interrupted_job_keeps_what_it_did_and_the_next_goes_on() {
    let world = World::new();
    let audio = std::fs::read(crate::support::testdata("codecs/pcm_s16.wav")).unwrap();
    std::fs::create_dir(world.path("music")).unwrap();
    for i in 0..FILE_COUNT {
        // Other audio in each file, or they would be one track.
        let mut audio = audio.clone();
        let at = audio.len() - 2 * (i + 1);
        audio[at] ^= 0x55;
        std::fs::write(world.path(&format!("music/{i:03}.wav")), audio).unwrap();
    }
    let music = world.path("music");
    let report = world.path("report.csv");
    let args = ["ingest", "--format", "json", music.to_str().unwrap()];
    let more = ["--jobs", "1", "--report", report.to_str().unwrap()];
    let mut child = world
        .command(args.iter().chain(&more))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once the journal names a file, the job is in full swing.
    let journal = world.path("index.journal");
    let give_up = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&journal).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < give_up, "nothing was written");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let added = summary["added"].as_u64().unwrap();
    assert_eq!(summary["interrupted"], true);
    assert!(added > 0 && added < FILE_COUNT as u64, "{summary}");

    let stats = world.run(["stats", "--format", "json"]).json().remove(0);
    assert_eq!(stats["track_count"], added, "what was told is there");
    let second = world.run(args);
    assert_eq!(second.code, 0);
    assert_eq!(second.counts(["unchanged", "added"]), [added, FILE_COUNT as u64 - added]);
}
