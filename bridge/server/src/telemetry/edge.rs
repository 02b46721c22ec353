//! What is reported of connections before anybody knows whose they are, and of what they are taken with: certificates, threads, memory.
//! Decides nothing.

use std::net::SocketAddr;

use tracing::{debug, error, info, warn};

use super::metrics::{METRICS, Metrics};

/// Something that happened before there was a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum EdgeReport<'a> {
    /// A connection was refused before a request was read, or as soon as it was known who came through a proxy.
    ConnectionRefused {
        /// Whose; through a proxy of ours, without a port.
        peer: SocketAddr,
        /// What there is too little of, in a word.
        reason: &'static str,
        /// So many are open already.
        limit: usize,
    },
    /// There is too little of something for new calls, less still, or enough again.
    Strained {
        /// Of what; `None` if there is enough.
        refuses: Option<&'static str>,
        /// Whether captures are given up as well.
        sheds: bool,
        /// All that is known.
        load: &'a str,
    },
    /// The certificate of a listener was read again.
    CertificateRenewed {
        /// Whose.
        whose: &'a str,
    },
    /// It was to be read again, and what was found is of no use.
    CertificateNotRenewed {
        /// Whose.
        whose: &'a str,
        /// What is wrong with which file.
        reason: &'a str,
    },
}

/// Makes a log line and a figure of it.
pub fn report_edge(report: &EdgeReport<'_>) {
    report_to(&METRICS, report);
}

fn report_to(metrics: &Metrics, report: &EdgeReport<'_>) {
    match report {
        EdgeReport::ConnectionRefused { peer, reason, limit } => {
            let known = match *reason {
                "address" => &metrics.connections_refused_address,
                _ => &metrics.connections_refused,
            };
            known.increment();
            let refused = known.get();
            // Who floods us with connections shall not flood the log.
            if refused.is_power_of_two() {
                warn!(%peer, reason, limit, refused, "connection refused: too many are open");
            } else {
                debug!(%peer, reason, limit, "connection refused: too many are open");
            }
        }
        EdgeReport::Strained { refuses: Some(reason), sheds, load } => {
            warn!(reason, sheds, load, "too much to do: new calls are refused");
        }
        EdgeReport::Strained { refuses: None, load, .. } => {
            info!(load, "room again: new calls are taken");
        }
        EdgeReport::CertificateRenewed { whose } => {
            metrics.certificates_renewed.increment();
            info!(whose, "certificate read again: new connections are shown it");
        }
        EdgeReport::CertificateNotRenewed { whose, reason } => {
            metrics.certificates_refused.increment();
            error!(
                whose,
                reason,
                "certificate read again and not taken: the last good one goes on to be shown"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_connections_is_counted_and_does_not_flood_the_log() {
        let metrics = Metrics::new();
        let peer = "192.0.2.7:4711".parse().unwrap();
        let log = crate::telemetry::capture(|| {
            for _ in 0..1_000 {
                let (reason, limit) = ("address", 100);
                report_to(&metrics, &EdgeReport::ConnectionRefused { peer, reason, limit });
            }
            let (reason, limit) = ("connections", 4096);
            report_to(&metrics, &EdgeReport::ConnectionRefused { peer, reason, limit });
        });
        let counts = [&metrics.connections_refused_address, &metrics.connections_refused];
        assert_eq!(counts.map(|metric| metric.get()), [1_000, 1]);
        let loud = log.lines().filter(|line| line.contains(" WARN "));
        assert_eq!(loud.count(), 11, "one for each power of two");
    }
}
