//! The commit of a group of changes, and what is done when nobody knows whether it was.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{Connection as _, Row as _};

use super::{
    PgStore,
    config::{ANSWER, application_name},
    group::{self, Round},
    lane::{Lease, answered},
};
use crate::{Change, Error};

/// Deadlocks and the like: others who were in the way are done, most likely.
const ATTEMPTS: usize = 4;

/// The server's processes that were asked for a commit and did not answer. Such a one may still be at work when the
/// same group is tried again, and would write behind what comes after that: it is ended first.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<Vec<i32>>);

impl Unanswered {
    fn lock(&self) -> MutexGuard<'_, Vec<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the process when it is dropped before its answer: also when the caller leaves.
struct Asked<'s> {
    unanswered: &'s Unanswered,
    process: Option<i32>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            self.unanswered.lock().push(process);
        }
    }
}

/// Applies changes in their order, all or none.
pub(super) async fn commit(store: &PgStore, changes: &[Change<'_>]) -> Result<(), Error> {
    let rounds = group::rounds(changes);
    if rounds.is_empty() {
        return Ok(());
    }
    let mut careful = false;
    for _ in 1..ATTEMPTS {
        let result = try_commit(store, &rounds, &mut careful).await;
        if !is_conflict(&result) {
            return result;
        }
        // Some of it is there already, or somebody else was at it.
        careful = true;
    }
    try_commit(store, &rounds, &mut careful).await
}

/// Whether others were in the way: then nothing was written, and the connection is as it was.
fn is_conflict(result: &Result<(), Error>) -> bool {
    let Err(Error::Busy(error) | Error::Backend(error)) = result else { return false };
    let code = error.as_database_error().and_then(|error| error.code());
    // unique_violation, serialization_failure, deadlock_detected
    matches!(code.as_deref(), Some("23505" | "40001" | "40P01"))
}

async fn try_commit(store: &PgStore, rounds: &[Round<'_>], careful: &mut bool) -> Result<(), Error> {
    let mut lease = store.messages.lease().await?;
    if end_unanswered(store, &mut lease).await? {
        *careful = true;
    }
    let mut asked = Asked { unanswered: &store.unanswered, process: lease.process() };
    let result = match rounds {
        [round] => {
            let statement = round.statement(store.instance, *careful);
            answered(statement.execute(lease.connection()?)).await.map(drop)
        }
        _ => commit_rounds(store, rounds, *careful, &mut lease).await,
    };
    if let Ok(())
    | Err(Error::Busy(sqlx::Error::Database(_)) | Error::Backend(sqlx::Error::Database(_)) | Error::Revoked) =
        &result
    {
        asked.process = None;
    }
    drop(asked);
    if result.is_ok() || is_conflict(&result) {
        lease.settle();
    }
    result
}

async fn commit_rounds(store: &PgStore, rounds: &[Round<'_>], careful: bool, lease: &mut Lease) -> Result<(), Error> {
    let mut transaction = answered(lease.connection()?.begin()).await?;
    for round in rounds {
        answered(round.statement(store.instance, careful).execute(&mut *transaction)).await?;
    }
    answered(transaction.commit()).await
}

/// Ends the processes that did not answer. Whether there were any.
async fn end_unanswered(store: &PgStore, lease: &mut Lease) -> Result<bool, Error> {
    let processes = mem::take(&mut *store.unanswered.lock());
    if processes.is_empty() {
        return Ok(false);
    }
    // Waits for their end. One that has ended is not found.
    let statement = "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity \
                     WHERE pid = ANY ($1) AND pid <> pg_backend_pid() AND application_name = $2";
    let ended = sqlx::query(statement)
        .bind(processes.as_slice())
        .bind(application_name(store.instance))
        .bind(i64::try_from(ANSWER.as_millis()).unwrap_or(i64::MAX));
    let ended = answered(ended.fetch_all(lease.connection()?))
        .await
        .and_then(|rows| rows.iter().try_fold(true, |all, row| Ok(all & row.try_get::<bool, _>(0)?)));
    match ended {
        Ok(true) => Ok(true),
        // Not yet: they are asked again before the next try.
        Ok(false) => {
            store.unanswered.lock().extend(processes);
            Err(Error::NoAnswer)
        }
        Err(error) => {
            store.unanswered.lock().extend(processes);
            Err(error)
        }
    }
}
