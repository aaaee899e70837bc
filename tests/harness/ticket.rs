//! The issuing side of upload tickets: what an app's backend does, for the local cloud and its tests.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// A private key, and the name under which its other half is known.
pub struct Issuer {
    kid: String,
    key: Key,
}

enum Key {
    Ed25519 { pair: Box<Ed25519KeyPair>, pkcs8: Vec<u8> },
    Hmac(Vec<u8>),
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A private key that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the key is neither an Ed25519 key (PKCS #8) nor a shared secret: {0}")]
pub struct BadKey(String);

impl Issuer {
    /// A new Ed25519 key.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[expect(clippy::expect_used, reason = "without random numbers there are no keys")]
    pub fn new(kid: impl Into<String>) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random numbers");
        Self::from_pkcs8(kid, pkcs8.as_ref()).expect("a key that was just made")
    }

    /// A new secret of 32 bytes.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[expect(clippy::expect_used, reason = "without random numbers there are no keys")]
    pub fn new_hmac(kid: impl Into<String>) -> Self {
        let secret: [u8; 32] = ring::rand::generate(&SystemRandom::new()).expect("random numbers").expose();
        Self::hmac(kid, secret)
    }

    /// An Ed25519 key as PKCS #8.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pkcs8(kid: impl Into<String>, pkcs8: &[u8]) -> Result<Self, BadKey> {
        // OpenSSL writes the first version of PKCS #8, without the public half.
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|error| BadKey(error.to_string()))?;
        Ok(Self { kid: kid.into(), key: Key::Ed25519 { pair: Box::new(pair), pkcs8: pkcs8.to_vec() } })
    }

    /// A secret that both sides know.
    pub fn hmac(kid: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        Self { kid: kid.into(), key: Key::Hmac(secret.into()) }
    }

    /// A key from a private JWK, as [`Issuer::private_jwk`] writes it.
    ///
    /// # Errors
    /// It is none.
    pub fn from_private_jwk(jwk: &Value) -> Result<Self, BadKey> {
        let field = |name: &str| {
            let text = jwk.get(name).and_then(Value::as_str);
            text.ok_or_else(|| BadKey(format!("the field {name} is missing")))
        };
        let bytes = |name: &str| {
            BASE64URL.decode(field(name)?).map_err(|error| BadKey(format!("the field {name}: {error}")))
        };
        let kid = field("kid")?;
        match field("kty")? {
            "oct" => Ok(Self::hmac(kid, bytes("k")?)),
            "OKP" => {
                let (seed, public) = (bytes("d")?, bytes("x")?);
                let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public);
                pair.map_err(|error| BadKey(error.to_string()))?;
                // RFC 8410, section 7: the header of a PKCS #8 document that holds an Ed25519 seed.
                let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap_or_default();
                pkcs8.extend_from_slice(&seed);
                Self::from_pkcs8(kid, &pkcs8)
            }
            other => Err(BadKey(format!("the key type {other}"))),
        }
    }

    /// The key with its secret half, as a JWK.
    pub fn private_jwk(&self) -> Value {
        match &self.key {
            Key::Hmac(_) => self.public_jwk(),
            Key::Ed25519 { pkcs8, .. } => {
                let mut jwk = self.public_jwk();
                // Both versions of the document have the seed at the same place.
                jwk["d"] = json!(BASE64URL.encode(pkcs8.get(16..48).unwrap_or_default()));
                jwk
            }
        }
    }

    /// What the functions need to know, as a JWK.
    pub fn public_jwk(&self) -> Value {
        match &self.key {
            Key::Ed25519 { pair, .. } => json!({
                "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "alg": "EdDSA",
                "x": BASE64URL.encode(pair.public_key().as_ref()),
            }),
            Key::Hmac(secret) => {
                json!({"kty": "oct", "kid": self.kid, "alg": "HS256", "k": BASE64URL.encode(secret)})
            }
        }
    }

    /// The value of `TICKET_KEYS` for this key alone.
    pub fn jwks(&self) -> String {
        json!({"keys": [self.public_jwk()]}).to_string()
    }

    /// A ticket with these claims.
    pub fn issue(&self, claims: &Value) -> String {
        let algorithm = match self.key {
            Key::Ed25519 { .. } => "EdDSA",
            Key::Hmac(_) => "HS256",
        };
        self.sign(&json!({"typ": "JWT", "alg": algorithm, "kid": self.kid}), claims)
    }

    /// A token with whatever header, signed by this key: what a forger with a key of his own makes.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = match &self.key {
            Key::Ed25519 { pair, .. } => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Key::Hmac(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use shared::ticket::{KeySet, authenticate};

    use super::*;

    #[test]
    fn what_is_issued_is_verified_after_a_key_went_through_its_jwk() {
        for issuer in [Issuer::new("a"), Issuer::hmac("a", *b"0123456789abcdef0123456789abcdef")] {
            let issuer = Issuer::from_private_jwk(&issuer.private_jwk()).unwrap();
            let claims = json!({"aud": "files", "sub": "tempcato/a.png", "exp": 1_900_000_000});
            let keys = KeySet::parse(&issuer.jwks()).unwrap();
            let verified = authenticate(&issuer.issue(&claims), &keys).unwrap();
            assert_eq!(verified.sub, "tempcato/a.png");
        }
    }
}
