//! The ES256 key that signs service-account tokens.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// SubjectPublicKeyInfo of a P-256 key up to the point: the algorithm and the curve.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Signs and checks tokens. The private part cannot be printed.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    id: String,
    random: SystemRandom,
}

/// Why the token key could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// Key generation failed.
    #[error("cannot generate the token key")]
    Generate,
    /// The stored key does not parse.
    #[error("cannot read the stored token key")]
    Load,
    /// Signing failed.
    #[error("cannot sign with the token key")]
    Sign,
}

impl TokenKey {
    /// A new key.
    pub fn generate() -> Result<Self, TokenKeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| TokenKeyError::Generate)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key stored as PEM.
    pub fn load(pem: &str) -> Result<Self, TokenKeyError> {
        let start = pem.find(BEGIN).ok_or(TokenKeyError::Load)? + BEGIN.len();
        let end = pem.find(END).ok_or(TokenKeyError::Load)?;
        let body: String = pem
            .get(start..end)
            .ok_or(TokenKeyError::Load)?
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect();
        Self::from_pkcs8(&STANDARD.decode(body).map_err(|_| TokenKeyError::Load)?)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, TokenKeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| TokenKeyError::Load)?;
        let mut spki = P256_SPKI_PREFIX.to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        // As upstream: the key id is the hash of the DER public key.
        let digest = ring::digest::digest(&ring::digest::SHA256, &spki);
        Ok(Self {
            pair,
            pkcs8: pkcs8.to_vec(),
            id: URL_SAFE_NO_PAD.encode(digest),
            random,
        })
    }

    /// PEM, for the disk only.
    pub(crate) fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.pkcs8);
        let mut pem = format!("{BEGIN}\n");
        for line in body.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str(END);
        pem.push('\n');
        pem
    }

    /// The `kid` of tokens signed with this key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The 64-byte JWS signature of `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenKeyError> {
        let signature = self
            .pair
            .sign(&self.random, message)
            .map_err(|_| TokenKeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }

    /// Whether `signature` is this key's signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }

    /// The coordinates of the public point, unpadded base64url, as a JSON web key wants them.
    pub fn public_coordinates(&self) -> (String, String) {
        let point = self.pair.public_key().as_ref();
        (
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..65]),
        )
    }
}
