//! `helm/images/build`: what its archives hold, by the OCI's image format, and that it runs with nothing beside it. The
//! programs are those that Cargo has built for tests.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use starling_kube_tests::programs;

use crate::file;

/// Builds one, and unpacks the archive.
fn build(name: &str, folder: &Path) -> (PathBuf, PathBuf) {
    // The script takes it by its name.
    let from = folder.join("programs");
    fs::create_dir_all(&from).unwrap();
    symlink(programs::own(name).canonicalize().unwrap(), from.join(name)).unwrap();
    let mut command = Command::new(file("images/build"));
    command.arg("--programs").arg(&from).arg("--output").arg(folder).arg(name);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let archive = PathBuf::from(printed.split(' ').next().unwrap());
    let layout = folder.join("layout");
    unpack(&archive, &layout);
    (archive, layout)
}

fn unpack(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    assert!(Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(to).status().unwrap().success());
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The blob that a descriptor means, if it is that.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.join("blobs/sha256").join(digest);
    assert_eq!(sha256(&path), digest);
    assert_eq!(Some(fs::metadata(&path).unwrap().len()), descriptor["size"].as_u64());
    path
}

struct Image {
    config: Value,
    layer: PathBuf,
}

fn image(layout: &Path) -> Image {
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(layout, &index["manifests"][0]));
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let (config, layer) = (json(&blob(layout, &manifest["config"])), blob(layout, layer));
    // What `docker load` reads means the same.
    let docker = json(&layout.join("manifest.json"));
    assert!(layer.ends_with(docker[0]["Layers"][0].as_str().unwrap()));
    assert_eq!(json(&layout.join(docker[0]["Config"].as_str().unwrap())), config);
    Image { config, layer }
}

/// The layer, unpacked, as a container has it.
fn root(image: &Image, folder: &Path) -> PathBuf {
    let tar = folder.join("layer.tar");
    let output = Command::new("gzip").args(["-dc"]).arg(&image.layer).output().unwrap();
    fs::write(&tar, output.stdout).unwrap();
    assert_eq!(image.config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&tar)));
    let root = folder.join("root");
    unpack(&tar, &root);
    root
}

/// The image's program in its root, as its user. To do that is for root: others are taken for it in a namespace, and then
/// have no other users.
fn inside(root: &Path, image: &Image) -> Command {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(if is_root { "chroot" } else { "unshare" });
    if is_root {
        command.arg(format!("--userspec={}", image.config["config"]["User"].as_str().unwrap()));
    } else {
        command.args(["--map-root-user", "chroot"]);
    }
    let program = image.config["config"]["Entrypoint"][0].as_str().unwrap();
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).arg(root).arg(program);
    command
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_server_s_image_is_what_its_dockerfile_says_and_serves_with_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    // Also whoever is not root is to look into it.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let image = image(&build("starlingd", folder.path()).1);
    let root = root(&image, folder.path());
    let mut run = inside(&root, &image);
    run.args(["run"]).env("STARLING_DATA", "/var/lib/starling/data").env("STARLING_LOG_FORMAT", "json");
    run.env("STARLING_HTTP_LISTEN", "127.0.0.1:0").env("STARLING_C2S_DIRECT_TLS_LISTEN", "[]");
    run.env("STARLING_C2S_STARTTLS_LISTEN", r#"["127.0.0.1:0"]"#);
    let mut child = run.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let is_ready = line.contains(r#""message":"Ready""#);
        said.push(line);
        if is_ready {
            // Its log is not read any more: it ends before that matters.
            Command::new("kill").arg(child.id().to_string()).status().unwrap();
            break;
        }
    }
    let status = child.wait().unwrap();
    assert!(said.last().is_some_and(|line| line.contains("Ready")), "{status}: {said:#?}");
    dockerfile_says_the_same_of_the_image_as_the_archive("server", &image);
}

#[test]
fn the_operator_s_image_is_what_its_dockerfile_says_the_same_each_time_and_runs_with_nothing_beside_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::set_permissions(one.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ((first, layout), (second, _)) =
        (build("starling-operator", one.path()), build("starling-operator", two.path()));
    assert_eq!(sha256(&first), sha256(&second));

    let image = image(&layout);
    let root = root(&image, one.path());
    let mut crd = inside(&root, &image);
    crd.arg("crd");
    let definition = fs::read_to_string(file("starling/files/xmppservers.starling.im.yaml")).unwrap();
    assert!(output(crd) == definition);
    // No shell, and nobody else's program.
    let programs: Vec<_> =
        fs::read_dir(root.join("usr/bin")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(programs, ["starling-operator"]);
    assert!(!root.join("bin").exists());
    dockerfile_says_the_same_of_the_image_as_the_archive("operator", &image);
}

/// What a Dockerfile says of the image, in the form of the archive's `config`.
fn of_dockerfile(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let text = text.replace("\\\n", " ");
    // Of the last stage.
    let (_, last) = text.rsplit_once("\nFROM scratch").unwrap();
    let (mut instructions, mut labels) = (BTreeMap::new(), BTreeMap::new());
    for line in last.lines() {
        let Some((instruction, rest)) = line.split_once(' ') else { continue };
        if instruction != "LABEL" {
            instructions.insert(instruction.to_owned(), rest.trim().to_owned());
            continue;
        }
        let mut rest = rest.trim();
        while let Some((name, value)) = rest.split_once("=\"") {
            let (value, more) = value.split_once('"').unwrap();
            labels.insert(name.trim().to_owned(), value.to_owned());
            rest = more;
        }
    }
    (instructions, labels)
}

/// `folder`: where the Dockerfile is.
fn dockerfile_says_the_same_of_the_image_as_the_archive(folder: &str, image: &Image) {
    let config = &image.config["config"];
    let text = fs::read_to_string(file("..").join(folder).join("Dockerfile")).unwrap();
    let (instructions, mut labels) = of_dockerfile(&text);
    let said = |name: &str| instructions.get(name).map(String::as_str);
    assert_eq!(said("USER"), config["User"].as_str());
    assert_eq!(said("WORKDIR"), config["WorkingDir"].as_str());
    assert_eq!(said("ENTRYPOINT"), Some(config["Entrypoint"].to_string().as_str()));
    assert_eq!(said("CMD"), Some(config["Cmd"].to_string().as_str()));
    let ports: Vec<_> =
        config["ExposedPorts"].as_object().unwrap().keys().map(|port| port.replace("/tcp", "")).collect();
    assert_eq!(said("EXPOSE"), Some(ports.join(" ").as_str()));

    let mut expected: BTreeMap<String, String> = serde_json::from_value(config["Labels"].clone()).unwrap();
    // Whoever builds says which.
    for (key, argument) in [("version", "$VERSION"), ("revision", "$REVISION")] {
        let key = format!("org.opencontainers.image.{key}");
        assert_eq!(labels.remove(&key).as_deref(), Some(argument));
        expected.remove(&key).unwrap();
    }
    assert_eq!(labels, expected);
    assert!(text.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))), "{folder}");
}
