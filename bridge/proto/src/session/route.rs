//! Which modules a call gets: the routes of a listener, tried in order, and the canaries among their modules. Starts no module.

use std::sync::Arc;
use std::time::Duration;

use crate::media::mixer::WhenBoth;
use crate::provider::Upgrade;
use crate::rule::{Facts, Rule};

use super::barge_in::BargeIn;
use super::port::PortConfig;
use super::private::PrivateRule;

/// What the calls that a rule takes get.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Name, as in the configuration.
    pub name: Arc<str>,
    /// Which calls it takes.
    pub when: Rule,
    /// Modules on the call.
    pub ports: Vec<PortConfig>,
    /// Modules that some of its calls get in the place of others.
    pub canaries: Vec<Canary>,
    /// Whether speech of the caller clears playback.
    pub barge_in: Option<BargeIn>,
    /// What happens when several modules that may speak have something to say.
    pub when_both: WhenBoth,
    /// Sound kept for modules that are late or come back.
    pub keep: Duration,
    /// How private parts of its calls begin and end.
    pub private: PrivateRule,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: "default".into(),
            when: Rule::default(),
            ports: Vec::new(),
            canaries: Vec::new(),
            barge_in: None,
            when_both: WhenBoth::default(),
            keep: Duration::from_secs(10),
            private: PrivateRule::default(),
        }
    }
}

impl Route {
    /// A route that takes every call to these modules.
    #[must_use]
    pub fn to(ports: Vec<PortConfig>) -> Self {
        Self { ports, ..Self::default() }
    }

    /// The modules that the call of that name gets.
    fn ports_of(&self, call: &str) -> Vec<PortConfig> {
        let mut ports = self.ports.clone();
        for (index, port) in ports.iter_mut().enumerate() {
            // One draw for all that may stand here, or two canaries would get less than their shares.
            let Some(mut drawn) = self.draw(index, call) else { continue };
            let chosen =
                self.canaries.iter().filter(|canary| canary.port == index).find(|canary| {
                    let share = canary.share.of_ten_thousand();
                    let is_its = drawn < share;
                    drawn = drawn.saturating_sub(share);
                    is_its
                });
            if let Some(canary) = chosen {
                let replaces = Some(std::mem::take(&mut port.name));
                *port = PortConfig { replaces, ..canary.with.clone() };
            }
        }
        ports
    }

    /// Where a call falls among the shares of a port's canaries, if it has any.
    fn draw(&self, port: usize, call: &str) -> Option<u32> {
        self.canaries.iter().any(|canary| canary.port == port).then(|| {
            let name = self.ports[port].name.as_bytes();
            let hash = spread(call.bytes().chain([0]).chain(name.iter().copied()));
            // Of 2^64 equally likely numbers, in proportion.
            ((u128::from(hash) * u128::from(Share::ALL.0)) >> 64) as u32
        })
    }
}

/// A module that a share of a route's calls gets in the place of another. Which calls, follows from their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// Index of the port whose module it stands in for.
    pub port: usize,
    /// The module.
    pub with: PortConfig,
    /// Its share. Those of one port have at most [`Share::ALL`] together.
    pub share: Share,
}

/// A part of all calls, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(u16);

impl Share {
    /// All calls.
    pub const ALL: Self = Self(10_000);

    /// `percent` of all calls, to two places after the point; `None` if that is less than none or more than all.
    #[must_use]
    pub fn percent(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// So many of ten thousand calls.
    #[must_use]
    pub fn of_ten_thousand(self) -> u32 {
        u32::from(self.0)
    }
}

/// The routes of a listener.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// Names of header fields that rules look at.
    headers: Vec<String>,
}

impl From<Route> for RouteTable {
    fn from(route: Route) -> Self {
        Self::new("", [route])
    }
}

impl From<Route> for Arc<RouteTable> {
    fn from(route: Route) -> Self {
        Self::new(route.into())
    }
}

impl RouteTable {
    /// Those of `routes` that are for calls of `listener`, to be tried in this order.
    #[must_use]
    pub fn new(listener: &str, routes: impl IntoIterator<Item = Route>) -> Self {
        let routes: Vec<Route> =
            routes.into_iter().filter(|route| route.when.is_for(listener)).collect();
        let mut headers: Vec<String> =
            routes.iter().flat_map(|route| route.when.headers()).map(str::to_owned).collect();
        headers.sort_unstable();
        headers.dedup();
        Self { routes, headers }
    }

    /// Of the header fields of a request, those that have to be known when the stream starts; all others can be forgotten.
    #[must_use]
    pub fn headers_of(&self, request: &Upgrade<'_>) -> Vec<(String, String)> {
        let wanted = |name: &str| self.headers.iter().any(|header| header == name);
        let found = request.headers.iter().filter(|(name, _)| wanted(name));
        found.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The first route that takes a call.
    pub(super) fn find(&self, facts: &Facts<'_>) -> Option<usize> {
        self.routes.iter().position(|route| route.when.takes(facts))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Route> {
        self.routes.get(index)
    }

    /// The modules that the call of that name gets on that route, and the shell's numbers for all that may run them.
    pub(super) fn ports(&self, index: usize, call: &str) -> (Vec<PortConfig>, Vec<usize>) {
        let ports = self.routes[index].ports_of(call);
        let sources = ports.iter().map(|port| port.source).collect();
        (ports, sources)
    }
}

/// A number that is as good as drawn, and the same for the same octets: FNV-1a, and the last steps of SplitMix64, because names of
/// calls differ in their last digits only.
fn spread(octets: impl Iterator<Item = u8>) -> u64 {
    let fnv = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Key, Pattern};

    const CALLS: usize = 10_000;

    fn canary(with: &str, percent: f64) -> Canary {
        let share = Share::percent(percent).unwrap();
        Canary { port: 0, with: PortConfig::listening(with), share }
    }

    /// How many of the calls of a bridge get the module of each name, of the port that may have canaries.
    fn counts(canaries: &[(&str, f64)]) -> Vec<usize> {
        let canaries: Vec<_> =
            canaries.iter().map(|&(with, percent)| canary(with, percent)).collect();
        let mut names = vec!["stt".to_owned()];
        names.extend(canaries.iter().map(|canary| canary.with.name.clone()));
        let ports = vec![PortConfig::listening("stt"), PortConfig::listening("log")];
        let route = Route { canaries, ..Route::to(ports) };
        let mut counts = vec![0; names.len()];
        for call in 1..=CALLS {
            let call = format!("20261121T070509Z-{call:06}");
            let ports = route.ports_of(&call);
            assert_eq!(ports, route.ports_of(&call), "the same call gets the same");
            assert_eq!((ports.len(), ports[1].name.as_str()), (2, "log"));
            assert_eq!(ports[0].replaces.is_some(), ports[0].name != "stt");
            counts[names.iter().position(|name| *name == ports[0].name).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn canaries_get_their_share_of_calls_within_a_hundredth_of_all() {
        assert_eq!(counts(&[("next", 0.0)]), [CALLS, 0]);
        assert_eq!(counts(&[("next", 100.0)]), [0, CALLS]);
        for shares in [
            &[("next", 10.0)][..],
            &[("next", 50.0)],
            &[("next", 1.0)],
            &[("a", 20.0), ("b", 30.0)],
        ] {
            let counts = counts(shares);
            for ((_, percent), count) in shares.iter().zip(&counts[1..]) {
                let wanted = (percent * CALLS as f64 / 100.0) as usize;
                assert!(count.abs_diff(wanted) <= CALLS / 100, "{shares:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn canaries_of_two_ports_are_drawn_apart() {
        let second = Canary { port: 1, ..canary("b", 50.0) };
        let ports = vec![PortConfig::listening("stt"), PortConfig::listening("log")];
        let route = Route { canaries: vec![canary("a", 50.0), second], ..Route::to(ports) };
        let both = (0..CALLS).map(|call| route.ports_of(&call.to_string()));
        let both = both.filter(|ports| ports[0].name == "a" && ports[1].name == "b").count();
        assert!(both.abs_diff(CALLS / 4) <= CALLS / 50, "{both} calls have both");
    }

    #[test]
    fn a_share_is_a_part_of_all() {
        assert_eq!(Share::percent(100.0), Some(Share::ALL));
        assert_eq!(Share::percent(0.25), Some(Share(25)));
        for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::percent(percent), None, "{percent}");
        }
    }

    #[test]
    fn routes_are_tried_in_order_and_those_of_other_listeners_not_at_all() {
        let route = |name: &str, when: Rule| Route { name: name.into(), when, ..Route::default() };
        let elsewhere = Rule::default().of_listeners(vec![Pattern::new("telnyx")]);
        let german = Rule::default().and(Key::From, ["+49*"]);
        let tenant = Rule::default().and(Key::Header("x-tenant".into()), ["acme"]);
        let routes = [
            route("elsewhere", elsewhere),
            route("german", german),
            route("tenant", tenant),
            route("default", Rule::default()),
        ];
        let table = RouteTable::new("twilio", routes);
        let request = Upgrade {
            target: "/",
            public_url: None,
            headers: &[("authorization", "Bearer s3cret"), ("x-tenant", "acme"), ("x-other", "x")],
        };
        let headers = table.headers_of(&request);
        assert_eq!(headers, [("x-tenant".to_owned(), "acme".to_owned())]);
        let taken = |from: &str, headers: &[(String, String)]| {
            let facts = Facts { from: Some(from), headers, ..Facts::default() };
            table
                .find(&facts)
                .and_then(|index| table.get(index))
                .map(|route| route.name.to_string())
        };
        assert_eq!(taken("+49301", &headers).as_deref(), Some("german"));
        assert_eq!(taken("+33301", &headers).as_deref(), Some("tenant"));
        assert_eq!(taken("+33301", &[]).as_deref(), Some("default"));
    }
}
