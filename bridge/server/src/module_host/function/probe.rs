//! Probes of a replica: a program that is run, or a page that is asked for, again and again. Says how it went; what follows from that is
//! said elsewhere.

use std::process::Stdio;

use hyper::Method;
use tokio::process::Command;
use tokio::time::timeout;

use super::replica::Group;
use crate::config::{Probe, ProbeKind};
use crate::module_host::Surroundings;
use crate::outgoing::Connector;
use crate::outgoing::http::{self, Ask, Bounds};

/// A longer page is no answer; what it says is not looked at.
const PAGE: usize = 1024 * 1024;

/// Probes once.
///
/// # Errors
/// Why it is no success: a program that does not end with 0, a page that is not answered with 200 to 399, or neither in time.
pub(super) async fn probe(
    probe: &Probe,
    connector: &Connector,
    surroundings: &Surroundings,
    environment: &[(&'static str, String)],
) -> Result<(), String> {
    match &probe.kind {
        ProbeKind::Exec(command) => {
            let ran = timeout(probe.timeout, exec(command, surroundings, environment)).await;
            ran.unwrap_or_else(|_| Err(format!("{:?} did not end in time", command[0])))
        }
        ProbeKind::Http(url) => {
            let ask =
                Ask { method: Method::GET, url, authorization: None, headers: &[], body: None };
            let bounds = Bounds { deadline: probe.timeout, body: PAGE };
            let answer = http::ask(connector, &ask, bounds).await;
            match answer.map_err(|error| error.to_string())?.status {
                200..400 => Ok(()),
                status => Err(format!("it was answered with {status}")),
            }
        }
    }
}

async fn exec(
    command: &[String],
    surroundings: &Surroundings,
    environment: &[(&'static str, String)],
) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("its command is empty")?;
    let mut command = Command::new(program);
    surroundings.enclose(&mut command);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {program:?}: {error}"))?;
    // One that takes too long goes with all that it started.
    let _group = Group::of(&child);
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program:?} ended with {}", super::super::child::exit_text(status)))
    }
}
