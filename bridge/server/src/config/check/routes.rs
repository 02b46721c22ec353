//! Which calls a route takes, its canaries, and the order in which a listener tries its routes: no route may be out of reach.

use std::ops::Range;

use ringback_proto::rule::{Key, Pattern, Rule, is_credential};
use ringback_proto::session::Share;
use toml::Spanned;

use super::super::raw::{self, At};
use super::super::{CanaryConfig, ListenerConfig, ModuleConfig, RouteConfig};
use super::{Checker, DEFAULT_ROUTE};

impl Checker<'_> {
    /// Which calls a route takes.
    pub(super) fn rule(&mut self, raw: Option<&raw::When>) -> Rule {
        let Some(raw) = raw else { return Rule::default() };
        let listeners = raw.listener.as_ref().map(|at| self.values(at)).unwrap_or_default();
        let listeners = listeners.iter().map(|name| Pattern::new(name)).collect();
        let mut rule = Rule::default().of_listeners(listeners);
        for (key, at) in [(Key::From, &raw.from), (Key::To, &raw.to)] {
            if let Some(at) = at {
                rule = rule.and(key, self.values(at).iter().map(String::as_str));
            }
        }
        for (name, at) in &raw.parameters {
            let values = self.values(at);
            rule = rule.and(Key::Parameter(name.clone()), values.iter().map(String::as_str));
        }
        for (name, at) in &raw.headers {
            let (name, values) = (name.to_ascii_lowercase(), self.values(at));
            self.header_of_rule(&name, at.span());
            rule = rule.and(Key::Header(name), values.iter().map(String::as_str));
        }
        rule
    }

    fn values<'v>(&mut self, at: &'v At<raw::Values>) -> &'v [String] {
        let raw::Values(values) = at.get_ref();
        if values.is_empty() {
            self.problem(at.span(), "an empty list takes no call: name a value, or `*` for any");
        }
        values
    }

    /// What proves who calls is for `auth` to look at, and kept by nobody.
    fn header_of_rule(&mut self, name: &str, at: Range<usize>) {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            self.problem(at, format!("found {name:?}, expected the name of a header field"));
        } else if is_credential(name) || self.credential_headers.contains(name) {
            self.problem(
                at,
                format!("`{name}` carries credentials, which no rule looks at; `auth` of the listener says who may call"),
            );
        }
    }

    /// Modules that a share of the route's calls gets in the place of others.
    pub(super) fn canaries(
        &mut self,
        raw: &[raw::Canary],
        members: &[String],
        modules: &[ModuleConfig],
    ) -> Vec<CanaryConfig> {
        let mut canaries = Vec::<CanaryConfig>::new();
        for canary in raw {
            let (module, with) = (canary.module.get_ref(), canary.with.get_ref());
            if !members.contains(module) {
                let what = "module of this route called";
                self.unknown(&canary.module, what, members.iter().map(String::as_str));
            }
            if !modules.iter().any(|known| known.name == *with) {
                let known = modules.iter().map(|module| module.name.as_str());
                self.unknown(&canary.with, "[[module]]", known);
            } else if members.contains(with) || canaries.iter().any(|other| other.with == *with) {
                self.problem(canary.with.span(), format!("{with:?} is on the route already"));
            }
            let percent = *canary.percent.get_ref();
            let share = Share::percent(percent).unwrap_or_else(|| {
                let message = format!("found {percent}, expected 0 to 100");
                self.problem(canary.percent.span(), message);
                Share::default()
            });
            let others = canaries.iter().filter(|other| other.module == *module);
            let taken: u32 = others.map(|other| other.share.of_ten_thousand()).sum();
            if taken + share.of_ten_thousand() > Share::ALL.of_ten_thousand() {
                let message = format!("the canaries of {module:?} have over 100 percent together");
                self.problem(canary.percent.span(), message);
            }
            canaries.push(CanaryConfig { module: module.clone(), with: with.clone(), share });
        }
        canaries
    }

    /// The routes of a listener, in the order in which they are tried.
    pub(super) fn routes_of(
        &mut self,
        table: Range<usize>,
        raw: &raw::Listener,
        listener: &str,
        routes: &[RouteConfig],
    ) -> Vec<String> {
        let known = |name: &str| routes.iter().any(|route| route.name == name);
        let names = || routes.iter().map(|route| route.name.as_str());
        if let (Some(_), Some(at)) = (&raw.route, &raw.routes) {
            self.problem(at.span(), "either `route` or `routes`, found both");
        }
        let given: Vec<&At<String>> = match (&raw.routes, &raw.route) {
            (Some(list), _) => list.get_ref().iter().collect(),
            (None, Some(one)) => vec![one],
            (None, None) => return self.usual_routes(table, listener, routes),
        };
        if given.is_empty() {
            self.problem(table, "`routes` is empty: no call could be taken");
        }
        for (index, at) in given.iter().enumerate() {
            let name = at.get_ref();
            if given[..index].iter().any(|other| other.get_ref() == name) {
                self.problem(at.span(), format!("{name:?} is in the list twice"));
            } else if !known(name) {
                self.unknown(at, "[[route]]", names());
            }
        }
        let list: Vec<String> = given.iter().map(|at| at.get_ref().clone()).collect();
        for (index, problem) in out_of_reach(&list, listener, routes) {
            self.problem(given[index].span(), problem);
        }
        list
    }

    /// The routes of a listener that names none: those with a rule in the order of the file, and last the one called `default`, or
    /// the only one without a rule.
    pub(super) fn usual_routes(
        &mut self,
        table: Range<usize>,
        listener: &str,
        routes: &[RouteConfig],
    ) -> Vec<String> {
        let (for_all, by_rule): (Vec<_>, Vec<_>) =
            routes.iter().partition(|route| route.when == Rule::default());
        let by_rule = by_rule.into_iter().filter(|route| route.when.is_for(listener));
        let mut list: Vec<String> = by_rule.map(|route| route.name.clone()).collect();
        let default = for_all.iter().find(|route| route.name == DEFAULT_ROUTE);
        match (default, for_all.as_slice()) {
            (Some(route), _) | (None, [route]) => list.push(route.name.clone()),
            (None, []) if !list.is_empty() => {}
            (None, _) => {
                let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
                let known = names.join(", ");
                let message = format!(
                    "`route` is missing and none is called {DEFAULT_ROUTE:?} (known: {known})"
                );
                self.problem(table, message);
                list.push(DEFAULT_ROUTE.to_owned());
            }
        }
        list
    }

    /// Says which routes no call can take, whichever listener it comes to.
    pub(super) fn reach(
        &mut self,
        raw: &raw::File,
        listeners: &[ListenerConfig],
        routes: &[RouteConfig],
    ) {
        // Where something else is wrong, a route may only seem to be out of reach.
        if !self.problems.is_empty() {
            return;
        }
        for (table, route) in raw.route.iter().zip(routes) {
            let is_named = listeners.iter().any(|listener| listener.routes.contains(&route.name));
            // One without a rule may lie ready for a listener; a rule is meant for calls.
            if !is_named && route.when == Rule::default() {
                continue;
            }
            let those_of =
                listeners.iter().filter(|listener| listener.routes.contains(&route.name));
            let mut is_for = listeners.iter().map(|listener| &listener.endpoint.name);
            let mut why = Some(if is_for.any(|name| route.when.is_for(name)) {
                "no listener sends calls to it: name it in the `routes` of one".to_owned()
            } else {
                "its `when.listener` is the name of no listener: no call can take it".to_owned()
            });
            for listener in those_of {
                let name = &listener.endpoint.name;
                let hidden = out_of_reach(&listener.routes, name, routes);
                let this = |index: &usize| listener.routes[*index] == route.name;
                why = hidden.into_iter().find(|(index, _)| this(index)).map(|(_, problem)| problem);
                if why.is_none() {
                    break;
                }
            }
            if let Some(problem) = why {
                self.problem(Spanned::span(table), problem);
            }
        }
    }
}

/// Those of a listener's routes that none of its calls can take, by their places in the list, and why not.
fn out_of_reach(list: &[String], listener: &str, routes: &[RouteConfig]) -> Vec<(usize, String)> {
    let find = |name: &String| routes.iter().find(|route| route.name == *name);
    let mut problems = Vec::new();
    for (index, name) in list.iter().enumerate() {
        let Some(route) = find(name) else { continue };
        if !route.when.is_for(listener) {
            let message =
                format!("{name:?} is never taken here: its `when.listener` is others only");
            problems.push((index, message));
            continue;
        }
        let before = list[..index].iter().filter(|other| *other != name).filter_map(find);
        let mut before = before.filter(|other| other.when.is_for(listener));
        if let Some(other) = before.find(|other| other.when.covers(&route.when)) {
            let before = &other.name;
            let message = format!(
                "{name:?} is never reached: {before:?} is tried before it and takes all of its calls"
            );
            problems.push((index, message));
        }
    }
    problems
}
