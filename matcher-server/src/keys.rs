//! API keys: who may do what, in a file that `earmark keys` writes and the server reads.
//!
//! ```text
//! secret (32 random bytes) ─ BLAKE3 ─▶ hash in the file;  token = "earmark_" id "_" secret, shown once
//! ```
//!
//! The file (TOML, version 1) holds no secrets, only hashes of them. One fast hash is right here, where a slow
//! one would be for passwords: nobody guesses 256 random bits, however many can be tried in a second. It is
//! replaced as a whole, so whoever reads it sees all of a change or nothing.

mod token;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use self::token::Token;

/// Version of the file.
const VERSION: u32 = 1;
const PREAMBLE: &str =
    "# Keys of earmark-server, made and revoked by `earmark keys`. It holds hashes, no secrets.\n";
/// Longest name of a key in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Furthest end of a key: a hundred years.
const EXPIRES_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// Most requests a second that a key can be held to; without a limit there is no end.
const RATE_MAX: f64 = 1e6;
/// Least: one in 1,000 seconds.
const RATE_MIN: f64 = 1e-3;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Matching clips and streams, and looking up a track that was named, and statistics.
    Match,
    /// Adding, changing, listing and removing tracks, and statistics.
    Ingest,
    /// Everything, backups included.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Match, Self::Ingest, Self::Admin];

    /// Its name, in the file and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Ingest => "ingest",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found
            .ok_or_else(|| format!("there is no scope {text:?}; there are match, ingest and admin"))
    }
}

/// What is asked of a new key.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// Whose it is, for people: 1 to 128 bytes.
    pub name: String,
    /// What it allows, at least one.
    pub scopes: BTreeSet<Scope>,
    /// Most requests a second, 0.001 to 1,000,000; a second's worth (at least one) may come at once.
    pub rate_per_s: Option<f64>,
    /// Most requests at a time, streams included.
    pub concurrent_max: Option<NonZeroU32>,
    /// From when on it is no longer accepted.
    pub expires: Option<SystemTime>,
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Names it in logs, lists and when it is revoked: 8 hexadecimal digits. No secret.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    hash: String,
    /// When it was made.
    #[serde(with = "humantime_text")]
    pub created: SystemTime,
    /// From when on it is no longer accepted.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "humantime_text::option")]
    pub expires: Option<SystemTime>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "humantime_text::option")]
    pub revoked: Option<SystemTime>,
    /// Most requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// Most requests at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_max: Option<NonZeroU32>,
}

impl Key {
    /// Whether it is accepted at that time.
    #[must_use]
    pub fn is_valid_at(&self, time: SystemTime) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| time < expires)
    }

    /// Whether a secret is this key's. Takes the same time whatever the secret.
    #[must_use]
    pub fn is_opened_by(&self, token: &Token) -> bool {
        // Comparing with a `blake3::Hash` is constant in time.
        blake3::Hash::from_hex(&self.hash).is_ok_and(|hash| hash == token.hash())
    }
}

/// Why keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// There is no file.
    #[error(
        "keys {}: there is no such file; make the first key with `earmark keys create --keys {} --name NAME --scope admin`",
        path.display(), path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It could not be read or written.
    #[error("keys {}: could not be {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else, who could not read it any more.
    #[error(
        "keys {}: belongs to user {uid}; run the command as that user (sudo -u '#{uid}' earmark keys …) or as root",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It is no file of keys, or of a later release.
    #[error("keys {}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A new key is out of bounds.
    #[error("{0}")]
    Refused(String),
    /// The system has no random numbers.
    #[error("the system gave no random bytes for the secret: {0}")]
    Random(getrandom::Error),
}

/// What stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    #[serde(default, rename = "key", skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Key>,
}

/// The file of keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// That file, which need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// All keys, revoked ones included, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// [`KeysError::Missing`], [`KeysError::File`], [`KeysError::Malformed`].
    pub fn read(&self) -> Result<Vec<Key>, KeysError> {
        let text = fs::read_to_string(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeysError::Missing { path: self.path.clone() },
            _ => self.failed("read", source),
        })?;
        let malformed = |message| KeysError::Malformed { path: self.path.clone(), message };
        let contents: Contents = toml::from_str(&text).map_err(|error| {
            // Not the line itself, which may be a key that was put here by mistake.
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            malformed(format!("line {line}: {}", error.message()))
        })?;
        if contents.version != VERSION {
            return Err(malformed(format!(
                "it is of version {}, this release reads version {VERSION}",
                contents.version
            )));
        }
        let mut ids = BTreeSet::new();
        for key in &contents.keys {
            let id = &key.id;
            if !Token::is_id(id) {
                return Err(malformed(format!(
                    "id {id:?} is none; it has 8 digits of 0-9 and a-f"
                )));
            }
            if !ids.insert(id) {
                return Err(malformed(format!("there are two keys of id {id}")));
            }
            blake3::Hash::from_hex(&key.hash)
                .map_err(|error| malformed(format!("key {id}: hash is none: {error}")))?;
            check(&key.name, &key.scopes, key.rate_per_s)
                .map_err(|text| malformed(format!("key {id}: {text}")))?;
        }
        Ok(contents.keys)
    }

    /// Makes a key, and the file if there is none, which only its owner may then read. The token is in
    /// nobody's hands but the caller's.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn create(&self, new: NewKey) -> Result<(Key, Token), KeysError> {
        check(&new.name, &new.scopes, new.rate_per_s).map_err(KeysError::Refused)?;
        let now = SystemTime::now();
        if let Some(expires) = new.expires
            && !(now..now + EXPIRES_MAX).contains(&whole_seconds(expires))
        {
            let text = "the key would have expired, or outlive a hundred years; choose another time, or none";
            return Err(KeysError::Refused(text.to_owned()));
        }
        self.change(|keys| {
            let token = loop {
                let token = Token::generate().map_err(KeysError::Random)?;
                if keys.iter().all(|key| key.id != token.id()) {
                    break token;
                }
            };
            let key = Key {
                id: token.id().to_owned(),
                name: new.name,
                scopes: new.scopes,
                hash: token.hash().to_hex().to_string(),
                created: whole_seconds(SystemTime::now()),
                expires: new.expires.map(whole_seconds),
                revoked: None,
                rate_per_s: new.rate_per_s,
                concurrent_max: new.concurrent_max,
            };
            keys.push(key.clone());
            Ok((key, token))
        })
    }

    /// Revokes a key; it stays in the file, so that logs can be understood. `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// [`KeysError`].
    pub fn revoke(&self, id: &str) -> Result<Option<Key>, KeysError> {
        if !self.path.exists() {
            return Err(KeysError::Missing { path: self.path.clone() });
        }
        self.change(|keys| {
            let found = keys.iter_mut().find(|key| key.id == id);
            Ok(found.map(|key| {
                key.revoked.get_or_insert_with(|| whole_seconds(SystemTime::now()));
                key.clone()
            }))
        })
    }

    /// Changes the file, while nobody else does.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Key>) -> Result<T, KeysError>,
    ) -> Result<T, KeysError> {
        // What a link names is changed, not the link.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new("."));
        let failed = |source| self.failed("written", source);
        // The folder is locked and not the file, which is another one after each change.
        let lock = File::open(folder).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut keys = match self.read() {
            Err(KeysError::Missing { .. }) => Vec::new(),
            read => read?,
        };
        let answer = change(&mut keys)?;
        let contents = Contents { version: VERSION, keys };
        let text = toml::to_string(&contents).map_err(|error| failed(io::Error::other(error)))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(PREAMBLE.as_bytes()).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        // Whoever serves as another user was given the right to read the file; it stays so.
        if let Ok(old) = fs::metadata(&path) {
            let new = file.as_file().metadata().map_err(failed)?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))
                    .map_err(|source| KeysError::Owner {
                        path: path.clone(),
                        uid: old.uid(),
                        source,
                    })?;
            }
            file.as_file().set_permissions(old.permissions()).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        lock.sync_all().map_err(failed)?;
        Ok(answer)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> KeysError {
        KeysError::File { path: self.path.clone(), action, source }
    }
}

/// Says what is wrong with a key.
fn check(name: &str, scopes: &BTreeSet<Scope>, rate_per_s: Option<f64>) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "name {name:?} must have 1 to {NAME_BYTES_MAX} bytes, and no control characters"
        ));
    }
    if scopes.is_empty() {
        return Err(
            "scopes is empty; a key needs at least one of match, ingest and admin".to_owned()
        );
    }
    match rate_per_s {
        Some(rate) if !(RATE_MIN..=RATE_MAX).contains(&rate) => {
            Err(format!("rate_per_s is {rate}, it must be {RATE_MIN} to {RATE_MAX}"))
        }
        _ => Ok(()),
    }
}

/// The file has no more.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Times as RFC 3339 in UTC.
mod humantime_text {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_rfc3339(&text).map_err(|error| {
            de::Error::custom(format!("{text:?} is no time such as 2026-01-31T12:00:00Z: {error}"))
        })
    }

    pub(super) mod option {
        use super::{Deserializer, Serializer, SystemTime};

        #[expect(clippy::ref_option, reason = "serde asks for it")]
        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, s),
                None => s.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            super::deserialize(d).map(Some)
        }
    }
}

#[cfg(test)]
mod tests;
