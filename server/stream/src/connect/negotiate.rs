//! Runs `starling_xmpp::negotiate::initiate` on a connection: what it writes is sent, what comes is given to it.

use starling_xml::Frame;
use starling_xmpp::SystemRandom;
use starling_xmpp::jid::FullJid;
use starling_xmpp::negotiate::TlsInfo;
use starling_xmpp::negotiate::initiate::{Initiate, Input, Next};

use super::stream::Stream;
use super::{ClientOptions, ComponentOptions, Roots, Security};
use crate::Error;

/// A client's negotiation that succeeded.
pub(super) struct Established {
    pub(super) jid: FullJid,
    pub(super) tls: Option<TlsInfo>,
}

pub(super) async fn client(
    stream: &mut Stream,
    options: &ClientOptions,
    mut tls: Option<TlsInfo>,
) -> Result<Established, Error> {
    let start_tls = options.security == Security::StartTls;
    let mut initiate = Initiate::client(&options.jid, &options.password, start_tls, tls.clone(), SystemRandom);
    if matches!(options.roots, Roots::Any) {
        initiate = initiate.refuse_plain();
    }
    let mut out = Vec::new();
    initiate.start(&mut out);
    loop {
        let mut next = step(stream, &mut initiate, &mut out).await?;
        if matches!(next, Next::StartTls) {
            stream.send(&std::mem::take(&mut out)).await?;
            let info = stream.start_tls(options.jid.domain().as_str(), &options.roots, false).await?;
            tls = Some(info.clone());
            next = initiate.handle(Input::TlsReady(info), &mut out)?;
        }
        match next {
            Next::Read | Next::StartTls => {}
            Next::Restart => stream.restart(),
            Next::Established { full } => {
                stream.send(&out).await?;
                return Ok(Established { jid: full, tls });
            }
            Next::Accepted => return Err(Error::Unexpected("a component's handshake for a client")),
        }
    }
}

pub(super) async fn component(stream: &mut Stream, options: &ComponentOptions) -> Result<(), Error> {
    let mut initiate = Initiate::component(&options.domain, &options.secret);
    let mut out = Vec::new();
    initiate.start(&mut out);
    while !matches!(step(stream, &mut initiate, &mut out).await?, Next::Accepted) {}
    Ok(())
}

/// Sends what is to be sent, and waits for what comes.
async fn step(stream: &mut Stream, initiate: &mut Initiate, out: &mut Vec<u8>) -> Result<Next, Error> {
    stream.send(&std::mem::take(out)).await?;
    stream
        .frame(|frame| match frame {
            Frame::Open(header) => Ok(initiate.handle(Input::Open(&header), out)?),
            Frame::Element(element) => Ok(initiate.handle(Input::Element(element), out)?),
            Frame::Close => Err(Error::Ended),
        })
        .await?
}
