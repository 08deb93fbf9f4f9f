//! The server's end.

use std::pin::Pin;

use starling_proto::admin::{
    ListAccountsRequest, ListAccountsResponse, PUT_LIMIT, PutAccountsRequest, PutAccountsResponse,
    RemoveAccountRequest, RemoveAccountResponse, Socket, StatusRequest, StatusResponse, admin_server,
};
use starling_store::{Account, PutMode};
use starling_xmpp::{
    error::{StreamCondition, StreamError},
    jid::{self, BareJid},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Admin, convert};

/// Accounts on a page of a list.
const PAGE: u32 = 1000;

fn failed(error: starling_store::Error) -> Status {
    tracing::warn!(%error, "Order on the admin socket failed");
    if error.is_transient() { Status::unavailable(error.to_string()) } else { Status::internal(error.to_string()) }
}

impl Admin {
    fn served(&self, jid: &BareJid) -> bool {
        jid.node().is_some() && self.domains.iter().any(|domain| domain == jid.domain().as_str())
    }

    /// Whoever was logged in with what is no longer true is logged out.
    async fn end_streams(&self, account: &BareJid, condition: StreamCondition, text: &'static str) {
        let ended = self.service.close_account(account, &StreamError::with_text(condition, text)).await;
        if ended > 0 {
            tracing::info!(%account, ended, "Streams ended");
        }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn put_accounts(
        &self,
        request: Request<PutAccountsRequest>,
    ) -> Result<Response<PutAccountsResponse>, Status> {
        let request = request.into_inner();
        let mode = convert::mode_from_message(request.mode()).ok_or_else(|| Status::invalid_argument("no mode"))?;
        if request.accounts.len() > PUT_LIMIT {
            return Err(Status::invalid_argument(format!("more than {PUT_LIMIT} accounts")));
        }
        let accounts = request.accounts.into_iter().map(convert::from_message).collect::<Result<Vec<Account>, _>>();
        let accounts = accounts.map_err(Status::invalid_argument)?;
        if let Some(stranger) = accounts.iter().find(|account| !self.served(&account.jid)) {
            return Err(Status::invalid_argument(format!("{} is not of a domain that is served here", stranger.jid)));
        }
        let left_out = self.store.put(&accounts, mode).await.map_err(failed)?;
        if mode != PutMode::Create {
            for (position, account) in accounts.iter().enumerate() {
                if left_out.binary_search(&position).is_err() {
                    self.end_streams(&account.jid, StreamCondition::Reset, "the password has changed").await;
                }
            }
        }
        let written = accounts.len() - left_out.len();
        Ok(Response::new(PutAccountsResponse {
            written: u32::try_from(written).unwrap_or(u32::MAX),
            left_out: left_out.into_iter().filter_map(|position| u32::try_from(position).ok()).collect(),
        }))
    }

    async fn remove_account(
        &self,
        request: Request<RemoveAccountRequest>,
    ) -> Result<Response<RemoveAccountResponse>, Status> {
        let account =
            jid::parse_bare(&request.into_inner().jid).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let removed = self.service.remove_account(&account).await.map_err(failed)?;
        if removed {
            self.end_streams(&account, StreamCondition::NotAuthorized, "the account was removed").await;
        }
        Ok(Response::new(RemoveAccountResponse { removed }))
    }

    type ListAccountsStream = Pin<Box<dyn Stream<Item = Result<ListAccountsResponse, Status>> + Send>>;

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<Self::ListAccountsStream>, Status> {
        let after = request.into_inner().after;
        let mut after = match after.as_str() {
            "" => None,
            text => Some(jid::parse_bare(text).map_err(|error| Status::invalid_argument(error.to_string()))?),
        };
        let store = self.store.clone();
        // One page ahead of the reader; the task ends when either does.
        let (pages, stream) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let page = store.list(after.as_ref(), PAGE).await.map_err(failed);
                let last = page.as_ref().ok().and_then(|page| page.last().cloned());
                let page =
                    page.map(|page| ListAccountsResponse { jids: page.iter().map(ToString::to_string).collect() });
                if pages.send(page).await.is_err() || last.is_none() {
                    return;
                }
                after = last;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let sockets = self.addresses.iter();
        Ok(Response::new(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.readiness.get().as_str().to_owned(),
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
            process: std::process::id(),
            sockets: sockets
                .map(|(role, address)| Socket { role: (*role).to_owned(), address: address.clone() })
                .collect(),
            accounts: self.store.count().await.map_err(failed)?,
            domains: self.domains.clone(),
        }))
    }
}
