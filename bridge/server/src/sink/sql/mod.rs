//! Events in tables of SQLite or PostgreSQL: in batches, each event once however often it comes. Reads nothing back, and deletes nothing unasked.

mod config;
mod erase;
mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Error};

use super::backoff::Backoff;
use super::{Event, Intake};
use crate::telemetry::Lost;

pub use config::{Database, Sql};
pub(crate) use erase::erase;

/// Events written at a time.
const BATCH: usize = 500;
/// Connecting, bringing the tables up to date, or writing a batch takes no longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Whether there can be such a database.
///
/// # Errors
/// What is wrong with it, without what a URL says.
pub(crate) fn check(database: &Database) -> Result<(), String> {
    let Database::Postgres { url } = database else { return Ok(()) };
    let url = url.expose();
    let scheme = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if scheme && PgConnectOptions::from_str(url).is_ok() {
        return Ok(());
    }
    Err("is no URL of a PostgreSQL database, such as postgres://user:password@db.example.com/calls?sslmode=verify-full".into())
}

/// Writes what `intake` gives until there is no more.
pub(super) async fn run(config: Sql, intake: Intake) {
    let mut store = Store { config, connection: None };
    let mut backoff = Backoff::default();
    while let Some(mut events) = intake.take(BATCH).await {
        let mut most = events.len();
        while !events.is_empty() {
            let count = most.min(events.len());
            match store.write(&events[..count]).await {
                Ok(()) => {
                    intake.delivered(count as u64);
                    events.drain(..count);
                    backoff.worked(&intake);
                }
                // One of them is what the database cannot hold: they go one by one, and that one goes.
                Err(Failure::Data(_)) if count > 1 => most = 1,
                Err(Failure::Data(reason)) => {
                    intake.lost(Lost::Refused, &reason, 1);
                    events.remove(0);
                }
                Err(Failure::Away(reason)) => backoff.wait(&intake, &reason).await,
            }
        }
    }
    store.close().await;
}

/// Why a batch is not written.
enum Failure {
    /// What is in it; trying again is of no use.
    Data(String),
    /// The database is not there, or cannot now.
    Away(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Classes 22, data exceptions, 23, violated constraints, and 54, too much of it (PostgreSQL, appendix A); SQLite's are numbers:
        // too big, violated constraints, wrong types.
        let of_data = |code: Cow<'_, str>| match code.parse::<u32>() {
            Ok(code) if code < 10_000 => matches!(code & 0xff, 18..=20),
            _ => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
        };
        match &error {
            Error::Database(told) if told.code().is_some_and(of_data) => {
                Self::Data(told.message().to_owned())
            }
            _ => Self::Away(error.to_string()),
        }
    }
}

/// One connection, opened again when it is broken.
enum Connection {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

struct Store {
    config: Sql,
    /// To tables that are as they should be.
    connection: Option<Connection>,
}

impl Store {
    /// Writes all of them, or none.
    async fn write(&mut self, events: &[Arc<Event>]) -> Result<(), Failure> {
        let json = self.json(events);
        let written = tokio::time::timeout(DEADLINE, async {
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let connection = self.connection.insert(connection);
            match connection {
                Connection::Sqlite(sqlite) => {
                    let mut transaction = sqlite.begin().await?;
                    for statement in schema::SQLITE {
                        let statement = sqlx::query(statement).bind(&json);
                        let statement = statement.bind(&self.config.source);
                        statement.execute(&mut *transaction).await?;
                    }
                    transaction.commit().await
                }
                Connection::Postgres(postgres) => {
                    let mut transaction = postgres.begin().await?;
                    for statement in schema::POSTGRES {
                        let statement = sqlx::query(statement).bind(&json);
                        let statement = statement.bind(&self.config.source);
                        statement.execute(&mut *transaction).await?;
                    }
                    transaction.commit().await
                }
            }
        });
        match written.await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Failure::Away(format!("not done in {DEADLINE:?}"))),
        }
    }

    /// The events as one JSON array, which the statements take apart.
    fn json(&self, events: &[Arc<Event>]) -> String {
        let mut json = String::from("[");
        for (index, event) in events.iter().enumerate() {
            json.push_str(if index == 0 { "" } else { "," });
            json.push_str(&match self.config.database {
                Database::Sqlite { .. } => Cow::Borrowed(event.json.as_str()),
                Database::Postgres { .. } => without_nul(&event.json),
            });
        }
        json + "]"
    }

    /// A connection to tables that are as they should be.
    async fn connect(&self) -> Result<Connection, Error> {
        match &self.config.database {
            Database::Sqlite { path } => {
                if let Some(folder) = path.parent() {
                    super::jsonl::make_dir(folder)?;
                }
                // For nobody else's eyes; SQLite takes a file that is empty for a new database.
                super::jsonl::private().append(true).create(true).open(path)?;
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .busy_timeout(Duration::from_secs(5))
                    .disable_statement_logging();
                let pool = SqlitePoolOptions::new().max_connections(1);
                let pool = pool.connect_with(options).await?;
                schema::of_sqlite(&pool).await?;
                Ok(Connection::Sqlite(pool))
            }
            Database::Postgres { url } => {
                let options = PgConnectOptions::from_str(url.expose())?
                    .application_name("ringback")
                    .disable_statement_logging();
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .after_connect(|connection, _| Box::pin(schema::enter(connection)))
                    .connect_with(options)
                    .await?;
                schema::of_postgres(&pool).await?;
                Ok(Connection::Postgres(pool))
            }
        }
    }

    async fn close(self) {
        let closed = async {
            match self.connection {
                Some(Connection::Sqlite(pool)) => pool.close().await,
                Some(Connection::Postgres(pool)) => pool.close().await,
                None => {}
            }
        };
        // All is committed: whatever goes wrong now costs nothing.
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// JSON without the character U+0000, which PostgreSQL has no room for: U+FFFD stands in its place.
fn without_nul(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u0000") {
        return json.into();
    }
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = if rest[at..].starts_with("\\u") { 6 } else { 2 };
        let (escape, behind) = rest[at..].split_at(escape.min(rest.len() - at));
        text.push_str(if escape == "\\u0000" { "\\ufffd" } else { escape });
        rest = behind;
    }
    (text + rest).into()
}
