//! A test in namespaces of its own: network, mounts, processes. What it starts ends with it, and what it mounts and connects
//! is seen by nobody else and goes with it, however it ends: the kernel sees to that.
//!
//! ```text
//!   test ── setpriv ── unshare ──► the same test again, as the first process of its namespaces
//!     │      (ends with the test)       └─► whatever it starts: killed by the kernel when it ends
//!     └─► temporary folder (TMPDIR of all of them), removed behind them
//! ```

use std::{
    env, fs,
    future::Future,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Stdio},
};

use crate::{process::Folder, programs};

/// Set for the test that runs inside.
const INSIDE: &str = "STARLING_TEST_KUBE_ISOLATED";

/// Runs the body of the test of this name, by which the test's program finds it.
///
/// # Panics
/// If the test fails, or is not root's: then it does not pass in silence.
pub fn isolated<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if env::var_os(INSIDE).is_some() {
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(body());
        return;
    }
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    assert!(is_root, "{test} is for root: it makes networks and mounts, and runs programs as another user");
    // What has to be built is built with the network that there is out here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let programs = runtime.block_on(programs::folder(&programs::CONTROL_PLANE));
    let folder = Folder::temporary();
    // Others than root look into it: PostgreSQL, and the programs of pods.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.arg("--mount-proc").arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    command.env(INSIDE, "1").env("TMPDIR", folder.path()).env("KUBEBUILDER_ASSETS", programs);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    // As what this test says itself: shown if it fails, or if all is to be shown.
    println!("{}", String::from_utf8_lossy(&said));
    assert!(output.status.success(), "{test}: see above; {}", output.status);
}

/// Lets a shell do something that is not to fail.
pub(crate) fn run(script: &str) {
    let output = Command::new("sh").args(["-euc", script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{BufRead as _, BufReader, Read as _},
        path::Path,
    };

    use super::*;

    /// The named pipe by which a test that is killed shows that it was at work.
    const FIFO: &str = "STARLING_TEST_KUBE_FIFO";

    #[test]
    fn a_test_that_is_killed_leaves_nothing() {
        let name = "isolated::tests::a_test_that_is_killed_leaves_nothing";
        if let Some(fifo) = env::var_os(FIFO) {
            isolated(name, async || {
                let fifo = File::options().write(true).open(fifo).unwrap();
                Command::new("sh").args(["-c", "echo $TMPDIR; exec sleep 1000"]).stdout(fifo).status().unwrap();
            });
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(FIFO, &fifo);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(File::open(&fifo).unwrap());
        let mut temporary = String::new();
        said.read_line(&mut temporary).unwrap();
        let temporary = Path::new(temporary.trim_end());
        assert!(temporary.exists());
        child.kill().unwrap();
        // The pipe's last writer was what the test had started.
        assert_eq!(said.read_to_end(&mut Vec::new()).unwrap(), 0);
        // The folder's caretaker has this one last.
        child.stderr.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert!(!temporary.exists());
        child.wait().unwrap();
    }
}
