//! The keys that tickets are verified with, as a JWKS (RFC 7517).

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{hmac, signature};
use serde::Deserialize;
use serde_json::Value;

/// How tickets are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037): the functions hold public keys only.
    EdDsa,
    /// HMAC with SHA-256 (RFC 7518): the functions hold the secret too.
    Hs256,
}

impl Algorithm {
    /// The algorithm of that JOSE name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }

    /// Its JOSE name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

/// One key, for one algorithm.
pub(super) enum Key {
    EdDsa(Vec<u8>),
    Hs256(hmac::Key),
}

impl Key {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Hs256(_) => Algorithm::Hs256,
        }
    }

    /// Whether `signature` is this key's for `message`; the comparison takes the same time wherever it fails.
    pub(super) fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        match self {
            Self::EdDsa(public) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, public).verify(message, tag).is_ok()
            }
            Self::Hs256(secret) => hmac::verify(secret, message, tag).is_ok(),
        }
    }
}

/// The keys that are configured, by `kid`. Two live at once while keys are rotated.
pub struct KeySet(HashMap<String, Key>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: an HS256 key is a secret.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    alg: Option<String>,
    x: Option<String>,
    d: Option<String>,
    k: Option<String>,
}

impl KeySet {
    /// Reads a JWKS. Keys of a kind that signs no ticket are left out, as RFC 7517 says in section 5: a backend may
    /// publish all of its keys in one set.
    ///
    /// # Errors
    /// One sentence that says what is wrong, without any part of a key.
    pub fn parse(json: &str) -> Result<Self, String> {
        // The parser's own message could quote a secret.
        let jwks: Jwks = serde_json::from_str(json).map_err(|error| {
            format!("a JWKS, {{\"keys\": […]}} (it does not parse at line {})", error.line())
        })?;
        let mut keys = HashMap::new();
        for (i, jwk) in jwks.keys.into_iter().enumerate() {
            let member = |name: &str| jwk.get(name).and_then(Value::as_str);
            let algorithm = match (member("kty"), member("crv")) {
                (Some("OKP"), Some("Ed25519")) => Algorithm::EdDsa,
                (Some("oct"), _) => Algorithm::Hs256,
                (Some(_), _) => continue,
                (None, _) => return Err(format!("a kty in key {i}")),
            };
            // This parser's message could quote a secret too.
            let jwk: Jwk =
                serde_json::from_value(jwk).map_err(|_| format!("members that are texts in key {i}"))?;
            let kid = jwk.kid.clone().filter(|kid| !kid.is_empty()).ok_or(format!("a kid in key {i}"))?;
            let key = jwk.key(algorithm).map_err(|what| format!("{what} in key {i}"))?;
            if keys.insert(kid, key).is_some() {
                return Err(format!("different kids (that of key {i} stands there twice)"));
            }
        }
        if keys.is_empty() {
            return Err("a JWKS with at least one key of kty OKP with crv Ed25519, or of kty oct".into());
        }
        Ok(Self(keys))
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }
}

impl Jwk {
    fn key(self, algorithm: Algorithm) -> Result<Key, &'static str> {
        match algorithm {
            Algorithm::EdDsa => {
                if self.alg.is_some_and(|alg| alg != "EdDSA") {
                    return Err("alg EdDSA");
                }
                if self.d.is_some() {
                    return Err("the public half only, without d,");
                }
                let public = self.x.as_deref().and_then(base64url).filter(|x| x.len() == 32);
                public.map(Key::EdDsa).ok_or("an x of 32 bytes in base64url")
            }
            Algorithm::Hs256 => {
                if self.alg.is_some_and(|alg| alg != "HS256") {
                    return Err("alg HS256");
                }
                // RFC 7518, 3.2: no shorter than the hash.
                let secret = self.k.as_deref().and_then(base64url).filter(|k| k.len() >= 32);
                secret
                    .map(|k| Key::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &k)))
                    .ok_or("a k of at least 32 bytes in base64url")
            }
        }
    }
}

/// Bytes written in base64url without padding, in their one canonical form.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A digest of `length` bytes, in hexadecimal or base64.
pub(super) fn digest(text: &str, length: usize) -> Option<Vec<u8>> {
    let decoded = hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok()).or_else(|| base64url(text));
    decoded.filter(|bytes| bytes.len() == length)
}
