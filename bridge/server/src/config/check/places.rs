//! The places that modules have on a route: who speaks, and who follows whom that fails. What a module is, is checked elsewhere.

use std::ops::Range;
use std::time::Duration;

use ringback_module::message::Kind;
use ringback_proto::media::mixer::WhenBoth;

use super::super::raw::{self, At};
use super::super::{Builtin, ModuleConfig, OnFail};
use super::Checker;

impl Checker<'_> {
    /// Who speaks. Unasked that is the only module of a route, or its only agent: two would talk over each other.
    pub(super) fn speakers(
        &mut self,
        route: Range<usize>,
        raw: &raw::Route,
        members: &[String],
        modules: &[ModuleConfig],
    ) -> (Vec<String>, WhenBoth) {
        let agents: Vec<&String> =
            members.iter().filter(|name| role(name, modules) == Some(Kind::Agent)).collect();
        let (named, when_both, place) = match (&raw.speaker, &raw.speakers) {
            (None, None) => (None, WhenBoth::default(), route),
            (Some(at), None) => (Some(std::slice::from_ref(at)), WhenBoth::default(), at.span()),
            (one, Some(several)) => {
                if let Some(at) = one {
                    self.problem(at.span(), "either `speaker` or `speakers`, found both");
                }
                let raw::Speakers { modules, when_both } = several.get_ref();
                let when_both = match when_both {
                    raw::WhenBoth::Mix => WhenBoth::Mix,
                    raw::WhenBoth::Queue => WhenBoth::Queue,
                };
                if modules.len() < 2 {
                    let help =
                        "`modules` is a list of two names or more; for one there is `speaker`";
                    self.problem(several.span(), help);
                }
                (Some(modules.as_slice()), when_both, several.span())
            }
        };
        let speakers = match (named, members, agents.as_slice()) {
            (Some(named), ..) => self.named_speakers(named, members, modules),
            (None, [only], _) if !listens(only, modules) => vec![only.clone()],
            (None, _, [agent]) => vec![(*agent).clone()],
            (None, ..) => Vec::new(),
        };
        if let Some(agent) = agents.iter().find(|agent| !speakers.contains(agent)) {
            let message = format!(
                "{agent:?} has role \"agent\" and would not be heard: `speaker` or `speakers` says who is; leave `role` away if it speaks on other routes only"
            );
            self.problem(place, message);
        }
        (speakers, when_both)
    }

    fn named_speakers(
        &mut self,
        named: &[At<String>],
        members: &[String],
        modules: &[ModuleConfig],
    ) -> Vec<String> {
        let mut speakers = Vec::<String>::new();
        for at in named {
            let name = at.get_ref();
            if !members.contains(name) {
                let what = "module of this route called";
                self.unknown(at, what, members.iter().map(String::as_str));
            } else if speakers.contains(name) {
                self.problem(at.span(), format!("{name:?} is in the list twice"));
            } else if listens(name, modules) {
                let message = format!("{name:?} has role \"tap\" or \"filter\" and says nothing");
                self.problem(at.span(), message);
            }
            speakers.push(name.clone());
        }
        speakers
    }

    /// How long a filter's answer is waited for: all that hear the caller hear it so much later. How long a module may take for a
    /// frame that runs in step with the call: the call waits for it.
    pub(super) fn budget(&mut self, raw: &raw::Module) -> Option<Duration> {
        let is_filter = raw.role.as_ref().is_some_and(|at| *at.get_ref() == raw::Role::Filter);
        let in_step = [Builtin::Echo, Builtin::Vad, Builtin::Dtmf];
        let in_step = raw.builtin.as_ref().is_some_and(|at| in_step.contains(at.get_ref()));
        if let Some(at) = raw.budget.as_ref().filter(|_| !is_filter && !in_step) {
            let whom = "is for modules with role \"filter\", and for echo, vad and dtmf, which the call waits for";
            self.problem(at.span(), whom);
        }
        let mute = [Builtin::Recorder, Builtin::Player, Builtin::Vad, Builtin::Dtmf];
        if let Some(at) = raw.builtin.as_ref().filter(|at| is_filter && mute.contains(at.get_ref()))
        {
            let name = at.get_ref().name();
            self.problem(at.span(), format!("{name} answers no sound with sound and is no filter"));
        }
        let range = Duration::from_millis(1)..=Duration::from_millis(200);
        raw.budget.as_ref().map(|at| self.time(Some(at), range, Duration::ZERO))
    }

    /// Who is named as another's follower must be there, fit into its place, and not be followed by it.
    pub(super) fn fallbacks(&mut self, raw: &raw::File, modules: &[ModuleConfig]) {
        for (table, module) in raw.module.iter().zip(modules) {
            let (OnFail::Fallback(to), Some(at)) = (&module.on_fail, &table.get_ref().on_fail)
            else {
                continue;
            };
            let Some(next) = modules.iter().find(|other| other.name == *to) else {
                let named = At::new(at.span(), to.clone());
                self.unknown(&named, "[[module]]", modules.iter().map(|m| m.name.as_str()));
                continue;
            };
            let follows: Vec<_> = followers(module, modules).take(modules.len()).collect();
            if follows.iter().any(|follower| follower.name == module.name) {
                let circle: Vec<_> = follows.iter().map(|m| m.name.as_str()).collect();
                let name = &module.name;
                let circle = circle.join(", then ");
                self.problem(at.span(), format!("{name:?} would follow itself: first {circle}"));
            } else if let (Some(has), Some(takes)) = (next.role, module.role)
                && has != takes
            {
                let message =
                    format!("takes the place of {:?}, but has another `role`", module.name);
                self.problem(at.span(), format!("{to:?} {message}"));
            }
        }
    }
}

/// Who is started in a module's place, then in that one's place, and so on; without an end if they follow each other.
fn followers<'m>(
    module: &'m ModuleConfig,
    modules: &'m [ModuleConfig],
) -> impl Iterator<Item = &'m ModuleConfig> {
    std::iter::successors(follower(module, modules), |module| follower(module, modules))
}

fn follower<'m>(module: &ModuleConfig, modules: &'m [ModuleConfig]) -> Option<&'m ModuleConfig> {
    let OnFail::Fallback(to) = &module.on_fail else { return None };
    modules.iter().find(|other| other.name == *to)
}

/// Whether a module has nothing to say on any route.
fn listens(name: &str, modules: &[ModuleConfig]) -> bool {
    matches!(role(name, modules), Some(Kind::Tap | Kind::Filter))
}

fn role(name: &str, modules: &[ModuleConfig]) -> Option<Kind> {
    modules.iter().find(|module| module.name == name)?.role
}
