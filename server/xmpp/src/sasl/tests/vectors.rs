//! The examples of the standards; that of SHA-512, which no standard has, was computed by another implementation.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

struct Vector {
    mechanism: Mechanism,
    client_nonce: &'static str,
    server_nonce: &'static str,
    salt: &'static str,
    proof: &'static str,
    signature: &'static str,
}

const RFC5802_5: Vector = Vector {
    mechanism: Mechanism::ScramSha1,
    client_nonce: "fyko+d2lbbFgONRv9qkxdawL",
    server_nonce: "3rfcNHYJY1ZVvWVs7j",
    salt: "QSXCR+Q6sek8bf92",
    proof: "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    signature: "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
};

const RFC7677_3: Vector = Vector {
    mechanism: Mechanism::ScramSha256,
    client_nonce: "rOprNGfwEbeRWgbNEkqO",
    server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
    proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

const SHA512: Vector = Vector {
    mechanism: Mechanism::ScramSha512,
    client_nonce: RFC7677_3.client_nonce,
    server_nonce: RFC7677_3.server_nonce,
    salt: RFC7677_3.salt,
    proof: "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
    signature: "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
};

fn check(vector: &Vector) {
    let Vector { mechanism, client_nonce, server_nonce, salt, proof, signature } = vector;
    let hash = mechanism.hash().expect("SCRAM");
    let verifier = Verifier::derive(hash, "pencil", STANDARD.decode(salt).expect("Base64"), 4096);
    let mut kept = Credentials::default();
    match hash {
        Hash::Sha1 => kept.sha1 = Some(verifier),
        Hash::Sha256 => kept.sha256 = Some(verifier),
        Hash::Sha512 => kept.sha512 = Some(verifier),
    }
    let none = ChannelBindings::default();
    let offered = [*mechanism];
    let mut client = client::Exchange::with_nonce(*mechanism, "user", "pencil", client_nonce);

    let first = client.initial().expect("first");
    assert_eq!(first, format!("n,,n=user,r={client_nonce}").into_bytes());
    let (server, _) = start(*mechanism, &context(&offered, &none), &first).expect("started");
    let mut server = server.with_nonce(server_nonce);
    let Ok(Step::Challenge(challenge)) = server.loaded(Some(kept)) else { panic!("a challenge is due") };
    assert_eq!(challenge, format!("r={client_nonce}{server_nonce},s={salt},i=4096").into_bytes());
    let answer = client.challenge(&challenge).expect("an answer");
    assert_eq!(answer, format!("c=biws,r={client_nonce}{server_nonce},p={proof}").into_bytes());
    let Ok(Step::Success { data: Some(data), .. }) = server.respond(&answer) else { panic!("success is due") };
    assert_eq!(data, format!("v={signature}").into_bytes());
    client.success(Some(&data)).expect("the signature");
}

#[test]
fn rfc5802_5_the_example() {
    check(&RFC5802_5);
}

#[test]
fn rfc7677_3_the_example() {
    check(&RFC7677_3);
}

#[test]
fn sha512_as_another_implementation_has_it() {
    check(&SHA512);
}
