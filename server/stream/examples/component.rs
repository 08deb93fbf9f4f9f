//! An external component (XEP-0114) that answers each message with its own body.
//!
//! `cargo run -p starling-stream --example component -- echo.localhost --secret-file FILE --host 127.0.0.1 --port 15347`

use std::process::ExitCode;

use starling_stream::connect::{ComponentOptions, component};
use starling_xml::{RawElement, escape};

const USAGE: &str = "\
Usage: component DOMAIN --secret-file FILE [OPTIONS]

Connects as an external component, and answers each message with its own body.

Options:
  --secret-file FILE   the secret, on the first line of FILE
  --host HOST          the server (default: 127.0.0.1)
  --port PORT          its port for components (default: 5347)
  --help               this text";

const NAMESPACE: &str = "jabber:component:accept";

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
    match echo(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn echo(options: &ComponentOptions) -> Result<(), starling_stream::Error> {
    let mut stream = component(options).await?;
    eprintln!("connected as {}", options.domain);
    while let Some(stanza) = stream.next().await? {
        if let Some(answer) = answer(stanza.as_raw()) {
            stream.send(&answer).await?;
        }
    }
    Ok(())
}

/// The same body back, unless it is an error: two that answer errors would never stop.
fn answer(stanza: RawElement<'_>) -> Option<String> {
    if !stanza.is("message", NAMESPACE) || stanza.attribute("type").as_deref() == Some("error") {
        return None;
    }
    let (from, to) = (stanza.attribute("from")?, stanza.attribute("to")?);
    let body = stanza.child("body", NAMESPACE)?;
    let mut answer = b"<message from='".to_vec();
    escape::attribute(&to, &mut answer);
    answer.extend_from_slice(b"' to='");
    escape::attribute(&from, &mut answer);
    answer.extend_from_slice(b"' type='");
    escape::attribute(stanza.attribute("type").as_deref().unwrap_or("normal"), &mut answer);
    answer.extend_from_slice(b"'><body>");
    escape::text(&body.text(), &mut answer);
    answer.extend_from_slice(b"</body></message>");
    String::from_utf8(answer).ok()
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<ComponentOptions>, String> {
    let (mut domain, mut secret) = (None, None);
    let (mut host, mut port) = ("127.0.0.1".to_owned(), 5347);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--secret-file" => {
                let file = value()?;
                let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
                secret = Some(text.lines().next().unwrap_or_default().to_owned());
            }
            "--host" => host = value()?,
            "--port" => port = value()?.parse().map_err(|_| "--port needs a port")?,
            _ if argument.starts_with('-') => return Err(format!("{argument} is no option")),
            _ => domain = Some(argument),
        }
    }
    let domain = domain.ok_or("a domain is needed")?;
    Ok(Some(ComponentOptions { domain, secret: secret.ok_or("--secret-file is needed")?, host, port }))
}
