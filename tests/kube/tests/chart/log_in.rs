//! What `helm test` runs, run: the arguments of its pod, against a `starlingd`.

use std::{net::SocketAddr, path::Path};

use serde_json::Value;
use starling_test_support::Server;

use crate::helm::{Helm, TRIAL, one};

/// The pod's arguments, with a server that is there, and files that are.
async fn arguments(values: &[&str], address: SocketAddr, folder: &Path) -> Vec<String> {
    let all = [&["--set", "server.create=true", "--set-json", TRIAL], values].concat();
    let objects = Helm::alone().await.template("chat", &all).await;
    let arguments = one(&objects, "Pod").pointer("/spec/containers/0/args").unwrap().as_array().unwrap().clone();
    let replace = |argument: &Value| {
        let argument = argument.as_str().unwrap();
        if argument.starts_with("--server=") {
            assert_eq!(argument, "--server=xmpp-c2s.chat.svc:5222");
            format!("--server={address}")
        } else {
            argument.replace("/etc/starling", &folder.display().to_string())
        }
    };
    arguments.iter().map(replace).collect()
}

/// Runs them. Whether that did well, and what was said.
async fn run(server: &Server, values: &[&str], folder: &Path) -> (bool, String) {
    let arguments = arguments(values, server.starttls(), folder).await;
    let output = server.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn helm_test_logs_in_and_fails_where_that_fails() {
    let domains = Server::builder().set("domains", r#"["example.com"]"#);
    let mut server = domains.user("admin@example.com", "s3cret").start().await;
    let pod = tempfile::tempdir().unwrap();
    for folder in ["password", "ca"] {
        std::fs::create_dir(pod.path().join(folder)).unwrap();
    }
    let password = pod.path().join("password/password");
    std::fs::write(&password, "s3cret").unwrap();
    std::fs::copy(server.certificate(), pod.path().join("ca/ca.crt")).unwrap();
    for values in [&[][..], &["--set", "test.caSecret=authority"]] {
        let (good, said) = run(&server, values, pod.path()).await;
        assert!(good && said.starts_with("Logged in as admin@example.com/"), "{said}");
    }
    // With a certificate of its own, the server is to have one that everybody believes.
    let (good, said) = run(&server, &["--set", "server.spec.tls.secretRefs[0].name=example-com"], pod.path()).await;
    assert!(!good && said.contains("invalid peer certificate"), "{said}");
    std::fs::write(&password, "other").unwrap();
    let (good, said) = run(&server, &[], pod.path()).await;
    assert!(!good && said.contains("not-authorized"), "{said}");
    server.kill9();
    assert!(!run(&server, &[], pod.path()).await.0);
}
