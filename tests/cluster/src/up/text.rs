//! What people are told.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use starling_cluster::Cluster;

use super::folder::Folder;

/// The variable by which a detached keeper knows how the cluster is named by whoever started it.
pub(super) const COMMAND: &str = "STARLING_CLUSTER_COMMAND";

/// The command that does something to this cluster.
pub(super) fn command(folder: &Folder, options: &str) -> String {
    match std::env::var(COMMAND) {
        Ok(command) => format!("{command} {options}"),
        Err(_) => folder.command(options),
    }
}

/// How to use it, how to break it.
pub(super) fn ready(folder: &Folder, cluster: &mut Cluster, after: Duration, detached: bool) -> String {
    let data = folder.path().display();
    let program = starling_backends::program("starlingd");
    let program = program.map_or_else(|_| "starlingd".to_owned(), |path| path.display().to_string());
    let mut text = format!("Ready after {:.1} s.\n\n", after.as_secs_f64());
    let mut line = |label: &str, one: &str, two: &str, three: &str| {
        writeln!(text, "  {}", format!("{label:<11}{one:<18}{two:<18}{three}").trim_end()).ok();
    };
    line("", "STARTTLS, plain", "direct TLS", "");
    for number in 0..cluster.instances() {
        let (starttls, tls) = (cluster.starttls(number).to_string(), cluster.direct_tls(number).to_string());
        line(&format!("c2s-{number}"), &starttls, &tls, &metrics(cluster, &format!("c2s-{number}")));
    }
    for name in ["router-0", "router-1"] {
        line(name, "", "", &metrics(cluster, name));
    }
    let postgres = cluster.postgres();
    let (socket, port) = (postgres.socket().display().to_string(), postgres.port());
    let (stop, status) = (command(folder, "--stop"), command(folder, "--status"));
    let stop = if detached { stop } else { format!("ctrl-C, or {stop}") };
    write!(
        text,
        "  redis      redis-cli -p 15379\n  postgres   psql -h {socket} -p {port} -U postgres starling\n\n\
         The domain is localhost, its certificate self-signed, admin@localhost an administrator. Register with any client, or:\n\
         \x20   echo secret1 | {program} user add alice@localhost --config {data}/c2s-0/starling.toml\n\
         Logs:\n    tail -f {data}/*/log\n\
         Break it; --start brings back what is gone, and --restart9, --term, --pause and --resume take the same names:\n\
         \x20   {}\n    {}\n    {status}\n\
         Stop it; the data stay:\n    {stop}\n\n",
        command(folder, "--kill9 c2s-1"),
        command(folder, "--kill9 redis        # or postgres, router-0, …"),
    )
    .ok();
    text
}

fn metrics(cluster: &mut Cluster, name: &str) -> String {
    cluster.http(name).map(|address| format!("http://{address}/metrics")).unwrap_or_default()
}

/// Who runs.
pub(super) fn status(cluster: &mut Cluster) -> String {
    let mut text = String::new();
    for name in cluster.names() {
        let name = name.to_string();
        let state =
            cluster.number(&name).map_or_else(|_| "not running".to_owned(), |number| format!("process {number}"));
        let log = cluster.log_file(&name).map(|log| log.display().to_string()).unwrap_or_default();
        writeln!(text, "{name:<10}{state:<18}{log}").ok();
    }
    text
}

/// Says it to whoever still reads: a cluster does not end because nobody does.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// The same for what it notes while it runs.
pub(super) fn note(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}
