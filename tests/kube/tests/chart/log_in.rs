//! What `helm test` runs, run: the arguments of its pod, against a `starlingd`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use starling_kube_tests::programs;

use crate::helm::{Helm, TRIAL, one};

/// A server that ends with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn starlingd(data: &Path) -> Command {
    let mut command = Command::new(programs::own("starlingd"));
    let ours = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("STARLING_"));
    command.env_clear().envs(ours).current_dir(data).env("STARLING_DATA", data).env("STARLING_LOG_FORMAT", "json");
    command.env("STARLING_DOMAINS", r#"["example.com"]"#).env("STARLING_AUTH_ITERATIONS", "4096");
    command.env("STARLING_HTTP_LISTEN", "127.0.0.1:0").env("STARLING_C2S_DIRECT_TLS_LISTEN", "[]");
    command.env("STARLING_C2S_STARTTLS_LISTEN", r#"["127.0.0.1:0"]"#);
    command
}

/// A server with the account `admin@example.com`, and where clients reach it.
fn serve(data: &Path) -> (Server, String) {
    let mut add = starlingd(data).args(["user", "add", "admin@example.com"]).stdin(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(b"s3cret\n").unwrap();
    assert!(add.wait().unwrap().success());
    let child = starlingd(data).arg("run").stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut server = Server(child);
    let mut lines = BufReader::new(server.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut address = None;
    for line in &mut lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["message"] == "Listening" && event["role"] == "c2s-starttls" {
            address = event["address"].as_str().map(str::to_owned);
        }
        if event["message"] == "Ready" {
            break;
        }
    }
    // What it still says is read, so that it is not stopped by a pipe that is full.
    std::thread::spawn(move || lines.for_each(drop));
    (server, address.expect("it says where it listens"))
}

/// The pod's arguments, with a server that is there, and files that are.
async fn arguments(values: &[&str], address: &str, folder: &Path) -> Vec<String> {
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

#[tokio::test]
async fn helm_test_logs_in_and_fails_where_that_fails() {
    let (data, pod) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, address) = serve(data.path());
    for folder in ["password", "ca"] {
        std::fs::create_dir(pod.path().join(folder)).unwrap();
    }
    let password = pod.path().join("password/password");
    std::fs::write(&password, "s3cret").unwrap();
    std::fs::copy(data.path().join("tls/self-signed.crt"), pod.path().join("ca/ca.crt")).unwrap();
    let run = async |values: &[&str]| {
        let arguments = arguments(values, &address, pod.path()).await;
        let output = tokio::process::Command::from(starlingd(pod.path())).args(arguments).output().await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for values in [&[][..], &["--set", "test.caSecret=authority"]] {
        let (good, said) = run(values).await;
        assert!(good && said.starts_with("Logged in as admin@example.com/"), "{said}");
    }
    // With a certificate of its own, the server is to have one that everybody believes.
    let (good, said) = run(&["--set", "server.spec.tls.secretRefs[0].name=example-com"]).await;
    assert!(!good && said.contains("invalid peer certificate"), "{said}");
    std::fs::write(&password, "other").unwrap();
    let (good, said) = run(&[]).await;
    assert!(!good && said.contains("not-authorized"), "{said}");
    drop(server);
    assert!(!run(&[]).await.0);
}
