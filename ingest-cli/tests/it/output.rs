//! What surrounds the answers: help, completions, manual, closed pipes.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Run, World, bare_command, testdata};

fn run(args: &[&str]) -> Run {
    Run::new(bare_command(args).output().unwrap())
}

#[test]
fn help_documents_exit_codes_and_the_json_contract() {
    let help = run(&["match", "--help"]);
    assert_eq!(help.code, 0);
    for name in ["0 something matched", "reference_offset_s", "too_short", "elapsed_ms"] {
        assert!(help.stdout.contains(name), "{name}: {}", help.stdout);
    }
    assert!(run(&["ingest", "--help"]).stdout.contains("130"));
    assert!(run(&["check", "--help"]).stdout.contains("purgeable_posting_count"));
    assert!(run(&["--help"]).stdout.contains("EARMARK_SERVER"));
    assert_eq!(run(&["no-such-command"]).code, 2);
}

#[test]
fn completions_and_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(script.code == 0 && script.stdout.contains("min-confidence"), "{shell}");
    }
    assert!(run(&["man"]).stdout.contains(".TH earmark"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--dir", folder.path().to_str().unwrap()]).code, 0);
    let page = std::fs::read_to_string(folder.path().join("earmark-match.1")).unwrap();
    assert!(page.contains("reference_offset_s"));
}

#[test]
fn what_decoders_say_is_told_to_those_who_ask_and_never_in_colour_to_a_file() {
    let world = World::new().with_catalog();
    let path = world.path("odd.mp3");
    std::fs::write(&path, [7; 5_000]).unwrap();
    let args = ["match", path.to_str().unwrap()];
    let quiet = world.run(args);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (2, ""), "{quiet:?}");
    let mut asking = world.command(args);
    let asked = Run::new(asking.env("EARMARK_LOG", "symphonia=trace").output().unwrap());
    assert!(asked.stderr.contains("symphonia"), "{asked:?}");
    assert!(!asked.stderr.contains('\u{1b}'), "{asked:?}");
}

#[test]
fn a_reader_that_goes_away_gets_no_complaint_and_no_success() {
    let world = World::new().with_catalog();
    // Far more answers than a pipe holds.
    let clip = testdata("codecs/pcm_u8.wav");
    let args = ["match", "--format", "json"].map(std::ffi::OsStr::new).into_iter();
    let args = args.chain(std::iter::repeat_n(clip.as_os_str(), 400));
    let mut child =
        world.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let run = Run::new(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (141, ""));
}
