//! Keys and encryption: made and revoked by the command, and used by it against a server that wants them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{Process, Run, Server, World, bare_command, testdata};

const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a key, and gives it.
fn create(world: &World, scope: &str) -> String {
    let keys = world.path("keys.toml");
    let args = ["keys", "create", "--name", "k", "--scope", scope, "--keys"];
    let run = Run::new(bare_command(args).arg(keys).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.stderr.contains(run.stdout.trim()), "the key is on standard output only");
    run.stdout.trim().to_owned()
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let world = World::new();
    let (first, second) = (create(&world, "match"), create(&world, "ingest,admin"));
    let keys = world.path("keys.toml");
    let keys = keys.to_str().unwrap();
    let run = |args: &[&str]| Run::new(bare_command(args).output().unwrap());
    let list = || run(&["keys", "list", "--format", "json", "--keys", keys]);
    let rows = list().json();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["scopes"], serde_json::json!(["ingest", "admin"]));
    for (row, key) in rows.iter().zip([&first, &second]) {
        assert_eq!(row["status"], "valid");
        assert!(key.starts_with(&format!("earmark_{}_", row["key_id"].as_str().unwrap())));
    }
    assert!(!fs::read_to_string(keys).unwrap().contains(&first[17..]));
    // By the key itself, too, for whoever has nothing else.
    assert_eq!(run(&["keys", "revoke", &first, "--keys", keys]).code, 0);
    let revoked = list().json().remove(0);
    assert_eq!(revoked["status"], "revoked");
    let told = run(&["keys", "list", "--keys", keys]).stdout;
    let day = revoked["revoked_at"].as_str().unwrap().split_once('T').unwrap().0.to_owned();
    assert!(told.contains("revoked") && told.matches(&day).count() >= 3, "{told}");
    let missing = run(&["keys", "revoke", "00000000", "--keys", keys]);
    assert!(missing.code == 1 && missing.stderr.contains("no key 00000000"), "{missing:?}");
    for (args, told) in [
        (&["keys", "list", "--keys", "/nowhere/keys"][..], "earmark keys create"),
        (
            &["keys", "create", "--name", "a", "--scope", "all", "--keys", keys],
            "match, ingest and admin",
        ),
        (
            &["keys", "create", "--name", "a", "--scope", "match", "--rate", "0", "--keys", keys],
            "rate_per_s",
        ),
    ] {
        let run = run(args);
        assert!(run.code == 2 && run.stderr.contains(told), "{run:?}");
    }
}

#[test]
fn an_encrypted_server_that_wants_a_key_is_used_like_any_other() {
    let world = World::new();
    let folder = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    world.write("ca.pem", &authority.pem());
    world.write("cert.pem", &leaf.signed_by(&key, &authority).unwrap().pem());
    world.write("key.pem", &key.serialize_pem());
    let token = create(&world, "match,ingest");
    world.write("token", &format!("{token}\n"));
    let tls = ["--tls-cert", &folder("cert.pem"), "--tls-key", &folder("key.pem")];
    let keys = folder("keys.toml");
    let flags = [&tls[..], &["--keys", &keys]].concat();
    let server = Process::start(&world.path("index"), &flags);
    let url = server.url.replace("http://127.0.0.1", "https://localhost");
    let ca = folder("ca.pem");
    let command = |args: &[&str]| {
        let mut command: Command = bare_command(args);
        command
            .args(["--server", &url, "--ca-cert", &ca])
            .env("XDG_STATE_HOME", world.path("state"));
        command
    };
    let run = |mut command: Command| Run::new(command.output().unwrap());
    let with_file = |args: &[&str]| {
        let mut command = command(args);
        command.args(["--key-file", &folder("token")]);
        run(command)
    };
    let with_variable = |args: &[&str]| {
        let mut command = command(args);
        command.env("EARMARK_KEY", &token);
        run(command)
    };
    let clip = testdata("clips/cold_day_noisy.mp3");
    let clip = clip.to_str().unwrap();
    let catalog = testdata("catalog");
    let ingested = with_file(&["ingest", catalog.to_str().unwrap()]);
    assert_eq!(ingested.code, 0, "{ingested:?}");
    assert_eq!(with_variable(&["match", clip]).code, 0);
    assert_eq!(with_variable(&["monitor", clip]).code, 0);
    let refused = with_variable(&["backup", "--list"]);
    assert!(refused.code == 2 && refused.stderr.contains("scope admin"), "{refused:?}");
    let refused = run(command(&["match", clip]));
    assert!(refused.code == 2 && refused.stdout.contains("EARMARK_KEY"), "{refused:?}");

    // What is forgotten most often.
    let run_with = |args: &[&str]| Run::new(bare_command(args).output().unwrap());
    let untrusted = run_with(&["stats", "--server", &url]);
    assert!(untrusted.code == 2 && untrusted.stderr.contains("--ca-cert"), "{untrusted:?}");
    let plain = run_with(&["stats", "--server", &url.replace("https", "http")]);
    assert!(plain.code == 2 && plain.stderr.contains("https"), "{plain:?}");

    let revoke = ["keys", "revoke", &token, "--keys", &folder("keys.toml")];
    assert_eq!(run_with(&revoke).code, 0);
    let begin = Instant::now();
    loop {
        let run = with_variable(&["stats"]);
        if run.code == 2 && run.stderr.contains("revoked") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{run:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a command at a server that wants keys, with one.
fn run_with_key(server: &Server, key: &str, args: &[&str]) -> Run {
    let mut command = bare_command(args);
    Run::new(command.args(["--server", &server.url]).env("EARMARK_KEY", key).output().unwrap())
}

#[test]
fn beyond_the_rate_of_a_key_it_is_waited_as_the_server_says_until_the_timeout() {
    let world = World::new();
    let keys = world.path("keys.toml");
    let keys = keys.to_str().unwrap();
    let args = ["keys", "create", "--name", "slow", "--scope", "match", "--rate", "0.5"];
    let made = Run::new(bare_command(args).args(["--keys", keys]).output().unwrap());
    let server = Server::start_with(&["--keys", keys]);
    let clip = testdata("clips/not_in_catalog.mp3");
    let matched = |more: &[&str]| {
        let args = [&["match", clip.to_str().unwrap()], more].concat();
        run_with_key(&server, made.stdout.trim(), &args)
    };
    // One in two seconds.
    assert_eq!(matched(&[]).code, 1);
    let begin = Instant::now();
    let hasty = matched(&["--timeout", "300ms"]);
    assert!(hasty.code == 2 && hasty.stdout.contains("raise --timeout"), "{hasty:?}");
    for said in ["0.5 requests a second", "it would take longer than 300ms"] {
        assert!(hasty.stdout.contains(said), "{hasty:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "it was waited for longer than allowed");
    assert_eq!(matched(&[]).code, 1);
}

#[test]
fn a_monitor_says_what_key_it_takes_and_keeps_what_was_heard_when_it_is_revoked() {
    let world = World::new();
    let (matching, ingesting) = (create(&world, "match"), create(&world, "ingest"));
    let keys = world.path("keys.toml");
    let server = Server::start_with(&["--keys", keys.to_str().unwrap()]);
    let clip = testdata("catalog/palace.ogg");
    let clip = clip.to_str().unwrap();
    let ingested = run_with_key(&server, &ingesting, &["ingest", clip]);
    assert_eq!(ingested.code, 0, "{ingested:?}");
    let refused = run_with_key(&server, &ingesting, &["monitor", clip]);
    for words in
        ["it takes a key of scope match", "--key-file or EARMARK_KEY", "earmark keys create"]
    {
        assert!(refused.code == 2 && refused.stderr.contains(words), "{words}: {refused:?}");
    }
    let without = run_with_key(&server, "", &["monitor", clip]);
    assert!(without.code == 2 && without.stderr.contains("give a key"), "{without:?}");

    let mut command = bare_command(["monitor", "--realtime", "--format", "json", clip]);
    command.args(["--server", &server.url]).env("EARMARK_KEY", &matching);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Long enough for it to be recognised, too short for a second word about it.
    std::thread::sleep(Duration::from_secs(8));
    let revoke = ["keys", "revoke", &matching, "--keys", keys.to_str().unwrap()];
    assert_eq!(Run::new(bare_command(revoke).output().unwrap()).code, 0);
    let cut_off = Run::new(child.wait_with_output().unwrap());
    assert_eq!(cut_off.code, 2, "{cut_off:?}");
    for words in ["was revoked", "give another key", "earmark keys list"] {
        assert!(cut_off.stderr.contains(words), "{words}: {cut_off:?}");
    }
    let summary = cut_off.json().pop().unwrap();
    let (heard_s, found) = (summary["duration_s"].as_f64().unwrap(), &summary["matches"][0]);
    let end_s = found["query_end_s"].as_f64().unwrap();
    assert!(heard_s < 25.0 && heard_s - end_s < 3.0, "{heard_s} {found}");
}
