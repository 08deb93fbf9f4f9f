//! The client's side of SCRAM, from RFC 5802 alone.

use std::num::NonZeroU32;

use aws_lc_rs::{
    digest, hmac,
    pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What a -PLUS mechanism binds to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The type, as in `p=`.
    pub name: &'static str,
    /// What both ends know.
    pub data: Vec<u8>,
}

/// One exchange.
pub struct Scram {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    password: String,
    header: String,
    bound: Vec<u8>,
    bare: String,
    signature: Option<Vec<u8>>,
}

impl Scram {
    /// `mechanism`: its SASL name. Without a binding the flag is `n`.
    pub fn new(mechanism: &str, user: &str, password: &str, binding: Option<&Binding>, authzid: &str) -> Self {
        let (hmac, digest, pbkdf2) = match mechanism.trim_end_matches("-PLUS") {
            "SCRAM-SHA-1" => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA1_FOR_LEGACY_USE_ONLY, PBKDF2_HMAC_SHA1),
            "SCRAM-SHA-256" => (hmac::HMAC_SHA256, &digest::SHA256, PBKDF2_HMAC_SHA256),
            "SCRAM-SHA-512" => (hmac::HMAC_SHA512, &digest::SHA512, PBKDF2_HMAC_SHA512),
            other => panic!("{other} is not SCRAM"),
        };
        let flag = binding.map_or_else(|| "n".to_owned(), |binding| format!("p={}", binding.name));
        let authzid = if authzid.is_empty() { String::new() } else { format!("a={authzid}") };
        let header = format!("{flag},{authzid},");
        let mut bound = header.clone().into_bytes();
        bound.extend(binding.iter().flat_map(|binding| &binding.data));
        let mut nonce = [0; 12];
        aws_lc_rs::rand::fill(&mut nonce).unwrap();
        let bare = format!("n={user},r={}", STANDARD.encode(nonce));
        Self { hmac, digest, pbkdf2, password: password.to_owned(), header, bound, bare, signature: None }
    }

    /// The client's first message.
    #[must_use]
    pub fn first(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Answers the server's first message.
    pub fn answer(&mut self, challenge: &str) -> String {
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
        let (nonce, salt) = (field("r="), STANDARD.decode(field("s=")).unwrap());
        assert!(nonce.starts_with(self.bare.rsplit_once("r=").unwrap().1), "RFC 5802 §5.1: {challenge}");
        let rounds: NonZeroU32 = field("i=").parse().unwrap();
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, rounds, &salt, self.password.as_bytes(), &mut salted);
        let client_key = self.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest, &client_key);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.bound));
        let auth = format!("{},{challenge},{without_proof}", self.bare);
        let signature = self.sign(stored_key.as_ref(), auth.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let server_key = self.sign(&salted, b"Server Key");
        self.signature = Some(self.sign(&server_key, auth.as_bytes()));
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    /// Whether the data of `<success/>` proves that the server knows the account.
    #[must_use]
    pub fn is_proved(&self, data: &str) -> bool {
        let signature = self.signature.as_deref().map(|signature| STANDARD.encode(signature));
        data.strip_prefix("v=").map(str::to_owned) == signature
    }

    fn sign(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, key), data).as_ref().to_vec()
    }
}
