//! `starlingd migrate`: the schema of the PostgreSQL database, brought up to date by somebody who does nothing else, such as a
//! Job. Processes whose `database.migrate` is `wait` go on when it is done.

use std::time::{Duration, Instant};

use starling_settings::Settings;
use starling_store::postgres::{self, PgConfig};
use tokio::time::sleep;
use tracing::warn;

use super::threads;
use crate::{Error, Result, backends, telemetry};

/// How soon a database that is not there is looked for again, from the first time to the last: it tells nobody that it has
/// come.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What was done, for people.
pub(super) fn run(settings: &Settings, wait: u32) -> Result<String> {
    let config = backends::postgres(&settings.database, backends::incarnation()).ok_or_else(|| {
        let text = "there is no PostgreSQL database to migrate: `database.url` is not set. The SQLite database in the \
                    data folder is brought up to date when the server starts";
        Error::Usage(text.to_owned())
    })?;
    telemetry::start(settings.log.format, &settings.log.level)?;
    let made = threads()?.block_on(migrate(&config, Duration::from_secs(wait.into())))?;
    Ok(match made.as_slice() {
        [] => "The schema was up to date.\n".to_owned(),
        made => {
            let made: Vec<_> = made.iter().map(ToString::to_string).collect();
            format!("The schema is up to date now. Migrations made: {}.\n", made.join(", "))
        }
    })
}

/// The last look is begun within `wait`, and ends a few seconds later at most if nobody answers.
async fn migrate(config: &PgConfig, wait: Duration) -> Result<Vec<i64>> {
    let started = Instant::now();
    let (mut look, mut told) = (FIRST_LOOK, String::new());
    loop {
        let error = match postgres::migrate(config).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        let left = wait.saturating_sub(started.elapsed());
        if !error.is_absent() || left.is_zero() {
            return Err(error.into());
        }
        let reason = error.to_string();
        if reason != told {
            warn!(reason, seconds_left = left.as_secs(), "The database is not there yet");
            told = reason;
        }
        sleep(look.min(left)).await;
        look = (2 * look).min(LAST_LOOK);
    }
}
