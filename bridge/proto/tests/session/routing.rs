//! Which modules a call gets, and what becomes of one that no route takes.

use ringback_proto::rule::{Key, Rule};
use ringback_proto::session::{Canary, Share};

use super::*;

fn route(name: &str, when: Rule, module: &str, source: usize) -> Route {
    let port = PortConfig { source, ..port(module, true) };
    Route { name: name.into(), when, ..Route::to(vec![port]) }
}

/// A call from that number with these parameters, to a bridge with a route for Germans and one for whom it holds dear.
fn call(from: &str, parameters: &[(&str, &str)]) -> Rig {
    let parameters = parameters.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    let dial = Dial { from: from.into(), parameters, ..Dial::default() };
    Rig::dialled("twilio", dial, |config| {
        let german = Rule::default().and(Key::From, ["+49*"]);
        let dear = Rule::default().and(Key::Parameter("tier".into()), ["gold", "platinum"]);
        let routes = [route("german", german, "stt-de", 7), route("vip", dear, "stt-best", 9)];
        config.routes = Arc::new(RouteTable::new("twilio", routes));
    })
}

#[test]
fn a_call_gets_the_modules_of_the_first_route_that_takes_it() {
    for (from, tier, route, module, source) in [
        ("+49 30 123456", "none", "german", "stt-de", 7),
        ("+4930123456", "gold", "german", "stt-de", 7),
        ("+33123456", "gold", "vip", "stt-best", 9),
    ] {
        let mut rig = call(from, &[("tier", tier)]);
        assert_eq!(rig.session.route(), Some(route));
        assert_eq!(rig.sources, Some(vec![source]), "all others can be let go");
        assert_eq!(rig.session.port_name(PortId(0)), module);
        rig.ready(0, &speaks(Pace::Clip));
        rig.command(Command::Hangup);
        let summary = rig.finish();
        assert_eq!(summary.route.as_deref(), Some(route));
        assert_eq!(summary.modules[0].name, module);
    }
}

#[test]
fn a_call_that_no_route_takes_is_ended_and_told_why() {
    let mut rig = call("+33123456", &[]);
    assert_eq!(rig.closed, Some(1008));
    assert_eq!((rig.session.route(), rig.session.port_count()), (None, 0));
    assert!(matches!(rig.reports[..], [Report::Started(_)]), "who called is told all the same");
    // What was on its way is no fault of anybody's.
    rig.speak(&ramp(0));
    let summary = rig.finish();
    assert_eq!((summary.reason.clone(), summary.route), (EndReason::NoRoute, None));
    assert_eq!(summary.reason.name(), "no_route");
    let said = summary.reason.to_string();
    assert!(said.contains("a [[route]] without `when`"), "{said}");
    assert!(summary.provider_call.is_some() && summary.modules.is_empty());
}

#[test]
fn a_canary_is_told_from_the_module_in_whose_place_it_is() {
    let mut rig = Rig::with("twilio", |config| {
        let with = PortConfig { source: 3, ..port("next", true) };
        let canaries = vec![Canary { port: 0, with, share: Share::ALL }];
        config.routes = Route { canaries, ..Route::to(vec![port("stt", true)]) }.into();
    });
    assert_eq!(rig.sources, Some(vec![3]));
    rig.ready(0, &speaks(Pace::Clip));
    rig.command(Command::Hangup);
    let modules = rig.finish().modules;
    assert_eq!((modules.len(), modules[0].name.as_str()), (1, "next"));
    assert_eq!(modules[0].replaces.as_deref(), Some("stt"));
}
