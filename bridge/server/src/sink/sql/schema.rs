//! The tables of each database, brought up to date step by step, and the statements that fill them. Holds no connection.

use futures_util::future::BoxFuture;
use sqlx::error::BoxDynError;
use sqlx::migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::sqlite::SqlitePool;
use sqlx::{Error, Row as _};

/// What takes a batch apart in SQLite: `?1` is a JSON array of events, `?2` the bridge.
pub(super) const SQLITE: [&str; 5] = [
    include_str!("sqlite/calls_started.sql"),
    include_str!("sqlite/calls_ended.sql"),
    include_str!("sqlite/transcripts.sql"),
    include_str!("sqlite/results.sql"),
    include_str!("sqlite/events.sql"),
];

/// The same in PostgreSQL.
pub(super) const POSTGRES: [&str; 5] = [
    include_str!("postgres/calls_started.sql"),
    include_str!("postgres/calls_ended.sql"),
    include_str!("postgres/transcripts.sql"),
    include_str!("postgres/results.sql"),
    include_str!("postgres/events.sql"),
];

/// Steps from nothing to the tables of today, by version. One that was released is never changed: another is added.
const SQLITE_STEPS: &[(i64, &str)] = &[(1, include_str!("sqlite/schema_1.sql"))];
const POSTGRES_STEPS: &[(i64, &str)] = &[(1, include_str!("postgres/schema_1.sql"))];

#[derive(Debug)]
struct Steps(&'static [(i64, &'static str)]);

impl MigrationSource<'static> for Steps {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        let step = |(version, sql): &(i64, &'static str)| {
            Migration::new(*version, "".into(), MigrationType::Simple, (*sql).into(), false)
        };
        let steps = self.0.iter().map(step).collect();
        Box::pin(std::future::ready(Ok(steps)))
    }
}

fn failed(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        MigrateError::VersionMissing(version) => Error::Configuration(
            format!("its tables are of version {version}, of a newer ringback than this").into(),
        ),
        other => Error::Configuration(other.into()),
    }
}

pub(super) async fn of_sqlite(pool: &SqlitePool) -> Result<(), Error> {
    let migrator = Migrator::new(Steps(SQLITE_STEPS)).await.map_err(failed)?;
    migrator.run(pool).await.map_err(failed)
}

pub(super) async fn of_postgres(pool: &PgPool) -> Result<(), Error> {
    let migrator = Migrator::new(Steps(POSTGRES_STEPS)).await.map_err(failed)?;
    migrator.run(pool).await.map_err(failed)
}

/// Makes a connection see the schema of ours and nothing else: there no table is anybody else's.
pub(super) async fn enter(connection: &mut PgConnection) -> Result<(), Error> {
    let known = sqlx::query("SELECT count(*) FROM pg_namespace WHERE nspname = 'ringback'");
    // Making it again would need the right to, even if it is there.
    if known.fetch_one(&mut *connection).await?.try_get::<i64, _>(0)? == 0 {
        sqlx::query("CREATE SCHEMA IF NOT EXISTS ringback").execute(&mut *connection).await?;
    }
    sqlx::query("SET search_path TO ringback").execute(&mut *connection).await?;
    Ok(())
}
