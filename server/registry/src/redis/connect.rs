//! New connections: address, TLS, log-in, protocol.

use std::{fmt, path::PathBuf, sync::Arc};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
    aio::{AsyncPushSender, MultiplexedConnection},
};

use super::{RedisConfig, RedisTimes};

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Address {
    /// From `host:port`, an IPv6 address being in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        (!host.is_empty()).then_some(())?;
        Some(Self { host: host.into(), port: port.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why there is no connection. Never holds a password.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// A file that the settings name.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// See there.
        error: std::io::Error,
    },
    /// The server, or the way to it.
    #[error("{0}")]
    Server(#[from] RedisError),
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Connector {
    username: String,
    password_file: PathBuf,
    sentinel_password_file: PathBuf,
    tls: bool,
    ca: PathBuf,
    times: RedisTimes,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Server,
    Sentinel,
}

impl Connector {
    pub(super) fn new(config: &RedisConfig) -> Self {
        Self {
            username: config.username.clone(),
            password_file: config.password_file.clone(),
            sentinel_password_file: config.sentinel_password_file.clone(),
            tls: config.tls,
            ca: config.ca.clone(),
            times: config.times.clone(),
        }
    }

    /// Connects and logs in, within the time for it. Pushes, and the end of the connection, go to `pushes`, without which
    /// it speaks RESP2. Where the server does not know RESP3, nothing is pushed: `false` is returned with it.
    pub(super) async fn open(
        &self,
        address: &Address,
        peer: Peer,
        pushes: Option<Arc<dyn AsyncPushSender>>,
    ) -> Result<(MultiplexedConnection, bool), ConnectError> {
        let Some(pushes) = pushes else {
            return Ok((self.open_with(address, peer, ProtocolVersion::RESP2, None).await?, false));
        };
        match self.open_with(address, peer, ProtocolVersion::RESP3, Some(pushes)).await {
            Ok(connection) => Ok((connection, true)),
            Err(ConnectError::Server(error)) if knows_no_resp3(&error) => {
                Ok((self.open_with(address, peer, ProtocolVersion::RESP2, None).await?, false))
            }
            Err(error) => Err(error),
        }
    }

    async fn open_with(
        &self,
        address: &Address,
        peer: Peer,
        protocol: ProtocolVersion,
        pushes: Option<Arc<dyn AsyncPushSender>>,
    ) -> Result<MultiplexedConnection, ConnectError> {
        // Log-in alone: whoever may do little need not be allowed to name the library.
        let mut login = RedisConnectionInfo::default().set_protocol(protocol).set_skip_set_lib_name();
        let (username, password_file) = match peer {
            Peer::Server => (self.username.as_str(), &self.password_file),
            Peer::Sentinel => ("", &self.sentinel_password_file),
        };
        if !username.is_empty() {
            login = login.set_username(username);
        }
        if !password_file.as_os_str().is_empty() {
            let password = read(password_file).await?;
            login = login.set_password(password.trim_end_matches(['\r', '\n']));
        }
        let host = address.host.to_string();
        let place = if self.tls {
            ConnectionAddr::TcpTls { host, port: address.port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, address.port)
        };
        let info = place.into_connection_info()?.set_redis_settings(login);
        let info = info.clone().set_tcp_settings(info.tcp_settings().clone().set_nodelay(true));
        let client = if self.tls {
            let root_cert = match self.ca.as_os_str().is_empty() {
                true => None,
                false => Some(read(&self.ca).await?.into_bytes()),
            };
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
        } else {
            Client::open(info)?
        };
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.times.connect))
            .set_response_timeout(Some(self.times.response));
        if let Some(pushes) = pushes {
            config = config.set_push_sender(pushes);
        }
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

fn knows_no_resp3(error: &RedisError) -> bool {
    let unknown = || error.detail().is_some_and(|detail| detail.contains("unknown command"));
    error.kind() == ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") || unknown()
}

async fn read(path: &PathBuf) -> Result<String, ConnectError> {
    tokio::fs::read_to_string(path).await.map_err(|error| ConnectError::File { path: path.clone(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_ports() {
        for (text, host, port) in
            [("redis:6379", "redis", 6379), ("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:6379", "::1", 6379)]
        {
            let address = Address::parse(text).unwrap();
            assert_eq!((&*address.host, address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "redis", ":1", "redis:", "redis:99999"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
