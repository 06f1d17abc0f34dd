use super::*;
use crate::keys::NewKey;

fn headers(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

fn new_key(scope: Scope) -> NewKey {
    NewKey { name: "k".to_owned(), scopes: [scope].into(), ..NewKey::default() }
}

const MATCH: Need = Need::Scopes(&[Scope::Match]);

#[test]
fn a_key_opens_what_it_is_for_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("keys"));
    let (key, token) = file.create(new_key(Scope::Match)).unwrap();
    let (_, admin) = file.create(new_key(Scope::Admin)).unwrap();
    let (_, expired) = file.create(new_key(Scope::Match)).unwrap();
    let path = folder.path().join("keys");
    let text = std::fs::read_to_string(&path).unwrap() + "expires = '2020-01-01T00:00:00Z'\n";
    std::fs::write(&path, text).unwrap();
    let access = Arc::new(Access::with_keys(file.clone()).unwrap());
    let refused =
        |headers: &HeaderMap, need| access.admit(headers, need, false).unwrap_err().reason;
    let token = headers(token.reveal());

    let admitted = access.admit(&token, MATCH, false).unwrap().caller.unwrap();
    assert_eq!(admitted.id(), key.id);
    assert!(access.admit(&headers(admin.reveal()), MATCH, false).is_ok());
    assert!(access.admit(&HeaderMap::new(), Need::Nothing, false).is_ok());
    assert_eq!(refused(&token, Need::Scopes(&[Scope::Ingest])), Reason::ScopeMissing);
    assert_eq!(refused(&HeaderMap::new(), MATCH), Reason::KeyMissing);
    assert_eq!(refused(&headers("secret"), MATCH), Reason::KeyInvalid);
    assert_eq!(refused(&headers(expired.reveal()), MATCH), Reason::KeyInvalid);
    let forged = format!("earmark_{}_{}", key.id, "0".repeat(64));
    assert_eq!(refused(&headers(&forged), MATCH), Reason::KeyInvalid);

    file.revoke(&key.id).unwrap();
    assert!(admitted.check_valid().is_ok(), "not before the file is read again");
    let changes = access.reload().unwrap();
    assert_eq!(changes, KeyChanges { changed: 1, ..KeyChanges::default() });
    let counts = access.key_counts(SystemTime::now()).unwrap();
    let expected = KeyCounts { valid: 1, expired: 1, revoked: 1, next_end: None };
    assert_eq!(counts, expected);
    assert_eq!(access.reload().unwrap(), KeyChanges::default(), "nothing has changed since");
    assert!(admitted.check_valid().unwrap_err().text.contains("revoked"));
    assert_eq!(refused(&token, MATCH), Reason::KeyInvalid);
    assert_eq!(access.valid_count(), Some(1));

    std::fs::write(folder.path().join("keys"), "no keys").unwrap();
    assert!(access.reload().is_err());
    assert_eq!(access.valid_count(), Some(1), "the keys of before stay");
}

#[test]
fn without_a_file_everybody_may_do_everything() {
    let access = Arc::new(Access::unlimited());
    assert!(access.admit(&HeaderMap::new(), Need::Scopes(&[Scope::Admin]), false).is_ok());
    assert!(!access.needs_key() && access.valid_count().is_none() && access.reload().is_ok());
}

#[test]
fn limits_of_a_key_count_and_go_on_counting_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("keys"));
    let slow = NewKey { rate_per_s: Some(0.01), ..new_key(Scope::Match) };
    let (_, slow) = file.create(slow).unwrap();
    let narrow = NewKey { concurrent_max: NonZeroU32::new(2), ..new_key(Scope::Match) };
    let (_, narrow) = file.create(narrow).unwrap();
    let wide = NewKey { rate_per_s: Some(4.0), ..new_key(Scope::Match) };
    let (_, wide) = file.create(wide).unwrap();
    let access = Arc::new(Access::with_keys(file.clone()).unwrap());

    let slow = headers(slow.reveal());
    assert!(access.admit(&slow, MATCH, false).is_ok());
    file.create(new_key(Scope::Match)).unwrap();
    access.reload().unwrap();
    let refused = access.admit(&slow, MATCH, false).unwrap_err();
    assert_eq!(refused.reason, Reason::KeyLimit);
    let wait = refused.retry_after.unwrap();
    assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100), "{wait:?}");

    let narrow = headers(narrow.reveal());
    let first = access.admit(&narrow, MATCH, false).unwrap();
    let second = access.admit(&narrow, MATCH, false).unwrap();
    assert_eq!(access.admit(&narrow, MATCH, false).unwrap_err().reason, Reason::KeyLimit);
    drop(first);
    assert!(access.admit(&narrow, MATCH, false).is_ok());
    drop(second);

    // A batch counts as many as it has clips.
    let caller = access.admit(&headers(wide.reveal()), MATCH, true).unwrap().caller.unwrap();
    assert!(caller.charge(NonZeroU32::new(4).unwrap()).is_ok());
    assert!(caller.charge(NonZeroU32::new(1).unwrap()).unwrap_err().retry_after.is_some());
    assert!(caller.charge(NonZeroU32::new(5).unwrap()).unwrap_err().retry_after.is_none());
}
