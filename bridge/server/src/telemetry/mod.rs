//! What the process tells its operator: log lines, figures, and the types that keep secrets out of both. Decides nothing.

mod call;
mod edge;
mod metrics;
mod operator;
mod redact;
mod report;
mod sinks;

use std::fmt;
use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::WallTime;

pub use call::CallReport;
pub use edge::{EdgeReport, report_edge};
pub use metrics::{METRICS, Metric, Metrics};
pub use operator::OperatorReport;
pub(crate) use operator::operator_report;
pub(crate) use redact::ModuleLine;
pub use redact::{PeerText, Phone, Redacted};
pub use report::{Report, report};
pub use sinks::{Lost, SinkFigures, SinkReport, sink_figures};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people; in colours if standard error is a terminal and `NO_COLOR` is not set.
    #[default]
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// Level, or directives as in `info,ringback::socket=debug`.
    pub filter: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".into() }
    }
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter is none.
    #[error(
        "{found:?} is not a log filter ({reason}); use a level (error, warn, info, debug, trace) or target=level, ..."
    )]
    Filter {
        /// The filter given.
        found: String,
        /// What the parser said.
        reason: String,
    },
    /// Somebody set up the log before.
    #[error("the log is already set up")]
    AlreadySet,
}

impl LogOptions {
    /// Parses the filter.
    ///
    /// # Errors
    /// [`LogError::Filter`] if it is none.
    pub fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
        EnvFilter::try_new(filter).map_err(|error| LogError::Filter {
            found: filter.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// Sends the process' log to standard error from here on. Standard output stays free for results.
///
/// # Errors
/// If the filter is none, or on the second call.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let filter = LogOptions::parse_filter(&options.filter)?;
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(options.format, filter, colours, std::io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Timestamps)
        .with_ansi(colours)
        .with_target(false)
        .with_writer(writer);
    match format {
        LogFormat::Human => Box::new(lines.finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

/// Labels lines with the bridge's own reading of the wall clock.
struct Timestamps;

impl FormatTime for Timestamps {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", WallTime::now())
    }
}

/// All that `act` logs on this thread, at every level, as people would see it.
#[cfg(test)]
pub(crate) fn capture(act: impl FnOnce()) -> String {
    tests::capture_as(LogFormat::Human, act)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(super) fn capture_as(format: LogFormat, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let sink = buffer.clone();
        let filter = LogOptions::parse_filter("trace").unwrap();
        let subscriber = subscriber(format, filter, false, move || sink.clone());
        tracing::subscriber::with_default(subscriber, act);
        let octets = buffer.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let log = capture_as(LogFormat::Json, || report(&Report::Drained { cut: 2 }));
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["cut"], 2);
        assert_eq!(line["message"], "drained");
        assert_eq!(line["level"], "INFO");
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == 24, "{time}");
    }

    #[test]
    fn human_lines_carry_no_colours_off_a_terminal() {
        let log = capture(|| report(&Report::Drained { cut: 0 }));
        assert!(log.contains(" INFO drained cut=0"), "{log}");
        assert!(!log.contains('\x1b'));
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let error = LogOptions::parse_filter("ringback=loud").unwrap_err().to_string();
        assert!(error.contains("ringback=loud") && error.contains("debug"), "{error}");
        assert!(LogOptions::parse_filter("info,ringback::socket=debug").is_ok());
    }
}
