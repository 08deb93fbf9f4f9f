use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::support::{Made, made};
use crate::tls::{CertificateFiles, Certificates, Status};

/// The status after the next change, or a failure when none comes.
async fn changed(status: &mut watch::Receiver<Arc<Status>>) -> Arc<Status> {
    tokio::time::timeout(Duration::from_secs(20), status.changed()).await.expect("no change was seen").unwrap();
    Arc::clone(&status.borrow_and_update())
}

async fn until(status: &mut watch::Receiver<Arc<Status>>, good: impl Fn(&Status) -> bool) {
    tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| good(status)))
        .await
        .expect("the change was not seen")
        .unwrap();
}

struct Watched {
    certificates: Certificates,
    status: watch::Receiver<Arc<Status>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Watched {
    fn new(files: CertificateFiles) -> Self {
        let certificates = Certificates::open(vec![files]).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        certificates.watch(&tasks, stop.clone()).unwrap();
        Self { status: certificates.status(), certificates, tasks, stop }
    }

    /// The task ends when it is told to, and not before.
    async fn stop(self) {
        assert_eq!(self.tasks.len(), 1);
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await.unwrap();
    }
}

/// What Kubernetes does when a Secret changes: a new folder, and `..data` replaced by one rename.
fn publish(mount: &Path, version: &str, made: &Made) {
    made.write(&mount.join(version));
    symlink(version, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn a_symlink_swap_as_by_kubernetes_is_seen_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path();
    publish(mount, "..1", &made(&["one.example"]));
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    let mut watched = Watched::new(CertificateFiles { certificate: mount.join("tls.crt"), key: mount.join("tls.key") });
    for (version, name) in [("..2", "two.example"), ("..3", "three.example")] {
        publish(mount, version, &made(&[name]));
        let status = changed(&mut watched.status).await;
        assert_eq!(status.certificates[0].names, [name]);
        assert!(status.is_good());
    }
    fs::remove_dir_all(mount.join("..1")).unwrap();
    fs::remove_dir_all(mount.join("..2")).unwrap();
    publish(mount, "..4", &made(&["four.example"]));
    assert_eq!(changed(&mut watched.status).await.certificates[0].names, ["four.example"]);
    watched.stop().await;
}

#[tokio::test]
async fn links_into_another_folder_are_followed_as_are_linked_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("live")).unwrap();
    let archive = made(&["one.example"]).write(&path.join("archive"));
    symlink("../archive/tls.crt", path.join("live/cert.pem")).unwrap();
    symlink("../archive/tls.key", path.join("live/key.pem")).unwrap();
    symlink("live", path.join("current")).unwrap();
    let files = CertificateFiles { certificate: path.join("current/cert.pem"), key: path.join("current/key.pem") };
    let mut watched = Watched::new(files);
    // In place, behind two links: both files are written one after the other, so the pair may be bad in between.
    let two = made(&["two.example"]);
    fs::write(&archive.certificate, &two.certificate).unwrap();
    fs::write(&archive.key, &two.key).unwrap();
    until(&mut watched.status, |status| status.certificates[0].names == ["two.example"] && status.is_good()).await;
    // The folder's own link leads elsewhere.
    let three = made(&["three.example"]).write(&path.join("other"));
    fs::rename(three.certificate, path.join("other/cert.pem")).unwrap();
    fs::rename(three.key, path.join("other/key.pem")).unwrap();
    symlink("other", path.join("next")).unwrap();
    fs::rename(path.join("next"), path.join("current")).unwrap();
    until(&mut watched.status, |status| status.certificates[0].names == ["three.example"]).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_bad_file_is_reported_by_the_watch_and_repaired_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let one = made(&["one.example"]);
    let files = one.write(folder.path());
    let mut watched = Watched::new(files.clone());
    fs::write(&files.key, "garbage").unwrap();
    until(&mut watched.status, |status| !status.is_good()).await;
    assert_eq!(watched.certificates.status().borrow().certificates[0].names, ["one.example"]);
    fs::write(&files.key, &one.key).unwrap();
    until(&mut watched.status, Status::is_good).await;
    watched.stop().await;
}

#[tokio::test]
async fn a_change_between_reading_and_watching_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(vec![made(&["one.example"]).write(folder.path())]).unwrap();
    made(&["two.example"]).write(folder.path());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut status = certificates.status();
    certificates.watch(&tasks, stop.clone()).unwrap();
    assert_eq!(changed(&mut status).await.certificates[0].names, ["two.example"]);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
