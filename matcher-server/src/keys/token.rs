//! What a client shows: `earmark_` id `_` secret, as in `earmark_0123abcd_` and 64 hexadecimal digits.
//!
//! The id is no secret: it says which key is meant, and may stand in logs. The prefix lets scanners find tokens
//! that were published by mistake.

use std::fmt::{self, Write};

const PREFIX: &str = "earmark_";
const ID_DIGITS: usize = 8;
const SECRET_DIGITS: usize = 64;
/// Nothing that is hashed elsewhere can be taken for a secret.
const CONTEXT: &str = "Earmark 2026-11-27 secret of an API key";

/// A token. Neither `Debug` nor any error shows its secret.
#[derive(Clone)]
pub struct Token {
    text: String,
}

impl Token {
    /// A new one, of the system's random numbers.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; (ID_DIGITS + SECRET_DIGITS) / 2];
        getrandom::fill(&mut bytes)?;
        let (id, secret) = bytes.split_at(ID_DIGITS / 2);
        Ok(Self { text: format!("{PREFIX}{}_{}", hex(id), hex(secret)) })
    }

    /// Reads a token; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_token = Self::is_id(id) && secret.len() == SECRET_DIGITS && is_hex(secret);
        is_token.then(|| Self { text: text.to_owned() })
    }

    /// Whether a text can name a key.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        text.len() == ID_DIGITS && is_hex(text)
    }

    /// Which key it is of.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + ID_DIGITS]
    }

    /// The whole text, to be given to whoever shall use it, and to nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        let secret = &self.text[PREFIX.len() + ID_DIGITS + 1..];
        blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, secret.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({PREFIX}{}_…)", self.id())
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
