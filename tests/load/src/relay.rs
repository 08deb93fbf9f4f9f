//! A bare relay: tokio, sockets, and nothing between. What it costs, nobody gets below.
//!
//! A connection begins with eight bytes: its number, and that of its peer. Bytes then go from one to the other. Whoever
//! has no peer (all ones) gets its own bytes back.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::Failure;

const NOBODY: u32 = u32::MAX;
const BUFFER: usize = 4 * 1024;

/// The writer of one whose peer has not come, and where the peer's goes when it has.
type Half<W> = (W, oneshot::Sender<W>);

/// Who waits, by number.
struct Waiting<W>(Arc<Mutex<HashMap<u32, Half<W>>>>);

impl<W> Clone for Waiting<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W> Default for Waiting<W> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<W> Waiting<W> {
    /// Exchanges writers with a peer that is there, or leaves one's own for the peer, and says where its will come.
    fn meet(&self, own: u32, peer: u32, writer: W) -> Result<W, oneshot::Receiver<W>> {
        // One lock for both: two who come at the same time would wait for each other otherwise.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A peer that has left meanwhile is waited for anew.
        let mut writer = writer;
        if let Some((theirs, their_turn)) = waiting.remove(&peer) {
            match their_turn.send(writer) {
                Ok(()) => return Ok(theirs),
                Err(back) => writer = back,
            }
        }
        let (turn, theirs) = oneshot::channel();
        waiting.insert(own, (writer, turn));
        Err(theirs)
    }
}

/// Serves until it is killed. Prints two addresses: without and with TLS.
pub(crate) async fn serve() -> Result<(), Failure> {
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let tls = TcpListener::bind("127.0.0.1:0").await?;
    let acceptor = acceptor()?;
    println!("{} {}", plain.local_addr()?, tls.local_addr()?);
    io::stdout().flush()?;
    let (waiting, waiting_tls) = (Waiting::default(), Waiting::default());
    loop {
        tokio::select! {
            accepted = plain.accept() => {
                let (tcp, _) = accepted?;
                tokio::spawn(plain_connection(tcp, waiting.clone()));
            }
            accepted = tls.accept() => {
                let (tcp, _) = accepted?;
                let (acceptor, waiting) = (acceptor.clone(), waiting_tls.clone());
                tokio::spawn(async move {
                    tcp.set_nodelay(true).ok();
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        let (reader, writer) = split(stream);
                        relay(reader, writer, waiting).await.ok();
                    }
                });
            }
        }
    }
}

fn acceptor() -> Result<TlsAcceptor, Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn plain_connection(tcp: TcpStream, waiting: Waiting<tokio::net::tcp::OwnedWriteHalf>) {
    tcp.set_nodelay(true).ok();
    let (reader, writer) = tcp.into_split();
    relay(reader, writer, waiting).await.ok();
}

async fn relay<R, W>(mut reader: R, writer: W, waiting: Waiting<W>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (own, peer) = (reader.read_u32().await?, reader.read_u32().await?);
    if peer == NOBODY {
        return copy(reader, writer).await;
    }
    let theirs = match waiting.meet(own, peer, writer) {
        Ok(theirs) => theirs,
        Err(turn) => turn.await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?,
    };
    copy(reader, theirs).await
}

async fn copy(mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            return writer.shutdown().await;
        }
        writer.write_all(buffer.get(..read).unwrap_or_default()).await?;
        writer.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_come_at_the_same_time_meet() {
        for _ in 0..1000 {
            let waiting = Waiting::default();
            let come = |own, peer| {
                let waiting = waiting.clone();
                std::thread::spawn(move || waiting.meet(own, peer, own))
            };
            let (one, other) = (come(1, 2), come(2, 1));
            let (one, other) = (one.join().unwrap(), other.join().unwrap());
            assert!(one.is_ok() != other.is_ok());
            let mut got = [one, other].map(|met| met.or_else(|mut turn| turn.try_recv()).unwrap());
            got.sort_unstable();
            assert_eq!(got, [1, 2]);
        }
    }
}
