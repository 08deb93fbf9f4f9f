//! What hinders a cluster, found before anything is started: packages that are missing, a folder that PostgreSQL cannot enter,
//! ports that are taken.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use starling_cluster::{Layout, postgres};

use super::{
    Said,
    folder::{Folder, is_root},
};

/// Processes of a keeper that was killed are ended by the system, but not at the same moment.
const FREED_WITHIN: Duration = Duration::from_secs(3);

/// Whatever hinders it.
pub(super) fn all(folder: &Folder, layout: &Layout) -> Said<()> {
    packages()?;
    entrance(folder.path())?;
    ports(layout)
}

fn packages() -> Said<()> {
    let mut missing = Vec::new();
    if !postgres::is_installed() {
        missing.push("postgresql");
    }
    if !answers("redis-server") {
        missing.push("redis-server");
    }
    if !answers("setpriv") || !answers("setsid") {
        missing.push("util-linux");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    Err(format!("Missing: {missing}\n    apt-get install --no-install-recommends {missing}"))
}

fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn entrance(folder: &Path) -> Said<()> {
    if !is_root() {
        return Ok(());
    }
    let mut test = Command::new("setpriv");
    test.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", "test", "-x"]).arg(folder);
    match test.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!(
            "The user postgres, as whom PostgreSQL runs for root, cannot enter {}: name another folder by --data",
            folder.display()
        )),
    }
}

fn ports(layout: &Layout) -> Said<()> {
    let deadline = Instant::now() + FREED_WITHIN;
    for (name, port) in layout.fixed_ports() {
        while let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            if Instant::now() > deadline {
                return Err(format!(
                    "Port {port} ({name}): {error}. Another cluster, with other --data? Or a starlingd with \
                     tests/open.toml? This shows whose it is:\n    ss -ltnp 'sport = :{port}'"
                ));
            }
            sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
