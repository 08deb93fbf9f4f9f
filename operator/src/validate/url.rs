//! URLs of Redis and PostgreSQL, taken apart: passwords go into files, everything else into the settings.
//!
//! ```text
//!   redis://user:password@host:6379                                    one server (of several, the first that takes writes)
//!   redis+sentinel://user:password@host:26379,host:26379/primary?sentinel_password=…
//!   redis+cluster://user:password@host:6379,host:6379                  rediss…: the same with TLS
//!   postgres://user:password@host:5432/database?sslmode=verify-full    postgresql://: the same
//! ```
//!
//! Errors never hold a part of the URL that may be secret.

use starling_settings::RedisMode;

use crate::dereference::Hidden;

/// Why a URL cannot be used. Says nothing of what stands in it but names of parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Empty, or not of that form at all.
    #[error("it does not begin with {0}")]
    Scheme(&'static str),
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// A host or a port that cannot be.
    #[error("its host or port number {0} cannot be")]
    Host(usize),
    /// Percent signs that begin no escape, or escapes that are no text.
    #[error("its {0} holds a '%' that begins no escape: write it as %25")]
    Escape(&'static str),
    /// A question mark in the password, or an `@` in a parameter.
    #[error("it holds an '@' behind a '?': write %3F for a '?' in a password, and %40 for an '@' in a parameter")]
    Question,
    /// A line break or another control character.
    #[error("it holds a control character, such as a line break")]
    Control,
    /// More behind the host than is known.
    #[error("it holds the parameter {0:?}, which is not known here: take it out")]
    Parameter(String),
    /// More behind the host than can be.
    #[error("{0}")]
    Path(&'static str),
}

/// Where Redis is, and how one logs in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConnection {
    /// Hosts and ports.
    pub servers: Vec<String>,
    /// What they are.
    pub mode: RedisMode,
    /// The name by which sentinels know the primary.
    pub primary: Option<String>,
    /// The ACL user. Empty: the default user.
    pub username: String,
    /// Its password.
    pub password: Option<Hidden>,
    /// The sentinels' password.
    pub sentinel_password: Option<Hidden>,
    /// Whether connections are encrypted.
    pub tls: bool,
}

/// Where the database is, and how one logs in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConnection {
    /// The URL without the password.
    pub url: String,
    /// The password.
    pub password: Option<Hidden>,
    /// Its port.
    pub port: u16,
}

/// A URL, cut into pieces that are still escaped.
struct Pieces<'a> {
    user: &'a str,
    password: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl RedisConnection {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// If it cannot be used; says why, and shows nothing secret.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        const EXPECTED: &str = "redis://, rediss://, redis+sentinel:// or redis+cluster://";
        let url = checked(url)?;
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme(EXPECTED))?;
        let (mode, tls) = match scheme {
            "redis" => (RedisMode::Standalone, false),
            "rediss" => (RedisMode::Standalone, true),
            "redis+sentinel" => (RedisMode::Sentinel, false),
            "rediss+sentinel" => (RedisMode::Sentinel, true),
            "redis+cluster" => (RedisMode::Cluster, false),
            "rediss+cluster" => (RedisMode::Cluster, true),
            _ => return Err(UrlError::Scheme(EXPECTED)),
        };
        let pieces = Pieces::cut(rest)?;
        let port = if mode == RedisMode::Sentinel { 26379 } else { 6379 };
        let servers = hosts(pieces.hosts, port)?.into_iter().map(|host| host.to_string()).collect();
        let mut sentinel_password = None;
        for (name, value) in &pieces.parameters {
            match (*name, mode) {
                ("sentinel_password", RedisMode::Sentinel) => {
                    sentinel_password = Some(Hidden::new(unescaped(value, "sentinel_password")?));
                }
                _ => return Err(UrlError::Parameter((*name).to_owned())),
            }
        }
        let primary = match (mode, pieces.path) {
            (RedisMode::Sentinel, "") => {
                return Err(UrlError::Path("it lacks the primary's name: redis+sentinel://host:26379/name"));
            }
            (RedisMode::Sentinel, name) => Some(unescaped(name, "path")?),
            (_, "" | "0") => None,
            _ => return Err(UrlError::Path("it chooses a numbered database, which is not supported: only 0 is")),
        };
        Ok(Self {
            servers,
            mode,
            primary,
            username: unescaped(pieces.user, "user")?,
            password: secret(pieces.password)?,
            sentinel_password: sentinel_password.filter(|password| !password.reveal().is_empty()),
            tls,
        })
    }
}

impl DatabaseConnection {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// If it cannot be used; says why, and shows nothing secret.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        const EXPECTED: &str = "postgres:// or postgresql://";
        let url = checked(url)?;
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let pieces = Pieces::cut(rest.ok_or(UrlError::Scheme(EXPECTED))?)?;
        let hosts = hosts(pieces.hosts, 5432)?;
        let [host] = hosts.as_slice() else {
            return Err(UrlError::Path("it names several hosts: name the one Service that leads to the primary"));
        };
        if pieces.path.is_empty() || pieces.path.contains('/') {
            return Err(UrlError::Path("it lacks the database's name: postgres://user@host:5432/name"));
        }
        if pieces.user.is_empty() {
            return Err(UrlError::Path("it lacks the user: postgres://user@host:5432/name"));
        }
        // Checked, and then left escaped, as they stand in the URL that comes out.
        unescaped(pieces.user, "user")?;
        unescaped(pieces.path, "path")?;
        let mut url = format!("postgres://{}@{host}/{}", pieces.user, pieces.path);
        for (position, (name, value)) in pieces.parameters.iter().enumerate() {
            // Others name files that pods do not have, hold a secret, or are the server's own business.
            let is_mode = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"].contains(value);
            match *name {
                "sslmode" if position == 0 && is_mode => {
                    url.push_str("?sslmode=");
                    url.push_str(value);
                }
                "sslmode" => return Err(UrlError::Path("its sslmode is not one of those of PostgreSQL")),
                name => return Err(UrlError::Parameter(name.to_owned())),
            }
        }
        Ok(Self { url, password: secret(pieces.password)?, port: host.port })
    }
}

impl<'a> Pieces<'a> {
    /// What stands behind `://`.
    fn cut(rest: &'a str) -> Result<Self, UrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            // Else a part of the password would be taken for a parameter, and shown.
            return Err(UrlError::Question);
        }
        // A password with an unescaped `@` or `/` is common, and its meaning plain: hosts hold neither.
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let parameters = query.split('&').filter(|pair| !pair.is_empty());
        let parameters = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        Ok(Self { user, password, hosts, path, parameters })
    }
}

/// A host with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// In brackets if it is an IPv6 address.
    name: String,
    port: u16,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// A line break at the end is what many Secrets have.
fn checked(url: &str) -> Result<&str, UrlError> {
    let url = url.trim_end_matches(['\r', '\n']);
    if url.chars().any(char::is_control) { Err(UrlError::Control) } else { Ok(url) }
}

fn hosts(text: &str, default_port: u16) -> Result<Vec<Host>, UrlError> {
    if text.is_empty() {
        return Err(UrlError::NoHost);
    }
    let parsed = text.split(',').enumerate().map(|(at, text)| host(text, default_port).ok_or(UrlError::Host(at + 1)));
    parsed.collect()
}

fn host(text: &str, default_port: u16) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), port)
        }
        None => {
            let (name, port) = text.find(':').map_or((text, ""), |at| text.split_at(at));
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (Some(name.to_owned()).filter(|name| !name.is_empty() && name.chars().all(is_name))?, port)
        }
    };
    let port = match port {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    Some(Host { name, port })
}

fn secret(text: Option<&str>) -> Result<Option<Hidden>, UrlError> {
    let text = text.map(|text| unescaped(text, "password")).transpose()?;
    if text.as_ref().is_some_and(|text| text.chars().any(|c| matches!(c, '\r' | '\n' | '\0'))) {
        // In a file, the end of the line would be taken for the end of the password.
        return Err(UrlError::Control);
    }
    Ok(text.filter(|text| !text.is_empty()).map(Hidden::new))
}

/// Resolves `%40` and the like.
fn unescaped(text: &str, what: &'static str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(UrlError::Escape(what));
                };
                u8::try_from(high * 16 + low).map_err(|_| UrlError::Escape(what))?
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Escape(what))
}

#[cfg(test)]
mod tests;
