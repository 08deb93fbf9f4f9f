//! Programs, folders, and the data of a server that was never started: made once in a process, and copied.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use super::{Options, Tls, as_server};

/// A program of the newest PostgreSQL that is there; Debian keeps each version for itself.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let found = versions.filter(|entry| entry.path().join("bin").join(name).exists()).max_by_key(number);
    // Elsewhere it is in the path.
    found.map_or_else(|| PathBuf::from(name), |entry| entry.path().join("bin").join(name))
}

/// Whether this process is root's: files in /proc/self are the process's user's.
pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

pub(super) fn temporary() -> TempDir {
    let folder = tempfile::Builder::new().prefix("starling-postgres-").tempdir().unwrap();
    give(folder.path());
    folder
}

/// The folder as the server finds it at its start.
pub(super) fn prepare(folder: &Path, options: &Options) {
    fs::create_dir_all(folder.join("socket")).unwrap();
    give(folder);
    give(&folder.join("socket"));
    let data = folder.join("data");
    if !data.join("PG_VERSION").exists() {
        let copied = Command::new("cp").arg("-a").arg(template().join("data")).arg(&data).status().unwrap();
        assert!(copied.success());
    }
    let tcp = if options.tls.is_some() { "hostssl" } else { "host" };
    let networks = ["127.0.0.1/32"].into_iter().chain(options.networks.iter().map(String::as_str));
    let tcp = networks.map(|network| format!("{tcp} all all {network} scram-sha-256\n"));
    let access = ["local all all trust\n".to_owned()].into_iter().chain(tcp).collect::<String>();
    write(&data.join("pg_hba.conf"), &access);
    if let Some(Tls { certificate, key }) = &options.tls {
        write(&data.join("server.crt"), certificate);
        write(&data.join("server.key"), key);
    }
}

/// Only the server's user reads it: of keys the server demands that.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    give(file);
}

/// Makes it the server's.
fn give(path: &Path) {
    if !is_root() {
        return;
    }
    static OWNER: OnceLock<(u32, u32)> = OnceLock::new();
    let (user, group) = *OWNER.get_or_init(|| {
        let id = |kind| {
            let output = Command::new("id").args([kind, "postgres"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().expect("there is a user postgres")
        };
        (id("-u"), id("-g"))
    });
    chown(path, Some(user), Some(group)).unwrap();
}

/// The data of a server that was never started.
fn template() -> &'static Path {
    /// With the process, the remover's standard input ends; with that, the folder.
    struct Template(PathBuf, #[allow(dead_code, reason = "held open")] Child);
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let Template(folder, _) = TEMPLATE.get_or_init(|| {
        let folder = temporary().keep();
        let remover = Command::new("sh")
            .args(["-c", "cat >/dev/null; rm -rf -- \"$0\""])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut initdb = as_server(&program("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        // In a folder that the server's user may enter.
        let output = initdb.arg(folder.join("data")).current_dir(&folder).output().unwrap();
        if !output.status.success() {
            std::io::stderr().write_all(&output.stderr).unwrap();
            panic!("initdb failed");
        }
        Template(folder, remover)
    });
    folder
}
