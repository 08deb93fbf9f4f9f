//! The tables of rosters.

use async_trait::async_trait;
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteRow};
use starling_xmpp::jid::{self, BareJid};

use super::{SqliteStore, renew, rows};
use crate::{
    Error,
    rosters::{Changes, Decide, ItemChange, ItemChanged, Roster, RosterItem, Rosters, Subscription},
};

/// Removed items that are remembered of each roster.
const REMOVED: i64 = 256;
/// Between groups: XML has no such character.
const SEPARATOR: char = '\u{1f}';

const ITEM: &str = "SELECT contact, name, groups, subscription, ask, pending_in, approved, listed, version \
                    FROM roster_item WHERE account = ? AND contact = ?";

fn item(row: &SqliteRow) -> Result<RosterItem, Error> {
    let groups: String = row.try_get("groups")?;
    let subscription = match row.try_get::<String, _>("subscription")?.as_str() {
        "none" => Subscription::None,
        "to" => Subscription::To,
        "from" => Subscription::From,
        "both" => Subscription::Both,
        other => return Err(Error::Corrupt(format!("the subscription {other:?}"))),
    };
    Ok(RosterItem {
        contact: address(&row.try_get::<String, _>("contact")?)?,
        name: row.try_get("name")?,
        groups: groups.split(SEPARATOR).filter(|group| !group.is_empty()).map(str::to_owned).collect(),
        subscription,
        ask: row.try_get::<i64, _>("ask")? != 0,
        pending_in: row.try_get("pending_in")?,
        approved: row.try_get::<i64, _>("approved")? != 0,
        listed: row.try_get::<i64, _>("listed")? != 0,
        version: version(row, "version")?,
    })
}

fn address(text: &str) -> Result<BareJid, Error> {
    jid::parse_bare(text).map_err(|_| Error::Corrupt(format!("the contact {text:?}")))
}

fn version(row: &SqliteRow, column: &str) -> Result<u64, Error> {
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

/// Counts the change, and returns the roster's version from then on.
async fn next_version(connection: &mut SqliteConnection, account: &str) -> Result<u64, Error> {
    let statement = "INSERT INTO roster (account, version, forgotten) VALUES (?, 1, 0) \
                     ON CONFLICT (account) DO UPDATE SET version = version + 1 RETURNING version";
    version(&sqlx::query(statement).bind(account).fetch_one(connection).await?, "version")
}

async fn write(connection: &mut SqliteConnection, account: &str, item: &RosterItem) -> Result<(), Error> {
    let statement = "INSERT INTO roster_item \
                     (account, contact, name, groups, subscription, ask, pending_in, approved, listed, version) \
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, contact) DO UPDATE SET \
                     name = excluded.name, groups = excluded.groups, subscription = excluded.subscription, \
                     ask = excluded.ask, pending_in = excluded.pending_in, approved = excluded.approved, \
                     listed = excluded.listed, version = excluded.version";
    sqlx::query(statement)
        .bind(account)
        .bind(item.contact.as_str())
        .bind(item.name.as_deref())
        .bind(item.groups.join(&SEPARATOR.to_string()))
        .bind(name(item.subscription))
        .bind(i64::from(item.ask))
        .bind(item.pending_in.as_deref())
        .bind(i64::from(item.approved))
        .bind(i64::from(item.listed))
        .bind(i64::try_from(item.version).unwrap_or(i64::MAX))
        .execute(&mut *connection)
        .await?;
    let statement = "DELETE FROM roster_removed WHERE account = ? AND contact = ?";
    sqlx::query(statement).bind(account).bind(item.contact.as_str()).execute(connection).await?;
    Ok(())
}

async fn remove(connection: &mut SqliteConnection, account: &str, contact: &str, version: u64) -> Result<(), Error> {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    let statement = "DELETE FROM roster_item WHERE account = ? AND contact = ?";
    sqlx::query(statement).bind(account).bind(contact).execute(&mut *connection).await?;
    let statement = "INSERT INTO roster_removed (account, contact, version) VALUES (?, ?, ?) \
                     ON CONFLICT (account, contact) DO UPDATE SET version = excluded.version";
    sqlx::query(statement).bind(account).bind(contact).bind(version).execute(&mut *connection).await?;
    // Of those that are too many, the oldest are forgotten, and that they were there is remembered.
    let statement = "SELECT version FROM roster_removed WHERE account = ? ORDER BY version DESC LIMIT 1 OFFSET ?";
    let surplus = sqlx::query(statement).bind(account).bind(REMOVED).fetch_optional(&mut *connection).await?;
    if let Some(row) = surplus {
        let forgotten: i64 = row.try_get(0)?;
        let statement = "DELETE FROM roster_removed WHERE account = ? AND version <= ?";
        sqlx::query(statement).bind(account).bind(forgotten).execute(&mut *connection).await?;
        let statement = "UPDATE roster SET forgotten = ? WHERE account = ?";
        sqlx::query(statement).bind(forgotten).bind(account).execute(connection).await?;
    }
    Ok(())
}

async fn change(
    connection: &mut SqliteConnection,
    account: &str,
    contact: &BareJid,
    limit: usize,
    decide: Decide<'_>,
) -> Result<ItemChanged, Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if !rows::exists(&mut transaction, account).await? {
        return Ok(ItemChanged::Kept(None));
    }
    let row = sqlx::query(ITEM).bind(account).bind(contact.as_str()).fetch_optional(&mut *transaction).await?;
    let before = row.as_ref().map(item).transpose()?;
    let after = match decide(before.as_ref()) {
        ItemChange::Keep => return Ok(ItemChanged::Kept(before)),
        ItemChange::Remove if before.is_none() => return Ok(ItemChanged::Kept(None)),
        ItemChange::Remove => None,
        ItemChange::Put(after) => Some(after),
    };
    if before.is_none() {
        let statement = "SELECT count(*) FROM roster_item WHERE account = ?";
        let count = sqlx::query(statement).bind(account).fetch_one(&mut *transaction).await?.try_get::<i64, _>(0)?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= limit {
            return Ok(ItemChanged::TooMany);
        }
    }
    let version = next_version(&mut transaction, account).await?;
    let after = match after {
        Some(item) => {
            let item = RosterItem { version, contact: contact.clone(), ..item };
            write(&mut transaction, account, &item).await?;
            Some(item)
        }
        None => {
            remove(&mut transaction, account, contact.as_str(), version).await?;
            None
        }
    };
    transaction.commit().await?;
    Ok(ItemChanged::Changed { version, before, after })
}

#[async_trait]
impl Rosters for SqliteStore {
    async fn roster(&self, account: &BareJid) -> Result<Roster, Error> {
        let statement = "SELECT roster.version AS whole, roster_item.* FROM roster \
                         LEFT JOIN roster_item ON roster_item.account = roster.account \
                         WHERE roster.account = ? ORDER BY contact";
        let found = sqlx::query(statement).bind(account.as_str()).fetch_all(&self.readers).await?;
        let Some(first) = found.first() else { return Ok(Roster::default()) };
        let whole = version(first, "whole")?;
        // A roster whose last item was removed is one row of nothing.
        let has_item =
            |row: &&SqliteRow| row.try_get::<Option<String>, _>("contact").is_ok_and(|contact| contact.is_some());
        let items = found.iter().filter(has_item).map(item).collect::<Result<_, _>>()?;
        Ok(Roster { version: whole, items })
    }

    async fn roster_since(&self, account: &BareJid, since: u64) -> Result<Option<Changes>, Error> {
        let account = account.as_str();
        let mut transaction = self.readers.begin().await?;
        let statement = "SELECT version, forgotten FROM roster WHERE account = ?";
        let found = sqlx::query(statement).bind(account).fetch_optional(&mut *transaction).await?;
        let (whole, forgotten) = match &found {
            Some(row) => (version(row, "version")?, version(row, "forgotten")?),
            None => (0, 0),
        };
        if since < forgotten || since > whole {
            return Ok(None);
        }
        if since == whole {
            return Ok(Some((whole, Vec::new())));
        }
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let statement = "SELECT contact, name, groups, subscription, ask, pending_in, approved, listed, version \
                         FROM roster_item WHERE account = ? AND version > ? ORDER BY version";
        let changed = sqlx::query(statement).bind(account).bind(since).fetch_all(&mut *transaction).await?;
        let statement = "SELECT contact, version FROM roster_removed WHERE account = ? AND version > ?";
        let removed = sqlx::query(statement).bind(account).bind(since).fetch_all(&mut *transaction).await?;
        let mut changes = Vec::with_capacity(changed.len() + removed.len());
        for row in &changed {
            let item = item(row)?;
            changes.push((item.version, item.contact.clone(), Some(item)));
        }
        for row in &removed {
            changes.push((version(row, "version")?, address(&row.try_get::<String, _>("contact")?)?, None));
        }
        changes.sort_by_key(|(version, ..)| *version);
        Ok(Some((whole, changes.into_iter().map(|(_, contact, item)| (contact, item)).collect())))
    }

    async fn change_item(
        &self,
        account: &BareJid,
        contact: &BareJid,
        limit: usize,
        decide: Decide<'_>,
    ) -> Result<ItemChanged, Error> {
        let mut connection = self.write().await?;
        let result = change(&mut connection, account.as_str(), contact, limit, decide).await;
        renew(connection, result).await
    }
}
