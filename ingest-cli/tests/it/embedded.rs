//! Looking after a catalog in a folder: tracks, stats, and who may open it.

use crate::support::{CATALOG_LEN, Server, World, bare_command, testdata};

#[test]
fn tracks_are_listed_shown_and_removed() {
    let world = World::new().with_catalog();
    let list = world.run(["tracks", "list", "--format", "json"]);
    let ids: Vec<_> =
        list.json().iter().map(|t| t["track_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == CATALOG_LEN && ids.is_sorted(), "{ids:?}");
    assert!(ids.iter().any(|id| id == "cold_day"), "{ids:?}");
    assert_eq!(world.run(["tracks", "list", "--format", "json", "--limit", "3"]).json().len(), 3);
    let table = world.run(["tracks", "list"]).stdout;
    assert!(table.contains("Cold Day") && table.contains("0:30.0"), "{table}");

    let shown = world.run(["tracks", "show", "--format", "json", "cold_day", "robot_dity"]);
    let tracks = shown.json();
    assert_eq!(shown.code, 0);
    assert_eq!(
        (&tracks[0]["title"], &tracks[1]["title"]),
        (&"Cold Day".into(), &"Robot Dity".into())
    );
    assert_eq!(tracks[0]["attributes"]["licence"], "CC-BY-SA-3.0");
    assert_eq!(tracks[0]["content_hash"].as_str().unwrap().len(), 64);
    assert!(world.run(["tracks", "show", "cold_day"]).stdout.contains("CC-BY-SA-3.0"));

    let removed =
        world.run(["tracks", "remove", "--format", "json", "cold_day", "gone", "robot_dity"]);
    assert_eq!(removed.code, 1, "one was not there");
    let removed: Vec<_> =
        removed.json().iter().map(|row| row["removed"].as_bool().unwrap()).collect();
    assert_eq!(removed, [true, false, true]);
    let missing = world.run(["tracks", "show", "cold_day"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    let stats = world.run(["stats", "--format", "json"]).json().remove(0);
    assert_eq!(stats["track_count"], CATALOG_LEN - 2);
    assert_eq!(stats["params_digest"].as_str().unwrap().len(), 16);
    assert!(world.run(["stats"]).stdout.contains("tracks            10"));
}

#[test]
fn a_removed_track_never_answers_again() {
    let world = World::new().with_catalog();
    let clip = testdata("clips/cold_day_noisy.mp3");
    assert_eq!(world.run(["match", clip.to_str().unwrap()]).code, 0);
    assert_eq!(world.run(["tracks", "remove", "cold_day"]).code, 0);
    assert_eq!(world.run(["match", clip.to_str().unwrap()]).code, 1);
}

#[test]
fn a_wrong_id_is_refused_before_anything_is_removed() {
    let world = World::new().with_catalog();
    assert_eq!(world.run(["tracks", "remove", "cold_day", " x"]).code, 2);
    assert_eq!(world.run(["tracks", "list", "--format", "json"]).json().len(), CATALOG_LEN);
}

#[test]
fn an_index_in_use_is_told_with_the_command_that_works() {
    let world = World::new().with_catalog();
    let index = world.path("index");
    let server = Server::start();
    let output = bare_command(["stats", "--index", server.index.path().to_str().unwrap()]).output();
    let error = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(
        error.contains("in use") && error.contains("earmark stats --server http://"),
        "{error}"
    );
    // Another index is not in use.
    let other = bare_command(["stats", "--index", index.to_str().unwrap()]).output().unwrap();
    assert!(other.status.success());
}

#[test]
fn the_catalog_comes_from_flag_or_environment() {
    let world = World::new().with_catalog();
    let index = world.path("index");
    let code = |command: &mut std::process::Command| command.output().unwrap().status.code();
    assert_eq!(code(bare_command(["stats"]).env("EARMARK_INDEX", &index)), Some(0));
    assert_eq!(code(&mut bare_command(["stats"])), Some(2));
    let mut flag_wins = world.command(["stats"]);
    assert_eq!(code(flag_wins.env("EARMARK_SERVER", "http://127.0.0.1:1")), Some(0));
    let mut two = bare_command(["stats"]);
    two.env("EARMARK_INDEX", &index).env("EARMARK_SERVER", "http://127.0.0.1:1");
    assert_eq!(code(&mut two), Some(2));
}
