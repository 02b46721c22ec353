//! What replicas print: structured lines of the clients become lines of the log that name the call, others pass as they are. Keeps
//! nothing but the last line.

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::super::stderr::{LastLine, Lines};
use crate::telemetry::ModuleLine;

/// Octets read at once.
const PIECE: usize = 4_096;

/// A line as the clients write it (`type` is `service.1`).
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    message: String,
    #[serde(default)]
    params: Params,
}

#[derive(Debug, Default, Deserialize)]
struct Params {
    #[serde(default)]
    job_id: String,
}

/// Logs every line until the pipe is closed.
pub(super) async fn log_lines(module: String, mut pipe: impl AsyncRead + Unpin, last: LastLine) {
    let mut lines = Lines::default();
    let mut piece = vec![0; PIECE];
    let log = |line: &str| match structured(line) {
        Some(line) => {
            last.set(&line.message);
            write(&module, &line);
        }
        None => {
            last.set(line);
            tracing::info!(module, "{}", ModuleLine(line));
        }
    };
    while let Ok(len @ 1..) = pipe.read(&mut piece).await {
        lines.push(&piece[..len], log);
    }
    lines.finish(log);
}

fn structured(line: &str) -> Option<Line> {
    line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
}

fn write(module: &str, line: &Line) {
    let (job, text) = (line.params.job_id.as_str(), ModuleLine(&line.message));
    let call = call_of(job);
    match line.level.as_str() {
        "ERROR" | "FATAL" | "CRITICAL" => tracing::error!(module, call, job, "{text}"),
        "WARN" | "WARNING" => tracing::warn!(module, call, job, "{text}"),
        "DEBUG" | "TRACE" => tracing::debug!(module, call, job, "{text}"),
        _ => tracing::info!(module, call, job, "{text}"),
    }
}

/// A job is called after its call, the call's module and a number.
fn call_of(job: &str) -> &str {
    job.rsplitn(3, '-').nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_clients_are_understood() {
        let line = r#"{"type": "service.1", "level": "INFO", "time": "t", "origin": "o.py:1", "thread": "MainThread",
            "params": {"process_id": "7", "job_id": "20261121T070509Z-000001-0-3", "session_id": ""}, "message": "hello", "safe": true}"#;
        let line = structured(line).unwrap();
        assert_eq!((line.level.as_str(), line.message.as_str()), ("INFO", "hello"));
        assert_eq!(call_of(&line.params.job_id), "20261121T070509Z-000001");
        assert_eq!(call_of(""), "");
        for other in ["plain", "{\"a\": 1}", "{"] {
            assert!(structured(other).is_none(), "{other}");
        }
    }
}
