//! XEP-0198 §5 in the place of bind: an earlier session of the account is taken up again.

use starling_xml::RawElement;

use super::{Inner, Next, State};
use crate::acks::nonza::{self, Nonza};
use crate::error::{Condition, StreamError};
use crate::jid::BareJid;

/// Stream management where there is nothing to manage yet (§3, §5).
///
/// # Errors
/// It is no element of stream management that a client sends.
pub(super) fn unexpected(element: &RawElement<'_>, out: &mut Vec<u8>) -> Result<Next, StreamError> {
    match nonza::parse(element) {
        Ok(_) => nonza::write_failed(Condition::UnexpectedRequest, None, out),
        Err(error) => nonza::write_failed(error.failed().ok_or(error)?, None, out),
    }
    Ok(Next::Read)
}

impl Inner {
    /// An element of stream management after log-in, before a resource is bound.
    pub(super) fn resume(
        &mut self,
        account: BareJid,
        element: &RawElement<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, StreamError> {
        if let Ok(Some(Nonza::Resume { previd, h })) = nonza::parse(element) {
            let previd = previd.into_owned();
            self.state = State::Resuming(account.clone(), previd.clone());
            return Ok(Next::Resume { account, previd, h });
        }
        self.state = State::Authenticated(account);
        unexpected(element, out)
    }

    /// The session cannot be resumed; the client may bind a resource now (§5).
    pub(super) fn resume_refused(&mut self, account: BareJid, h: Option<u32>, out: &mut Vec<u8>) -> Next {
        nonza::write_failed(Condition::ItemNotFound, h, out);
        self.state = State::Authenticated(account);
        Next::Read
    }
}
