//! Which modules calls get, over sockets: by each key of a rule, by a canary's share, and none where no route takes them.

mod support;

use ringback_proto::provider::{Dial, find};
use ringback_proto::session::{EndReason, Summary};
use support::{Caller, Host, assert_whole, known};

/// Routes told apart by what they ask for, tried in this order.
const ROUTES: [(&str, &str); 7] = [
    ("by-from", "from = [\"+49*\", \"+43*\"]"),
    ("by-to", "to = \"100\""),
    ("by-parameter", "parameters = { lang = [\"de\", \"de-*\"] }"),
    ("by-two-parameters", "parameters = { tier = \"gold\", region = \"*\" }"),
    ("by-header", "headers = { X-Tenant = \"acme\" }"),
    ("by-listener", "listener = \"other\""),
    ("by-all", "from = \"+1*\", to = \"200\", parameters = { a = \"b\" }"),
];

fn listener(name: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"raw\"\n")
}

fn module(name: &str) -> String {
    format!("[[module]]\nname = \"{name}\"\nbuiltin = \"echo\"\n")
}

/// A listener, another one, and the routes, each to an echo of its name.
fn routed() -> String {
    let route = |(name, when): &(&str, &str)| {
        let name = format!("name = \"{name}\"\nmodules = [\"{name}\"]\n");
        module_named(&name) + &format!("[[route]]\n{name}when = {{ {when} }}\n")
    };
    listener("main") + &listener("other") + &ROUTES.iter().map(route).collect::<String>()
}

/// The module of a route that is called like it.
fn module_named(route: &str) -> String {
    let name = route.lines().next().expect("its name");
    format!("[[module]]\n{name}\nbuiltin = \"echo\"\n")
}

struct Who<'a> {
    listener: &'a str,
    from: &'a str,
    to: &'a str,
    parameters: &'a [(&'a str, &'a str)],
    headers: &'a [(&'a str, &'a str)],
}

const NOBODY: Who<'_> =
    Who { listener: "main", from: "+33123456789", to: "300", parameters: &[], headers: &[] };

async fn place(host: &Host, call: &str, who: &Who<'_>) -> Caller {
    let parameters = who.parameters.iter().map(|&(name, value)| (name.into(), value.into()));
    let dial = Dial {
        target: format!("/{}", who.listener),
        call: call.into(),
        from: who.from.into(),
        to: who.to.into(),
        parameters: parameters.collect(),
        ..Dial::default()
    };
    let (stream, provider) = (host.connect().await, find("raw").expect("a provider"));
    Caller::dial(host.clock, stream, provider, &dial, who.headers).await.expect("a stream")
}

/// A call that is echoed by whoever it was routed to.
async fn call(host: &Host, name: &str, who: &Who<'_>) -> Summary {
    let mut caller = place(host, name, who).await;
    caller.speak(&(0..1_600).map(known).collect::<Vec<_>>()).await;
    let caller = caller.hang_up().await;
    assert_eq!(caller.samples_heard, caller.samples_sent, "{name}");
    let summary = host.log.ended(name).await;
    assert_whole(&summary, &[]);
    summary
}

#[tokio::test]
async fn each_key_of_a_rule_leads_to_the_modules_of_its_route() {
    let host = Host::on_loopback(&routed());
    let (german, gold) = ([("lang", "de-AT")], [("tier", "gold"), ("region", "")]);
    let (tenant, last) = ([("x-tenant", "acme")], [("a", "b")]);
    for (who, route) in [
        (Who { from: "+49 (30) 123-456", ..NOBODY }, "by-from"),
        (Who { from: "sip:+43123456@pbx.example;user=phone", to: "100", ..NOBODY }, "by-from"),
        (Who { to: "tel:100", ..NOBODY }, "by-to"),
        (Who { parameters: &german, ..NOBODY }, "by-parameter"),
        (Who { parameters: &gold, ..NOBODY }, "by-two-parameters"),
        (Who { headers: &tenant, ..NOBODY }, "by-header"),
        (Who { listener: "other", ..NOBODY }, "by-listener"),
        (Who { from: "+1555", to: "200", parameters: &last, ..NOBODY }, "by-all"),
    ] {
        let name = format!("{route}-{}", who.to);
        let summary = call(&host, &name, &who).await;
        assert_eq!(summary.route.as_deref(), Some(route), "{name}");
        let modules: Vec<_> = summary.modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(modules, [route], "{name}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_call_that_no_route_takes_is_closed_and_its_end_says_so() {
    let host = Host::on_loopback(&routed());
    for (call, who) in [
        ("of-nobody", NOBODY),
        ("half", Who { from: "+1555", to: "200", ..NOBODY }),
        ("another-tenant", Who { headers: &[("x-tenant", "acme2")], ..NOBODY }),
    ] {
        let mut caller = place(&host, call, &who).await;
        // The stream starts with its first sound.
        caller.format().await;
        let goodbye = caller.closed().await;
        assert_eq!((goodbye.code, goodbye.reason.as_str()), (1008, "no_route"), "{call}");
        let summary = host.log.ended(call).await;
        assert_eq!((summary.reason, summary.route), (EndReason::NoRoute, None), "{call}");
        assert!(summary.modules.is_empty() && summary.ledger.is_balanced(), "{call}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_canary_gets_its_share_and_is_named_with_whom_it_stands_for() {
    let names = ["echo", "all", "none"];
    let modules: String = names.iter().map(|name| module(name)).collect();
    let canary = |route: &str, percent: u32| {
        format!(
            "[[route]]\nname = \"{route}\"\nmodules = [\"echo\"]\ncanary = {{ module = \"echo\", with = \"{route}\", percent = {percent} }}\n"
        )
    };
    let routes = canary("all", 100) + "when = { to = \"1\" }\n" + &canary("none", 0);
    let host = Host::on_loopback(&(listener("main") + &modules + &routes));
    for (to, route, name, replaces) in
        [("1", "all", "all", Some("echo")), ("2", "none", "echo", None)]
    {
        let summary = call(&host, route, &Who { to, ..NOBODY }).await;
        assert_eq!(summary.route.as_deref(), Some(route));
        let [module] = summary.modules.as_slice() else { panic!("{:?}", summary.modules) };
        assert_eq!((module.name.as_str(), module.replaces.as_deref()), (name, replaces));
    }
    host.stop().await;
}
