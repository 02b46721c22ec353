//! What tables keep of calls, deleted. Leaves tables and other bridges' rows as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Connection, Database, Sql, Store};

/// A file of SQLite is written anew, however long it is.
const ERASING: Duration = Duration::from_secs(600);
/// After so long its log is tried again that others still read.
const AGAIN: Duration = Duration::from_millis(100);

/// Where calls are, what refers to them first.
const TABLES: [&str; 4] = ["transcripts", "results", "events", "calls"];

/// Deletes all rows of these calls that this bridge wrote, all or none, and says how many.
///
/// # Errors
/// Why none was deleted.
pub(crate) async fn erase(config: &Sql, calls: &BTreeSet<String>) -> Result<u64, String> {
    if let Database::Sqlite { path } = &config.database
        && !path.exists()
    {
        return Ok(0);
    }
    let store = Store { config: config.clone(), connection: None };
    let erased = tokio::time::timeout(ERASING, async {
        let connection = store.connect().await?;
        match &connection {
            Connection::Sqlite(sqlite) => {
                // What is deleted is overwritten with zeros, in the file and in what is still to be written to it.
                sqlx::query("PRAGMA secure_delete = ON").execute(sqlite).await?;
                let mut gone = 0;
                let mut transaction = sqlite.begin().await?;
                for table in TABLES {
                    let delete = format!("DELETE FROM {table} WHERE source = ?1 AND call = ?2");
                    for call in calls {
                        let row = sqlx::query(&delete).bind(&config.source).bind(call);
                        gone += row.execute(&mut *transaction).await?.rows_affected();
                    }
                }
                transaction.commit().await?;
                // Pages that were split before keep copies that nothing deletes: only a file that is written anew has none.
                sqlx::query("VACUUM").execute(sqlite).await?;
                // They are in it once the log is; whoever reads meanwhile keeps it from that, and says so in a row.
                const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
                while sqlx::query_scalar::<_, i64>(EMPTY_LOG).fetch_one(sqlite).await? != 0 {
                    tokio::time::sleep(AGAIN).await;
                }
                sqlite.close().await;
                Ok(gone)
            }
            Connection::Postgres(postgres) => {
                let mut gone = 0;
                let mut transaction = postgres.begin().await?;
                for table in TABLES {
                    let delete = format!("DELETE FROM {table} WHERE source = $1 AND call = $2");
                    for call in calls {
                        let row = sqlx::query(&delete).bind(&config.source).bind(call);
                        gone += row.execute(&mut *transaction).await?.rows_affected();
                    }
                }
                transaction.commit().await?;
                postgres.close().await;
                Ok(gone)
            }
        }
    });
    match erased.await {
        Ok(erased) => erased.map_err(|error: sqlx::Error| error.to_string()),
        Err(_) => Err(format!("not done in {ERASING:?}")),
    }
}
