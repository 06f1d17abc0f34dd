use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn new_key(name: &str) -> NewKey {
    NewKey { name: name.to_owned(), scopes: [Scope::Match].into(), ..NewKey::default() }
}

#[test]
fn a_key_is_opened_by_its_token_only_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("keys.toml"));
    assert!(matches!(file.read(), Err(KeysError::Missing { .. })));
    assert!(matches!(file.revoke("0123abcd"), Err(KeysError::Missing { .. })));
    let (key, token) = file.create(new_key("a")).unwrap();
    let limited = NewKey {
        rate_per_s: Some(0.5),
        concurrent_max: NonZeroU32::new(3),
        expires: Some(SystemTime::now() + Duration::from_secs(60)),
        scopes: [Scope::Admin, Scope::Ingest].into(),
        ..new_key("b")
    };
    let (other, other_token) = file.create(limited).unwrap();
    assert_eq!(file.read().unwrap(), [key.clone(), other.clone()]);
    assert!(key.is_opened_by(&token) && !key.is_opened_by(&other_token));
    let shown = Token::parse(token.reveal()).unwrap();
    assert!(key.is_opened_by(&shown) && shown.id() == key.id);
    assert!(other.is_valid_at(SystemTime::now()));
    assert!(!other.is_valid_at(SystemTime::now() + Duration::from_secs(61)));

    let text = fs::read_to_string(folder.path().join("keys.toml")).unwrap();
    let secret = token.reveal().rsplit('_').next().unwrap();
    assert!(!text.contains(secret) && text.contains(&key.id), "{text}");
    assert!(!format!("{token:?}").contains(secret));
    let mode = fs::metadata(folder.path().join("keys.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert!(file.revoke("00000000").unwrap().is_none());
    let revoked = file.revoke(&key.id).unwrap().unwrap();
    assert!(!revoked.is_valid_at(SystemTime::now()));
    assert_eq!(file.revoke(&key.id).unwrap().unwrap().revoked, revoked.revoked);
    assert_eq!(file.read().unwrap(), [revoked, other]);
}

#[test]
fn tokens_are_read_strictly() {
    let token = format!("earmark_0123abcd_{}", "0f".repeat(32));
    assert_eq!(Token::parse(&token).unwrap().reveal(), token);
    for bad in [
        "",
        "earmark_",
        "earmark__",
        &token[1..],
        &token[..token.len() - 1],
        &format!("{token}0"),
        &token.to_uppercase(),
        &token.replace("0123abcd", "0123abcg"),
        &token.replace("0f0f", "0fäf"),
    ] {
        assert!(Token::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn what_is_wrong_with_a_file_or_a_new_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let file = KeyFile::new(&path);
    file.create(new_key("a")).unwrap();
    let sound = fs::read_to_string(&path).unwrap();
    let key = &sound[sound.find("[[key]]").unwrap()..];
    for (wrong, told) in [
        (sound.replace("version = 1", "version = 2"), "version 2"),
        (format!("{sound}\n{key}"), "two keys of id"),
        (sound.replace("hash = \"", "hash = \"x"), "hash is none"),
        (sound.replace("\"match\"", "\"all\""), "unknown variant"),
        (sound.replace("scopes = [\"match\"]", "scopes = []"), "scopes is empty"),
        (sound.replace("created = \"", "created = \"x"), "is no time such as"),
        (format!("{sound}rate_per_s = 0.0\n"), "rate_per_s is 0"),
        (format!("{sound}rate = 1\n"), "unknown field"),
    ] {
        fs::write(&path, &wrong).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("keys.toml"), "{told}: {error}");
        assert!(file.create(new_key("b")).is_err(), "a damaged file is not written over");
        assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
    }
    let token = format!("earmark_0123abcd_{}", "0f".repeat(32));
    for mistake in [token.clone(), format!("{sound}{token}"), format!("{sound}name = {token}")] {
        fs::write(&path, mistake).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("line ") && !error.contains("0f0f"), "{error}");
    }
    for (new, told) in [
        (new_key(""), "name"),
        (new_key("a\nb"), "name"),
        (NewKey { scopes: BTreeSet::new(), ..new_key("a") }, "scopes"),
        (NewKey { rate_per_s: Some(f64::NAN), ..new_key("a") }, "rate_per_s"),
    ] {
        let error = KeyFile::new(folder.path().join("new.toml")).create(new).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn keys_made_at_the_same_time_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("keys.toml"));
    std::thread::scope(|scope| {
        for i in 0..8 {
            let file = &file;
            scope.spawn(move || file.create(new_key(&format!("k{i}"))).unwrap());
        }
    });
    assert_eq!(file.read().unwrap().len(), 8);
}

#[test]
fn what_a_link_names_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target.toml"), folder.path().join("keys.toml"));
    KeyFile::new(&target).create(new_key("a")).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    KeyFile::new(&link).create(new_key("b")).unwrap();
    assert_eq!(KeyFile::new(&target).read().unwrap().len(), 2);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}
