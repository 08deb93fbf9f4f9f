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
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::{Failure, target::Stream};

const NOBODY: u32 = u32::MAX;
const BUFFER: usize = 4 * 1024;

type Writer = WriteHalf<Box<dyn Stream>>;

/// Writers of those whose peer has not come.
type Waiting = Arc<Mutex<HashMap<u32, (Writer, oneshot::Sender<Writer>)>>>;

/// Serves until it is killed. Prints two addresses: without and with TLS.
pub(crate) async fn serve() -> Result<(), Failure> {
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let tls = TcpListener::bind("127.0.0.1:0").await?;
    let acceptor = acceptor()?;
    println!("{} {}", plain.local_addr()?, tls.local_addr()?);
    io::stdout().flush()?;
    let waiting = Waiting::default();
    loop {
        tokio::select! {
            accepted = plain.accept() => {
                let (tcp, _) = accepted?;
                tokio::spawn(plain_connection(tcp, waiting.clone()));
            }
            accepted = tls.accept() => {
                let (tcp, _) = accepted?;
                tokio::spawn(tls_connection(tcp, acceptor.clone(), waiting.clone()));
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

async fn plain_connection(tcp: TcpStream, waiting: Waiting) {
    tcp.set_nodelay(true).ok();
    relay(Box::new(tcp), waiting).await.ok();
}

async fn tls_connection(tcp: TcpStream, acceptor: TlsAcceptor, waiting: Waiting) {
    tcp.set_nodelay(true).ok();
    if let Ok(stream) = acceptor.accept(tcp).await {
        relay(Box::new(stream), waiting).await.ok();
    }
}

async fn relay(mut stream: Box<dyn Stream>, waiting: Waiting) -> io::Result<()> {
    let (own, peer) = (stream.read_u32().await?, stream.read_u32().await?);
    let (reader, writer) = split(stream);
    if peer == NOBODY {
        return copy(reader, writer).await;
    }
    let met = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    let theirs = match met {
        Some((theirs, their_turn)) => {
            their_turn.send(writer).map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
            theirs
        }
        None => {
            let (turn, theirs) = oneshot::channel();
            waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(own, (writer, turn));
            theirs.await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?
        }
    };
    copy(reader, theirs).await
}

async fn copy(mut reader: ReadHalf<Box<dyn Stream>>, mut writer: Writer) -> io::Result<()> {
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
