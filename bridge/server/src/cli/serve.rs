//! `ringback serve`: takes calls until it is told to stop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use super::{LogArgs, screen};
use crate::bridge::Bridge;
use crate::capture::Capture;
use crate::clock::Clock;
use crate::config::{Config, Context, FILE_NAME, Overrides};
use crate::events::Subscription;
use crate::exit::Exit;
use crate::listener::Drained;
use crate::net::{Listener as _, TcpListener};
use crate::operator::{OperatorConfig, Reloading};
use crate::outgoing::Connector;
use crate::overload::raise_descriptors;
use crate::reload;
use crate::shutdown::Shutdown;
use crate::tls::{Identity, TlsListener};
use crate::workers::{Tick, Workers};

/// What is captured has so long to be written when all calls are over.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Options of `ringback serve`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Configuration; the default is ringback.toml in this folder, if there is one.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the configuration again whenever its file has changed; on SIGHUP it is in any case. New calls take what is new, live ones
    /// keep what they began with. A file with anything wrong in it changes nothing. And start modules' processes anew for new calls when
    /// their files have changed: those that the commands name, those of the same kind beside them, and those in the folders of `watch`.
    #[arg(long)]
    watch: bool,
    /// Read no configuration file at all.
    #[arg(long, conflicts_with = "config")]
    no_config: bool,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", env = "RINGBACK_BIND")]
    bind: Option<SocketAddr>,
    /// Send all calls to this module: a command line, run for each call, or for several if the module takes more than one at a time,
    /// or the ws:// or wss:// URL of a server, dialled once for each. May be given several times; the first one speaks.
    #[arg(long = "module", short, value_name = "COMMAND", conflicts_with = "config")]
    modules: Vec<String>,
    /// Record all calls into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    record: Option<PathBuf>,
    /// Capture all calls into this folder: a file for each, with all that was said on its wire both ways, as `ringback replay` and
    /// the project's tests read them. Credentials are left out; sound becomes silence of the same length; numbers, names,
    /// identifiers, custom parameters, keys pressed and texts become stand-ins of the same shape.
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// Keep the sound in captures. Everything else is replaced as before.
    #[arg(long)]
    capture_audio: bool,
    /// Calls at a time.
    #[arg(long, value_name = "N", conflicts_with = "config")]
    max_calls: Option<usize>,
    /// Print what is said on all calls as it is understood.
    #[arg(long)]
    show: bool,
    /// Threads that serve calls; 0 is one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// When a thread serves frames in batches, a millisecond apart: least work, against least latency.
    #[arg(long, value_name = "WHEN")]
    tick: Option<Tick>,
}

pub(super) fn run(args: &Args, log: &LogArgs) -> Exit {
    let config = match load(args, log) {
        Ok(config) => config,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    if let Err(error) = crate::telemetry::init(&config.log) {
        return screen::failed(Exit::Usage, error);
    }
    harden();
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config, args, log)),
        Err(error) => screen::failed(Exit::Internal, error),
    }
}

/// What holds for this process and all that it starts. It comes before there are other threads, which take it from this one.
#[cfg(target_os = "linux")]
fn harden() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // Neither a core dump nor a program of the same user, a module say, may read the secrets in its memory.
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // No program that it starts gets more privileges than it has itself, whatever file it runs (setuid).
    let privileges = rustix::thread::set_no_new_privs(true);
    for failed in [dumpable.err(), privileges.err()].into_iter().flatten() {
        screen::problem(format!("the system does not let this process be guarded: {failed}"));
    }
}

/// Elsewhere the system knows nothing of the kind.
#[cfg(not(target_os = "linux"))]
fn harden() {}

fn load(args: &Args, log: &LogArgs) -> Result<Config, String> {
    let (threads, tick) = (args.threads, args.tick);
    let overrides = Overrides {
        bind: args.bind,
        threads,
        tick,
        capture: args.capture.clone(),
        capture_audio: args.capture_audio,
        ..log.overrides()
    };
    let context = Context::of_process();
    let config = if is_ad_hoc(args) {
        Config::parse("the command line", &as_toml(args)?, &overrides, &context)
    } else if args.no_config {
        Config::defaults(&overrides, &context)
    } else {
        Config::load(args.config.as_deref(), &overrides, &context)
    };
    config.map_err(|error| error.to_string())
}

/// What the flags ask for, written as a configuration, so that there is one way to check it.
fn as_toml(args: &Args) -> Result<String, String> {
    let mut text = String::new();
    let mut names = Vec::new();
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if let Some(max) = args.max_calls {
        let _ = writeln!(
            text,
            "[limits]\nmax_calls = {max}\nmax_connections = {}",
            max.saturating_add(100)
        );
    }
    for (index, command) in args.modules.iter().enumerate() {
        let name = format!("module-{}", index + 1);
        let run = if command.starts_with("ws://") || command.starts_with("wss://") {
            format!("url = {}", quote(command))
        } else {
            let words = words(command).map_err(|error| format!("--module: {error}"))?;
            let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
            // Whoever types it has its environment before their eyes.
            format!("command = [{}]\ninherit_env = [\"*\"]", words.join(", "))
        };
        let _ = writeln!(text, "[[module]]\nname = \"{name}\"\n{run}");
        names.push(name);
    }
    if names.is_empty() {
        text.push_str("[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n");
        names.push("echo".into());
    }
    let speaker = names[0].clone();
    if let Some(dir) = &args.record {
        let dir = quote(&dir.display().to_string());
        let _ = writeln!(
            text,
            "[[module]]\nname = \"recorder\"\nbuiltin = \"recorder\"\nconfig = {{ dir = {dir} }}"
        );
        names.push("recorder".into());
    }
    let list: Vec<_> = names.iter().map(|name| quote(name)).collect();
    let _ = writeln!(
        text,
        "[[route]]\nname = \"default\"\nmodules = [{}]\nspeaker = \"{speaker}\"",
        list.join(", ")
    );
    Ok(text)
}

/// Splits a command line at spaces; quotes hold words together. No shell is asked, so nothing else means anything.
pub(super) fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("{command:?}: a quote is not closed"));
    }
    words.extend(word);
    if words.is_empty() { Err("the command is empty".into()) } else { Ok(words) }
}

/// The file that the configuration comes from, if it comes from one.
fn file(args: &Args) -> Option<PathBuf> {
    let usual = || args.config.clone().unwrap_or_else(|| FILE_NAME.into());
    (!is_ad_hoc(args) && !args.no_config).then(usual)
}

/// Whether flags take the place of a configuration.
fn is_ad_hoc(args: &Args) -> bool {
    !args.modules.is_empty() || args.record.is_some() || args.max_calls.is_some()
}

async fn serve(config: Config, args: &Args, log: &LogArgs) -> Exit {
    let capture = match config.capture.clone().map(Capture::start).transpose() {
        Ok(capture) => capture,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    let (capture, captured) = capture.unzip();
    let listener = match TcpListener::bind(config.bind) {
        Ok(listener) => listener,
        Err(error) => {
            return screen::failed(
                Exit::Unavailable,
                format!("cannot listen on {}: {error}", config.bind),
            );
        }
    };
    let mut told = config.clone();
    if let Ok(address) = listener.local_addr() {
        told.bind = address;
    }
    let identity = match prepare(&config) {
        Ok(identity) => identity,
        Err(error) => return screen::failed(Exit::Usage, error),
    };
    config.recordings.repair_beside();
    config.recordings.expire_beside();
    raise_descriptors();
    let shutdown = Shutdown::new();
    if let Err(error) = shutdown.on_signals() {
        return screen::failed(Exit::Internal, format!("cannot watch for signals: {error}"));
    }
    let workers = match Workers::start(config.threads, config.tick) {
        Ok(workers) => workers,
        Err(error) => {
            return screen::failed(
                Exit::Internal,
                format!("cannot start threads to serve calls: {error}"),
            );
        }
    };
    let bridge = Bridge::new(&config, Clock::start(), shutdown, None)
        .capturing(capture)
        .watching(args.watch);
    let (again, logged) = (args.clone(), log.clone());
    let read: reload::Read = Arc::new(move || load(&again, &logged));
    let watched = file(args).filter(|_| args.watch);
    let operating = match operating(&bridge, &config, &read) {
        Ok(operating) => operating,
        Err(error) => return screen::failed(Exit::Unavailable, error),
    };
    match reload::on_demand(bridge.reloading(), read, watched) {
        Ok(reloading) => drop(tokio::spawn(reloading)),
        Err(error) => {
            let what = format!("cannot watch for signals: {error}");
            return screen::failed(Exit::Internal, what);
        }
    }
    screen::print(&told.summary());
    screen::line(format!("listening on {}", told.url()));
    let shown = args.show.then(|| tokio::spawn(transcripts(bridge.events().subscribe(None))));
    let drained = take(bridge, &config, listener, identity, workers).await;
    if let Some(operating) = operating {
        // It ends soon after the last call; all it can fail by is a panic, which was told.
        let _ = operating.await;
    }
    if let Some(shown) = shown {
        // It ends with the bridge; all it can fail by is a panic, which was told.
        let _ = shown.await;
    }
    if let Some(captured) = captured
        && !captured.wait(LAST_LINES).await
    {
        screen::problem("the last lines of captures could not be written in time");
    }
    if drained.cut > 0 { Exit::Failure } else { Exit::Ok }
}

/// Looks at all files that a configuration names before anything starts, and gives what the bridge proves itself by.
fn prepare(config: &Config) -> Result<Option<Identity>, String> {
    let identity = config.tls.as_ref().map(Identity::load).transpose();
    let identity = identity.map_err(|error| format!("`tls` of [server]: {error}"))?;
    for trust in config.trusts() {
        Connector::new(trust).prepare().map_err(|error| error.to_string())?;
    }
    config.recordings.prepare()?;
    Ok(identity)
}

/// Takes calls until all have ended.
async fn take(
    bridge: Bridge,
    config: &Config,
    listener: TcpListener,
    identity: Option<Identity>,
    workers: Workers,
) -> Drained {
    match identity {
        None => bridge.run(config, listener, workers).await,
        Some(identity) => {
            let listener = TlsListener::new(listener, identity.clone());
            tokio::spawn(async move { identity.keep_fresh("server.tls").await });
            bridge.run(config, listener, workers).await
        }
    }
}

/// The operator's side, if there is one.
fn operating(
    bridge: &Bridge,
    config: &Config,
    read: &reload::Read,
) -> Result<Option<JoinHandle<()>>, String> {
    let Some(OperatorConfig { bind, tls, .. }) = &config.operator else { return Ok(None) };
    let identity = tls.as_ref().map(|files| Identity::speaking(&["h2", "http/1.1"], files));
    let identity = identity.transpose().map_err(|error| format!("`tls` of [operator]: {error}"))?;
    let listener =
        TcpListener::bind(*bind).map_err(|error| format!("cannot listen on {bind}: {error}"))?;
    let (reload, read) = (bridge.reloading(), Arc::clone(read));
    let reloading: Reloading = Arc::new(move || reload::again(&reload, read.as_ref()));
    let address = listener.local_addr().unwrap_or(*bind);
    let scheme = if tls.is_some() { "https" } else { "http" };
    screen::line(format!("for operators on {scheme}://{address}"));
    let Some(side) = bridge.operator(config, Some(reloading)).transpose()? else { return Ok(None) };
    Ok(Some(match identity {
        None => tokio::spawn(side.run(listener)),
        Some(identity) => {
            let listener = TlsListener::new(listener, identity.clone());
            tokio::spawn(async move { identity.keep_fresh("operator.tls").await });
            tokio::spawn(side.run(listener))
        }
    }))
}

/// Prints what is said on all calls, until the bridge ends.
async fn transcripts(mut events: Subscription) {
    let mut open = Open::default();
    while let Some(json) = events.next().await {
        let Some(line) = serde_json::from_str(&json).ok().and_then(|event| open.said(&event))
        else {
            continue;
        };
        // A terminal that is held up must not hold up a thread that serves calls.
        let _ = tokio::task::spawn_blocking(|| screen::line(line)).await;
    }
}

/// Words that modules have spoken for them and have not ended, by call and module.
#[derive(Default)]
struct Open(BTreeMap<(String, String), String>);

impl Open {
    /// An utterance that gets longer than this is shown in pieces.
    const MOST_OCTETS: usize = 4 * 1024;

    /// The line for a final transcript, for what a module has said, and for what may have been missed.
    fn said(&mut self, event: &Value) -> Option<String> {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (at, call, module) = (text("at"), text("call"), text("module"));
        let key = || (call.to_owned(), module.to_owned());
        match text("type") {
            "transcript" if event["final"] == true => {
                // Words that the provider heard have no module, and no time of their own.
                let (who, timed) = match module {
                    "" => (text("provider"), false),
                    module => (module, true),
                };
                let late = event["at_ms"].as_u64().zip(event["end_ms"].as_u64()).filter(|_| timed);
                let late = late.map(|(at, end)| format!("  (+{} ms)", at.saturating_sub(end)));
                let late = late.unwrap_or_default();
                Some(format!("{at}  {call}  {who}: {}{late}", text("text")))
            }
            "say" => {
                let open = self.0.entry(key()).or_default();
                open.push_str(text("text"));
                if event["last"] != true && open.len() < Self::MOST_OCTETS {
                    return None;
                }
                let words = self.0.remove(&key()).filter(|words| !words.is_empty())?;
                Some(format!("{at}  {call}  {module} says: {words}"))
            }
            "cleared" => {
                self.0.retain(|(of, _), _| of != call);
                let heard = event["heard"].as_str()?;
                Some(format!("{at}  {call}  interrupted after: {heard}"))
            }
            "call.ended" => {
                self.0.retain(|(of, _), _| of != call);
                None
            }
            "lagged" => {
                self.0.clear();
                Some(format!("({} events were too many to be shown)", event["missed"]))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Open, words};

    #[test]
    fn what_is_said_is_shown_when_it_is_final() {
        let event = json!({
            "at": "2026-11-21T07:05:09.042Z", "at_ms": 2_345, "call": "c1", "provider": "twilio", "module": "stt",
            "type": "transcript", "id": "u1", "text": "hello there", "final": true, "start_ms": 900, "end_ms": 2_000,
        });
        let line = "2026-11-21T07:05:09.042Z  c1  stt: hello there  (+345 ms)";
        let mut open = Open::default();
        assert_eq!(open.said(&event).as_deref(), Some(line));
        assert_eq!(open.said(&json!({"type": "transcript", "final": false, "text": "hel"})), None);
        assert_eq!(open.said(&json!({"type": "vad", "state": "speech"})), None);
        assert!(open.said(&json!({"type": "lagged", "missed": 7})).unwrap().contains("7 events"));
    }

    #[test]
    fn words_both_ways_are_shown_by_the_utterance() {
        let mut open = Open::default();
        let mut said = |kind: &str, more: serde_json::Value| {
            let mut event = json!({"at": "now", "at_ms": 9, "call": "c1", "type": kind});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            open.said(&event)
        };
        let heard = json!({"provider": "p", "text": "Hi.", "final": true, "end_ms": 9});
        assert_eq!(said("transcript", heard).as_deref(), Some("now  c1  p: Hi."));
        let say = |text: &str, last: bool| json!({"module": "bot", "text": text, "last": last});
        assert_eq!(said("say", say("Good ", false)), None);
        assert_eq!(said("say", say("day.", true)).as_deref(), Some("now  c1  bot says: Good day."));
        assert_eq!(said("say", say("", true)), None);
        assert_eq!(said("say", say("Let me ", false)), None);
        let line = said("cleared", json!({"heard": "Let"}));
        assert_eq!(line.as_deref(), Some("now  c1  interrupted after: Let"));
        assert_eq!(said("say", say("Yes?", true)).as_deref(), Some("now  c1  bot says: Yes?"));
        assert_eq!(said("cleared", json!({"played_ms": 4})), None, "of sound, this is not shown");
        assert_eq!(said("say", say("Good", false)), None);
        assert_eq!(said("call.ended", json!({})), None);
        assert!(open.0.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_serves_leaves_no_core_and_is_read_by_no_program_of_its_user() {
        use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        super::harden();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        set_dumpable_behavior(DumpableBehavior::Dumpable).expect("as before, for other tests");
    }

    #[test]
    fn command_lines_are_split_at_spaces_outside_quotes() {
        assert_eq!(words("python3 my_stt.py").unwrap(), ["python3", "my_stt.py"]);
        assert_eq!(
            words(" a  \"b c\" 'd \"e' f''g \"\"").unwrap(),
            ["a", "b c", "d \"e", "fg", ""]
        );
        assert!(words("a 'b").unwrap_err().contains("not closed"));
        assert!(words("  ").is_err());
    }
}
