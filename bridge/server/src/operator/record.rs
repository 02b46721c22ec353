//! What of the operator's side is written into the audit log, and when: before whoever asked is answered. Writes no file itself.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringback_proto::Instant;

use super::access::Principal;
use super::answer::Problem;
use crate::audit::{Audit, Entry};
use crate::clock::Clock;
use crate::telemetry::{METRICS, OperatorReport, operator_report};

/// Refused authentications that are written down within a minute, wherever they come from: strangers do not fill the disk.
const MOST_REFUSED: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// The outcome of what is about to be done; an entry behind it of the same token, act and object has the real one.
const BEGUN: &str = "begun";
/// When an audit log that cannot be written may be tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The audit log, if one is kept.
pub(super) struct Record {
    audit: Option<Audit>,
    clock: Clock,
    refused: Mutex<(Instant, u32)>,
}

impl Record {
    pub(super) fn new(audit: Option<Audit>, clock: Clock) -> Self {
        let refused = Mutex::new((clock.now(), 0));
        Self { audit, clock, refused }
    }

    /// The log itself.
    pub(super) fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// Writes down what `who` is about to do: while that cannot be, nothing is done.
    pub(super) async fn begins(&self, who: &Principal, act: &str, on: &str) -> Result<(), Problem> {
        let begun = entry(&who.name, who.address, act, on, BEGUN);
        self.write(begun, "and nothing is done").await
    }

    /// Writes down what came of what `who` asked for.
    pub(super) async fn did(
        &self,
        who: &Principal,
        act: &str,
        on: &str,
        status: u16,
    ) -> Result<(), Problem> {
        let came = entry(&who.name, who.address, act, on, &status.to_string());
        self.write(came, "so that what came of this is not told").await
    }

    /// Writes down that somebody with a token of nobody's was refused. What it was is not written down.
    pub(super) async fn refused(&self, from: Option<IpAddr>, on: &str, status: u16) {
        if self.audit.is_none() {
            return;
        }
        let is_one_too_many = {
            let now = self.clock.now();
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if now - refused.0 >= MINUTE {
                *refused = (now, 0);
            }
            refused.1 += 1;
            refused.1 > MOST_REFUSED
        };
        if is_one_too_many {
            METRICS.audit_skipped.increment();
            return;
        }
        // The refusal stays one, written down or not.
        let _ = self.write(entry("-", from, "authenticate", on, &status.to_string()), "").await;
    }

    async fn write(&self, entry: Entry, what_then: &str) -> Result<(), Problem> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let written = audit.write(entry).await;
        written.map_err(|error| {
            let reason = error.to_string();
            operator_report(&OperatorReport::AuditFailed { reason: &reason });
            let message = format!("the audit log cannot be written now, {what_then}");
            Problem::later("audit_failed", message, AGAIN)
        })
    }
}

fn entry(who: &str, from: Option<IpAddr>, act: &str, on: &str, outcome: &str) -> Entry {
    let [who, act, on, outcome] = [who, act, on, outcome].map(str::to_owned);
    Entry { who, from, act, on, outcome }
}
