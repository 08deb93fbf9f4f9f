//! The command line's end.

use std::{io, path::Path};

use hyper_util::rt::TokioIo;
use starling_proto::admin::{
    ListAccountsRequest, ListAccountsResponse, PutAccountsRequest, RemoveAccountRequest, admin_client,
};
use starling_store::{Account, PutMode};
use starling_xmpp::jid::BareJid;
use tokio::net::UnixStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::{bindable, convert};
use crate::{Error, Result};

/// A thousand accounts with all their verifiers take some 400 KiB.
pub(super) const MESSAGE_BYTES: usize = 4 << 20;

/// A connection to a running server.
#[derive(Clone)]
pub(crate) struct AdminClient(admin_client::AdminClient<Channel>);

impl AdminClient {
    /// `None`: no server listens there.
    pub(crate) async fn connect(path: &Path) -> Result<Option<Self>> {
        let failed = |source| Error::Io { what: path.display().to_string(), source };
        let (short, _folder) = bindable(path).map_err(failed)?;
        match UnixStream::connect(&short).await {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        }
        let connector = tower::service_fn(move |_| {
            let path = short.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is only a form: the connector knows the way.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel =
            endpoint.connect_with_connector(connector).await.map_err(|error| Error::Admin(error.to_string()))?;
        Ok(Some(Self(admin_client::AdminClient::new(channel).max_encoding_message_size(MESSAGE_BYTES))))
    }

    pub(crate) async fn put(&mut self, accounts: &[Account], mode: PutMode) -> Result<Vec<usize>> {
        let request = PutAccountsRequest {
            mode: convert::mode_to_message(mode).into(),
            accounts: accounts.iter().map(convert::to_message).collect(),
        };
        let response = self.0.put_accounts(request).await.map_err(refused)?.into_inner();
        Ok(response.left_out.into_iter().map(|position| position as usize).collect())
    }

    pub(crate) async fn remove(&mut self, account: &BareJid) -> Result<bool> {
        let request = RemoveAccountRequest { jid: account.to_string() };
        Ok(self.0.remove_account(request).await.map_err(refused)?.into_inner().removed)
    }

    pub(crate) async fn list(&mut self) -> Result<Streaming<ListAccountsResponse>> {
        let request = ListAccountsRequest { after: String::new() };
        Ok(self.0.list_accounts(request).await.map_err(refused)?.into_inner())
    }
}

pub(crate) fn refused(status: tonic::Status) -> Error {
    match status.code() {
        tonic::Code::InvalidArgument => Error::Usage(status.message().to_owned()),
        _ => Error::Admin(status.message().to_owned()),
    }
}
