//! The tables of rosters.

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};
use starling_xmpp::jid::{self, BareJid};

use super::{PgStore, lane::answered};
use crate::{
    Error,
    rosters::{Changes, Decide, ItemChange, ItemChanged, Roster, RosterItem, Rosters, Subscription},
};

/// Removed items that are remembered of each roster.
const REMOVED: i64 = 256;

/// Changes of an account's roster come one after the other.
pub(super) const LOCK: &str = "SELECT id FROM account WHERE jid = $1 FOR NO KEY UPDATE";
const ROSTER: &str = "SELECT roster.version AS whole, roster_item.* \
    FROM roster LEFT JOIN roster_item ON roster_item.account = roster.account \
    WHERE roster.account = (SELECT account.id FROM account WHERE account.jid = $1) ORDER BY contact";
const SINCE: &str = "SELECT roster.version AS whole, roster.forgotten, changed.* FROM roster LEFT JOIN LATERAL ( \
        SELECT contact, name, groups, subscription, ask, pending_in, approved, listed, version \
        FROM roster_item WHERE roster_item.account = roster.account AND roster_item.version > $2 \
        UNION ALL SELECT contact, NULL, NULL, NULL, NULL, NULL, NULL, NULL, version \
        FROM roster_removed WHERE roster_removed.account = roster.account AND roster_removed.version > $2 \
    ) AS changed ON true WHERE roster.account = (SELECT account.id FROM account WHERE account.jid = $1) ORDER BY changed.version";
const ITEM: &str = "SELECT contact, name, groups, subscription, ask, pending_in, approved, listed, version \
    FROM roster_item WHERE account = $1 AND contact = $2";
const PUT: &str = "WITH whole AS ( \
        INSERT INTO roster (account, version, forgotten) VALUES ($1, 1, 0) \
        ON CONFLICT (account) DO UPDATE SET version = roster.version + 1 RETURNING version), \
    back AS (DELETE FROM roster_removed WHERE account = $1 AND contact = $2) \
    INSERT INTO roster_item \
    (account, contact, name, groups, subscription, ask, pending_in, approved, listed, version) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, whole.version FROM whole \
    ON CONFLICT (account, contact) DO UPDATE SET \
    name = excluded.name, groups = excluded.groups, subscription = excluded.subscription, ask = excluded.ask, \
    pending_in = excluded.pending_in, approved = excluded.approved, listed = excluded.listed, \
    version = excluded.version RETURNING version";
const REMOVE: &str = "WITH whole AS ( \
        INSERT INTO roster (account, version, forgotten) VALUES ($1, 1, 0) \
        ON CONFLICT (account) DO UPDATE SET version = roster.version + 1 RETURNING version), \
    gone AS (DELETE FROM roster_item WHERE account = $1 AND contact = $2) \
    INSERT INTO roster_removed (account, contact, version) SELECT $1, $2, whole.version FROM whole \
    ON CONFLICT (account, contact) DO UPDATE SET version = excluded.version RETURNING version";
/// Of those that are too many, the oldest are forgotten, and that they were there is remembered.
const FORGET: &str = "WITH surplus AS ( \
        SELECT version FROM roster_removed WHERE account = $1 ORDER BY version DESC LIMIT 1 OFFSET $2), \
    gone AS (DELETE FROM roster_removed WHERE account = $1 AND version <= (SELECT version FROM surplus)) \
    UPDATE roster SET forgotten = surplus.version FROM surplus WHERE roster.account = $1";

fn item(row: &PgRow) -> Result<RosterItem, Error> {
    let subscription = match row.try_get::<&str, _>("subscription")? {
        "none" => Subscription::None,
        "to" => Subscription::To,
        "from" => Subscription::From,
        "both" => Subscription::Both,
        other => return Err(Error::Corrupt(format!("the subscription {other:?}"))),
    };
    Ok(RosterItem {
        contact: address(row.try_get("contact")?)?,
        name: row.try_get("name")?,
        groups: row.try_get("groups")?,
        subscription,
        ask: row.try_get("ask")?,
        pending_in: row.try_get("pending_in")?,
        approved: row.try_get("approved")?,
        listed: row.try_get("listed")?,
        version: version(row, "version")?,
    })
}

fn address(text: &str) -> Result<BareJid, Error> {
    jid::parse_bare(text).map_err(|_| Error::Corrupt(format!("the contact {text:?}")))
}

fn version(row: &PgRow, column: &str) -> Result<u64, Error> {
    let version = row.try_get::<i64, _>(column)?;
    u64::try_from(version).map_err(|_| Error::Corrupt(format!("the version {version}")))
}

const fn name(subscription: Subscription) -> &'static str {
    match subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    }
}

/// Writes the item, and returns the roster's version from then on.
async fn put(connection: &mut PgConnection, account: i64, contact: &BareJid, item: &RosterItem) -> Result<u64, Error> {
    let put = sqlx::query(PUT)
        .bind(account)
        .bind(contact.as_str())
        .bind(item.name.as_deref())
        .bind(&item.groups)
        .bind(name(item.subscription))
        .bind(item.ask)
        .bind(item.pending_in.as_deref())
        .bind(item.approved)
        .bind(item.listed);
    version(&answered(put.fetch_one(connection)).await?, "version")
}

async fn remove(connection: &mut PgConnection, account: i64, contact: &BareJid) -> Result<u64, Error> {
    let removed = sqlx::query(REMOVE).bind(account).bind(contact.as_str()).fetch_one(&mut *connection);
    let version = version(&answered(removed).await?, "version")?;
    answered(sqlx::query(FORGET).bind(account).bind(REMOVED).execute(connection)).await?;
    Ok(version)
}

/// In a transaction, which is to be committed if something was changed.
async fn change(
    connection: &mut PgConnection,
    account: &str,
    contact: &BareJid,
    limit: usize,
    decide: Decide<'_>,
) -> Result<ItemChanged, Error> {
    let locked = sqlx::query(LOCK).bind(account).fetch_optional(&mut *connection);
    let Some(locked) = answered(locked).await? else { return Ok(ItemChanged::Kept(None)) };
    let account: i64 = locked.try_get(0)?;
    let found = sqlx::query(ITEM).bind(account).bind(contact.as_str()).fetch_optional(&mut *connection);
    let before = answered(found).await?.as_ref().map(item).transpose()?;
    let after = match decide(before.as_ref()) {
        ItemChange::Keep => return Ok(ItemChanged::Kept(before)),
        ItemChange::Remove if before.is_none() => return Ok(ItemChanged::Kept(None)),
        ItemChange::Remove => {
            let version = remove(connection, account, contact).await?;
            return Ok(ItemChanged::Changed { version, before, after: None });
        }
        ItemChange::Put(after) => after,
    };
    if before.is_none() {
        let count = sqlx::query("SELECT count(*) FROM roster_item WHERE account = $1").bind(account);
        let count: i64 = answered(count.fetch_one(&mut *connection)).await?.try_get(0)?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= limit {
            return Ok(ItemChanged::TooMany);
        }
    }
    let version = put(connection, account, contact, &after).await?;
    let after = Some(RosterItem { version, contact: contact.clone(), ..after });
    Ok(ItemChanged::Changed { version, before, after })
}

#[async_trait]
impl Rosters for PgStore {
    async fn roster(&self, account: &BareJid) -> Result<Roster, Error> {
        let mut lease = self.other.lease().await?;
        let found = answered(sqlx::query(ROSTER).bind(account.as_str()).fetch_all(lease.connection()?)).await?;
        lease.settle();
        let Some(first) = found.first() else { return Ok(Roster::default()) };
        let whole = version(first, "whole")?;
        // A roster whose last item was removed is one row of nothing.
        let has_item = |row: &&PgRow| row.try_get::<Option<&str>, _>("contact").is_ok_and(|contact| contact.is_some());
        let items = found.iter().filter(has_item).map(item).collect::<Result<_, _>>()?;
        Ok(Roster { version: whole, items })
    }

    async fn roster_since(&self, account: &BareJid, since: u64) -> Result<Option<Changes>, Error> {
        let mut lease = self.other.lease().await?;
        let found = sqlx::query(SINCE).bind(account.as_str()).bind(i64::try_from(since).unwrap_or(i64::MAX));
        let found = answered(found.fetch_all(lease.connection()?)).await?;
        lease.settle();
        let (whole, forgotten) = match found.first() {
            Some(row) => (version(row, "whole")?, version(row, "forgotten")?),
            None => (0, 0),
        };
        if since < forgotten || since > whole {
            return Ok(None);
        }
        let mut changes = Vec::with_capacity(found.len());
        for row in &found {
            let Some(contact) = row.try_get::<Option<&str>, _>("contact")? else { continue };
            let is_there = row.try_get::<Option<&str>, _>("subscription")?.is_some();
            changes.push((address(contact)?, if is_there { Some(item(row)?) } else { None }));
        }
        Ok(Some((whole, changes)))
    }

    async fn change_item(
        &self,
        account: &BareJid,
        contact: &BareJid,
        limit: usize,
        decide: Decide<'_>,
    ) -> Result<ItemChanged, Error> {
        let mut lease = self.other.lease().await?;
        let mut transaction = lease.begin().await?;
        let changed = change(&mut transaction, account.as_str(), contact, limit, decide).await?;
        match changed {
            ItemChanged::Changed { .. } => answered(transaction.commit()).await?,
            ItemChanged::Kept(_) | ItemChanged::TooMany => answered(transaction.rollback()).await?,
        }
        lease.settle();
        Ok(changed)
    }
}
