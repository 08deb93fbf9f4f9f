//! `starlingd check …`: looks at a server from outside, as its clients do. Needs no settings, and may run anywhere.

use std::{io, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use starling_stream::connect::{self, ClientOptions, Roots};
use starling_xmpp::jid::Jid;
use tokio::time::timeout;

use super::user;
use crate::{Error, Result};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Log in: STARTTLS, SASL, a resource, and a ping that the server answers.
    LogIn(LogIn),
}

#[derive(Debug, Args)]
pub(super) struct LogIn {
    /// The account: `alice@example.com`.
    jid: String,
    /// The file whose first line is the password. Without it, that is asked for, or is the first line of standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where to connect to, in the place of the account's domain. Without a port: 5222.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// The authorities, as PEM, by which its certificate is believed, in the place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Believe any certificate. The password is then never sent itself: the server has to offer SCRAM.
    #[arg(long, conflicts_with = "ca")]
    any_certificate: bool,
    /// Seconds for all of it.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
}

/// What was found, if it is good.
pub(super) fn run(command: Command) -> Result<String> {
    let Command::LogIn(arguments) = command;
    let (what, limit) = (format!("log-in as {}", arguments.jid), Duration::from_secs(arguments.seconds.into()));
    let options = options(arguments)?;
    let found = super::threads()?.block_on(async { timeout(limit, log_in(&options)).await });
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it takes too long").into();
    found.map_err(late).flatten().map_err(|source| Error::Check { what, source })
}

fn options(arguments: LogIn) -> Result<ClientOptions> {
    let jid = user::address(&arguments.jid)?;
    let failed = |file: &PathBuf, source| Error::Io { what: file.display().to_string(), source };
    let password = match &arguments.password_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|source| failed(file, source))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => user::read_password_once(&jid)?,
    };
    let mut options = ClientOptions::new(Jid::from(jid), password);
    if let Some(server) = &arguments.server {
        let (host, port) = host_and_port(server)?;
        (options.host, options.port) = (Some(host.to_owned()), port);
    }
    if arguments.any_certificate {
        options.roots = Roots::Any;
    } else if let Some(file) = &arguments.ca {
        let pem = std::fs::read(file).map_err(|source| failed(file, source))?;
        let unusable = |why: String| Error::Usage(format!("{}: {why}", file.display()));
        let authorities: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let authorities = authorities.map_err(|error| unusable(error.to_string()))?;
        if authorities.is_empty() {
            return Err(unusable("no certificates in it".to_owned()));
        }
        options.roots = Roots::Custom(authorities);
    }
    Ok(options)
}

/// Of `host`, `host:port`, `[address]:port`, or an IPv6 address alone.
fn host_and_port(server: &str) -> Result<(&str, Option<u16>)> {
    let is_address = server.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !is_address && !server.ends_with(']') => {
            let port = port.parse().map_err(|_| Error::Usage(format!("{server:?}: no port behind the colon")))?;
            (host, Some(port))
        }
        _ => (server, None),
    };
    Ok((host.trim_matches(['[', ']']), port))
}

async fn log_in(options: &ClientOptions) -> std::result::Result<String, crate::error::Source> {
    let mut client = connect::client(options).await?;
    let tls = client.tls_info().map_or_else(String::new, |tls| format!(", by {}", tls.version));
    let found = format!("Logged in as {}{tls}.\n", client.jid());
    let domain = options.jid.domain();
    client.send(&format!("<iq type='get' to='{domain}' id='check'><ping xmlns='urn:xmpp:ping'/></iq>")).await?;
    while let Some(stanza) = client.next().await? {
        let stanza = stanza.as_raw();
        // An error is an answer as well: whoever does not know pings is alive.
        if stanza.name() == "iq" && stanza.attribute("id").as_deref() == Some("check") {
            client.close().await?;
            return Ok(found);
        }
    }
    Err("the server closed the stream, and did not answer a ping".into())
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn a_server_is_a_host_an_address_or_either_with_a_port() {
        for (server, host, port) in [
            ("example.com", "example.com", None),
            ("example.com:15222", "example.com", Some(15222)),
            ("192.0.2.1:5222", "192.0.2.1", Some(5222)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:5222", "2001:db8::1", Some(5222)),
        ] {
            assert_eq!(host_and_port(server).ok(), Some((host, port)), "{server}");
        }
        for server in ["example.com:", "example.com:xmpp", "example.com:70000"] {
            assert!(host_and_port(server).is_err(), "{server}");
        }
    }
}
