//! Modules whose functions are called: which, when, and how many run at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::super::super::raw::{self, At};
use super::super::super::{FunctionConfig, FunctionListen, ModuleRun, Probe, ProbeKind, Trigger};
use super::super::{Checker, span};

/// What such a module takes.
pub(super) const KEYS: &[&str] = &[
    "on",
    "command",
    "inherit_env",
    "listen",
    "replicas",
    "concurrency",
    "max_queued",
    "job_timeout",
    "idle_timeout",
    "end_of_utterance",
    "result",
    "schemas",
    "readiness",
    "liveness",
];

/// Where those that only functions have stand, if they are there; but for `on`.
pub(super) fn spans(raw: &raw::Module) -> [(&'static str, Option<Range<usize>>); 11] {
    [
        ("listen", span(&raw.listen)),
        ("replicas", span(&raw.replicas)),
        ("concurrency", span(&raw.concurrency)),
        ("max_queued", span(&raw.max_queued)),
        ("job_timeout", span(&raw.job_timeout)),
        ("idle_timeout", span(&raw.idle_timeout)),
        ("end_of_utterance", span(&raw.end_of_utterance)),
        ("result", span(&raw.result)),
        ("schemas", span(&raw.schemas)),
        ("readiness", span(&raw.readiness)),
        ("liveness", span(&raw.liveness)),
    ]
}

const DEFAULT_JOB_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_END_OF_UTTERANCE: Duration = Duration::from_millis(500);
const DEFAULT_MAX_QUEUED: usize = 100;
const DEFAULT_PROBED_EVERY: Duration = Duration::from_secs(5);
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Checker<'_> {
    pub(super) fn function(
        &mut self,
        table: Range<usize>,
        on: &At<raw::On>,
        raw: &raw::Module,
    ) -> ModuleRun {
        if cfg!(not(feature = "functions")) {
            let help = "kind \"function\" is not part of this binary, which was built without the feature `functions`";
            self.problem(table.clone(), help);
        }
        let command = raw.command.as_ref().map(|at| at.get_ref().clone()).unwrap_or_default();
        if let Some(at) =
            raw.command.as_ref().filter(|at| at.get_ref().first().is_none_or(String::is_empty))
        {
            self.problem(
                at.span(),
                "found no program, expected a list such as [\"python3\", \"app.py\"]",
            );
        }
        if raw.command.is_none() && raw.listen.is_none() {
            let help = "kind \"function\" needs `command`, such as [\"python3\", \"app.py\"], or `listen`, where a program that is started by somebody else finds the bridge";
            self.problem(table, help);
        }
        let replicas = self.number(raw.replicas.as_ref(), 1..=64, 1);
        if let Some(at) = raw.replicas.as_ref().filter(|_| raw.listen.is_some() && replicas > 1) {
            self.problem(
                at.span(),
                "`listen` is for one replica: all would share its ports and its token",
            );
        }
        let timeout = Duration::from_millis(100)..=Duration::from_secs(3_600);
        let silence = Duration::from_millis(100)..=Duration::from_secs(10);
        ModuleRun::Function(Box::new(FunctionConfig {
            command,
            surroundings: self.surroundings(raw),
            on: self.triggers(on),
            replicas,
            concurrency: self.number(raw.concurrency.as_ref(), 1..=256, 1),
            max_queued: self.number(raw.max_queued.as_ref(), 1..=100_000, DEFAULT_MAX_QUEUED),
            job_timeout: self.time(raw.job_timeout.as_ref(), timeout.clone(), DEFAULT_JOB_TIMEOUT),
            idle_timeout: self.time(raw.idle_timeout.as_ref(), timeout, DEFAULT_IDLE_TIMEOUT),
            end_of_utterance: self.time(
                raw.end_of_utterance.as_ref(),
                silence,
                DEFAULT_END_OF_UTTERANCE,
            ),
            result: raw.result.as_ref().map(|at| *at.get_ref()).unwrap_or_default(),
            schemas: raw.schemas.as_ref().map(|at| *at.get_ref()).unwrap_or_default(),
            listen: raw.listen.as_ref().map(|at| self.listen(at)),
            readiness: self.probe(raw.readiness.as_ref(), replicas),
            liveness: self.liveness(raw, replicas),
        }))
    }

    fn liveness(&mut self, raw: &raw::Module, replicas: usize) -> Option<Probe> {
        if let Some(at) = raw.liveness.as_ref().filter(|_| raw.command.is_none()) {
            let help =
                "needs `command`: a program that somebody else starts is not started again here";
            self.problem(at.span(), help);
        }
        self.probe(raw.liveness.as_ref(), replicas)
    }

    fn probe(&mut self, at: Option<&At<raw::Probe>>, replicas: usize) -> Option<Probe> {
        let at = at?;
        let raw::Probe { exec, http, every, timeout } = at.get_ref();
        let kind = match (exec, http) {
            (Some(command), None) => {
                if command.get_ref().first().is_none_or(String::is_empty) {
                    let help = "found no program, expected a list such as [\"test\", \"-e\", \"/run/app.ready\"]";
                    self.problem(command.span(), help);
                }
                ProbeKind::Exec(command.get_ref().clone())
            }
            (None, Some(url)) => match url.get_ref().parse() {
                Ok(parsed) => {
                    if replicas > 1 {
                        let help = "is one page for all `replicas`, which cannot tell which of them is well; `exec` can";
                        self.problem(url.span(), help);
                    }
                    ProbeKind::Http(parsed)
                }
                Err(error) => {
                    self.problem(url.span(), &error);
                    return None;
                }
            },
            _ => {
                let help = "a probe has either `exec`, such as [\"test\", \"-e\", \"/run/app.ready\"], or `http`, such as \"http://127.0.0.1:8000/ready\"";
                self.problem(at.span(), help);
                return None;
            }
        };
        let within = Duration::from_millis(100)..=Duration::from_secs(600);
        let every = self.time(every.as_ref(), within.clone(), DEFAULT_PROBED_EVERY);
        let timeout = self.time(timeout.as_ref(), within, DEFAULT_PROBE_TIMEOUT);
        Some(Probe { kind, every, timeout })
    }

    fn triggers(&mut self, at: &At<raw::On>) -> BTreeMap<Trigger, String> {
        let on = at.get_ref();
        let named = [
            (Trigger::Start, &on.start),
            (Trigger::Transcript, &on.transcript),
            (Trigger::Partial, &on.partial),
            (Trigger::Utterance, &on.utterance),
            (Trigger::Dtmf, &on.dtmf),
            (Trigger::End, &on.end),
        ];
        let mut functions = BTreeMap::new();
        for (trigger, name) in named {
            let Some(name) = name else { continue };
            if name.get_ref().trim().is_empty() {
                self.problem(name.span(), "found nothing, expected the name of a function");
            }
            functions.insert(trigger, name.get_ref().clone());
        }
        if functions.is_empty() {
            let keys = Trigger::ALL.map(Trigger::name).join(", ");
            self.problem(at.span(), format!("names no function; it may have {keys}"));
        }
        functions
    }

    fn listen(&mut self, at: &At<raw::Listen>) -> FunctionListen {
        let raw::Listen { address, host, dir } = at.get_ref();
        let parsed = match address {
            Some(address) => address.get_ref().parse::<SocketAddr>().map_err(|_| {
                self.problem(
                    address.span(),
                    "is no address, expected one such as \"127.0.0.1:8945\"",
                );
            }),
            None => {
                self.problem(at.span(), "`listen` needs `address`, such as \"127.0.0.1:8945\"; plain HTTP is at the port above it");
                Err(())
            }
        };
        let address = parsed.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8_945)));
        if dir.is_none() {
            self.problem(at.span(), "`listen` needs `dir`, a folder for the token, certificate and environment that the program is given");
        }
        FunctionListen {
            address,
            host: host
                .as_ref()
                .map_or_else(|| "localhost".to_owned(), |host| host.get_ref().clone()),
            dir: dir.as_ref().map(|dir| PathBuf::from(dir.get_ref())).unwrap_or_default(),
        }
    }
}
