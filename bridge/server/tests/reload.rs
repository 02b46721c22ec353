//! Another configuration while calls go on, over sockets: what live calls keep, what new ones get, and what has to wait for a restart.

mod support;

use ringback_proto::provider::{Dial, find};
use ringback_proto::session::Summary;
use support::{Caller, Folder, Host, Process, assert_whole, config, known};

/// A listener whose calls go to an echo of that name, with more keys of each.
fn toml(listener: &str, module: &str, keys: &str) -> String {
    format!(
        "[[listener]]\nname = \"raw\"\npath = \"/raw\"\nprovider = \"raw\"\n{listener}\n\
         [[module]]\nname = \"{module}\"\nbuiltin = \"echo\"\n{keys}\n"
    )
}

async fn call(host: &Host, name: &str, token: &str) -> Caller {
    let dial = Dial { target: "/raw".into(), call: name.into(), ..Dial::default() };
    let (stream, provider) = (host.connect().await, find("raw").expect("a provider"));
    let headers = [("authorization", token)];
    Caller::dial(host.clock, stream, provider, &dial, &headers).await.expect("it is let in")
}

async fn talk(caller: &mut Caller) {
    caller.speak(&(0..1_600).map(known).collect::<Vec<_>>()).await;
}

/// How a call ended on which nothing was lost.
async fn end(host: &Host, name: &str, caller: Caller) -> Summary {
    let caller = caller.hang_up().await;
    assert_eq!(caller.samples_heard, caller.samples_sent, "{name}");
    let summary = host.log.ended(name).await;
    assert_whole(&summary, &[]);
    summary
}

fn modules(summary: &Summary) -> Vec<&str> {
    summary.modules.iter().map(|module| module.name.as_str()).collect()
}

#[tokio::test]
async fn a_live_call_keeps_its_modules_and_the_next_one_gets_the_new_ones() {
    let host = Host::on_loopback(&toml("", "old", ""));
    let mut first = call(&host, "first", "").await;
    talk(&mut first).await;
    assert_eq!(host.reload.apply(config(&toml("", "new", ""))), Ok(Vec::new()));
    talk(&mut first).await;
    let mut second = call(&host, "second", "").await;
    talk(&mut second).await;
    talk(&mut first).await;
    assert_eq!(modules(&end(&host, "second", second).await), ["new"]);
    assert_eq!(modules(&end(&host, "first", first).await), ["old"]);
    // The same module with other settings is another one, too: it begins with 100 ms of silence.
    let later = config(&toml("", "new", "config = { delay_ms = 100 }"));
    assert_eq!(host.reload.apply(later), Ok(Vec::new()));
    let mut third = call(&host, "third", "").await;
    talk(&mut third).await;
    let heard = third.heard.concat();
    end(&host, "third", third).await;
    let first_sound = heard.iter().position(|octet| ![0, 0xff, 0x7f, 0xd5].contains(octet));
    assert!(first_sound.is_some_and(|at| at >= 800), "{first_sound:?}");
    host.stop().await;
}

#[tokio::test]
async fn routes_come_and_go_and_a_listener_that_is_taken_away_takes_no_more_calls() {
    let route = |name: &str, when: &str| {
        format!("[[route]]\nname = \"{name}\"\nmodules = [\"echo\"]\n{when}\n")
    };
    let host = Host::on_loopback(&(toml("", "echo", "") + &route("all", "")));
    let mut caller = call(&host, "before", "").await;
    talk(&mut caller).await;
    assert_eq!(end(&host, "before", caller).await.route.as_deref(), Some("all"));
    let ours = route("ours", "when = { listener = \"raw\" }");
    host.reload.apply(config(&(toml("", "echo", "") + &ours))).expect("it can hold");
    let mut caller = call(&host, "after", "").await;
    talk(&mut caller).await;
    assert_eq!(end(&host, "after", caller).await.route.as_deref(), Some("ours"));
    let other =
        toml("", "echo", "").replace("\"raw\"\npath = \"/raw", "\"other\"\npath = \"/other");
    assert_eq!(host.reload.apply(config(&other)), Ok(vec!["listener.other".to_owned()]));
    let dial = Dial { target: "/raw".into(), ..Dial::default() };
    let (stream, provider) = (host.connect().await, find("raw").expect("a provider"));
    let refused = Caller::dial(host.clock, stream, provider, &dial, &[]).await.map(drop);
    assert!(refused.is_err_and(|error| error.to_string().contains("404")), "it is gone");
    host.stop().await;
}

#[tokio::test]
async fn a_credential_is_replaced_for_calls_to_come_unless_what_it_guards_changes_too() {
    let folder = Folder::new("reload-token");
    let auth = |name: &str, secret: &str, more: &str| {
        let file = folder.write(name, secret);
        let token = support::quoted(format!("file:{}", file.display()));
        config(&toml(
            &format!("auth = {{ kind = \"bearer\", token = {token} }}\n{more}"),
            "echo",
            "",
        ))
    };
    let host = Host::on_loopback(&toml("insecure = true", "echo", ""));
    assert_eq!(host.reload.apply(auth("a", "one", "")), Ok(Vec::new()));
    let mut caller = call(&host, "one", "Bearer one").await;
    talk(&mut caller).await;
    assert_eq!(host.reload.apply(auth("b", "two", "")), Ok(Vec::new()));
    talk(&mut caller).await;
    end(&host, "one", caller).await;
    let caller = call(&host, "two", "Bearer two").await;
    drop(caller);
    // Who is let in from elsewhere is not let in by another secret before it is.
    let keys = host.reload.apply(auth("c", "three", "allow = [\"127.0.0.0/8\"]"));
    assert_eq!(keys, Ok(vec!["listener.raw.allow".to_owned(), "listener.raw.auth".to_owned()]));
    let caller = call(&host, "three", "Bearer two").await;
    drop(caller);
    host.stop().await;
}

#[tokio::test]
async fn what_cannot_change_is_named_and_the_rest_holds() {
    let host = Host::on_loopback(&toml("", "old", ""));
    let other = "[limits]\nmax_calls = 7\nmax_message = 4096\n[log]\nlevel = \"debug\"\n";
    let listener = "max_calls = 3\nkeepalive = \"off\"\norigins = [\"https://a.example\"]";
    let other = other.to_owned() + &toml(listener, "new", "").replace("\"/raw\"", "\"/elsewhere\"");
    let named = [
        "limits.max_calls",
        "log.level",
        "limits.max_message",
        "listener.raw.path",
        "listener.raw.max_calls",
        "listener.raw.origins",
        "listener.raw.keepalive",
    ];
    for _ in 0..2 {
        assert_eq!(host.reload.apply(config(&other)).expect("the rest can hold"), named);
    }
    let mut caller = call(&host, "same-path", "").await;
    talk(&mut caller).await;
    assert_eq!(modules(&end(&host, "same-path", caller).await), ["new"]);
    host.stop().await;
}

/// The names of the modules that a call to a process gets, as its log has them.
async fn modules_by_log(process: &Process, modules: &str) {
    let clock = ringback::clock::Clock::start();
    let stream = tokio::net::TcpStream::connect(&process.address).await.expect("it listens");
    let dial = Dial { target: "/raw".into(), ..Dial::default() };
    let provider = find("raw").expect("a provider");
    let mut caller = Caller::dial(clock, stream, provider, &dial, &[]).await.expect("a stream");
    talk(&mut caller).await;
    let caller = caller.hang_up().await;
    assert_eq!(caller.samples_heard, caller.samples_sent);
    let log = process.logged("call started");
    assert!(log.contains(&format!("modules=\"{modules}\"")), "{log}");
    process.logged("call ended");
}

#[cfg(unix)]
#[tokio::test]
async fn on_a_signal_the_file_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = Folder::new("reload-signal");
    let file = folder.write("ringback.toml", &toml("", "old", ""));
    let process = Process::serve(&["--config", &file.display().to_string()], &[]);
    modules_by_log(&process, "old").await;

    let bad = toml("route = \"x\"", "new", "").replace("\"echo\"", "\"ehco\"");
    folder.write("ringback.toml", &bad);
    process.signal("HUP");
    let log = process.logged("not taken");
    assert!(log.contains("module[0].builtin: unknown variant `ehco`"), "{log}");
    modules_by_log(&process, "old").await;

    // The flag that says where it listens wins again, and nothing is said of it.
    let good = "[server]\nbind = \"127.0.0.1:1\"\nthreads = 3\n".to_owned() + &toml("", "new", "");
    folder.write("ringback.toml", &good);
    process.signal("HUP");
    let log = process.logged("it holds for new calls");
    assert!(log.contains("needs a restart") && log.contains("server.threads"), "{log}");
    assert!(!log.contains("server.bind"), "{log}");
    modules_by_log(&process, "new").await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_watched_is_read_when_it_changes() {
    let folder = Folder::new("reload-watch");
    let file = folder.write("ringback.toml", &toml("", "old", ""));
    let process = Process::serve(&["--watch", "--config", &file.display().to_string()], &[]);
    modules_by_log(&process, "old").await;
    // As editors do it: another file is put in its place.
    let next = folder.write("next.toml", &toml("", "newer", ""));
    std::fs::rename(next, &file).expect("in its place");
    process.logged("it holds for new calls");
    modules_by_log(&process, "newer").await;
    process.signal("TERM");
    assert_eq!(process.finish().code, Some(0));
}
