//! What a keeper left behind that was killed, or whose machine was switched off.
//!
//! PostgreSQL's file `postmaster.pid` names a process. After a restart of the machine that number may be somebody else's, and
//! PostgreSQL would not start for fear of it. Whether it is our PostgreSQL shows in where it works: each of its processes works in
//! its data folder, and nobody else does.

use std::{
    fs, io,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Said, folder::Folder};

/// The keeper's end also ends PostgreSQL, which takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until nothing of an earlier cluster runs in the folder, ends what does, and removes what says that it still would.
pub(super) fn clear(folder: &Folder) -> Said<()> {
    let data = folder.path().join("postgres/data");
    let Ok(data) = data.canonicalize() else { return Ok(()) };
    let deadline = Instant::now() + PATIENCE;
    while let Some(first) = working_in(&data).first() {
        if Instant::now() > deadline {
            return Err(format!(
                "PostgreSQL of an earlier cluster, process {first}, still works in {}",
                data.display()
            ));
        }
        for process in working_in(&data) {
            // It may have ended meanwhile.
            Command::new("sh").args(["-c", "kill -s QUIT \"$0\" 2>/dev/null", &process.to_string()]).status().ok();
        }
        sleep(Duration::from_millis(50));
    }
    match fs::remove_file(data.join("postmaster.pid")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", data.display())),
        _ => Ok(()),
    }
}

/// The processes whose working folder this is.
fn working_in(folder: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let works = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
    all.filter(works).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
