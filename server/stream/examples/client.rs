//! A client in a terminal: logs in, shows what comes, and sends what is typed.
//!
//! `cargo run -p starling-stream --example client -- alice@localhost --password-file FILE --host 127.0.0.1 --port 15222`
//! Each line typed is `ADDRESS TEXT`; the end of the input closes the stream.

use std::path::PathBuf;
use std::process::ExitCode;

use starling_stream::connect::{ClientOptions, ClientStream, Roots, Security, client};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const USAGE: &str = "\
Usage: client JID --password-file FILE [OPTIONS]

Logs in, shows each stanza that comes, and sends each line typed, `ADDRESS TEXT`, as a chat message.

Options:
  --password-file FILE   the password, on the first line of FILE
  --host HOST            connect to HOST instead of the JID's domain
  --port PORT            instead of 5222, or 5223 with direct TLS
  --tls MODE             starttls (default), direct or none
  --pin HEX              believe only the certificate with this SHA-256, whatever its name
  --help                 this text";

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("{reason}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match chat(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn chat(options: &ClientOptions) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = client(options).await?;
    eprintln!("logged in as {}, {}", stream.jid(), stream.tls_info().map_or("without TLS", |info| info.version));
    stream.send("<presence/>").await?;
    let mut typed = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            stanza = stream.next() => match stanza? {
                Some(stanza) => println!("{}", stanza.as_raw().as_str()),
                None => return Ok(()),
            },
            line = typed.next_line() => match line? {
                Some(line) => say(&mut stream, &line).await?,
                None => return Ok(stream.close().await?),
            },
        }
    }
}

async fn say(stream: &mut ClientStream, line: &str) -> Result<(), starling_stream::Error> {
    let Some((to, text)) = line.split_once(' ') else {
        eprintln!("ADDRESS TEXT");
        return Ok(());
    };
    let mut stanza = b"<message type='chat' to='".to_vec();
    starling_xml::escape::attribute(to, &mut stanza);
    stanza.extend_from_slice(b"'><body>");
    starling_xml::escape::text(text, &mut stanza);
    stanza.extend_from_slice(b"</body></message>");
    stream.send(&String::from_utf8_lossy(&stanza)).await
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<ClientOptions>, String> {
    let (mut jid, mut password, mut host, mut port) = (None, None, None, None);
    let (mut security, mut roots) = (Security::StartTls, Roots::Native);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--password-file" => password = Some(first_line(&PathBuf::from(value()?))?),
            "--host" => host = Some(value()?),
            "--port" => port = Some(value()?.parse().map_err(|_| "--port needs a port")?),
            "--tls" => {
                security = match value()?.as_str() {
                    "starttls" => Security::StartTls,
                    "direct" => Security::Direct,
                    "none" => Security::None,
                    other => return Err(format!("--tls {other}: not one of starttls, direct, none")),
                }
            }
            "--pin" => roots = Roots::Pinned(fingerprint(&value()?).ok_or("--pin needs 64 hexadecimal digits")?),
            _ if argument.starts_with('-') => return Err(format!("{argument} is no option")),
            _ => jid = Some(argument.parse().map_err(|error| format!("{argument}: {error}"))?),
        }
    }
    let mut options = ClientOptions::new(jid.ok_or("a JID is needed")?, password.ok_or("--password-file is needed")?);
    (options.host, options.port, options.security, options.roots) = (host, port, security, roots);
    Ok(Some(options))
}

fn first_line(file: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// `openssl x509 -fingerprint -sha256` puts colons between the bytes.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
