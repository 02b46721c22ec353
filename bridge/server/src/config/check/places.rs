//! The places that modules have on a route: who speaks, and who follows whom that fails. What a module is, is checked elsewhere.

use std::ops::Range;

use ringback_module::message::Kind;

use super::super::raw::{self, At};
use super::super::{ModuleConfig, OnFail};
use super::Checker;

impl Checker<'_> {
    /// One module speaks, because two would talk over each other. Unasked that is the only one of a route, or its only agent.
    pub(super) fn speaker(
        &mut self,
        route: Range<usize>,
        raw: Option<&At<String>>,
        members: &[String],
        modules: &[ModuleConfig],
    ) -> Option<String> {
        let agents: Vec<_> =
            members.iter().filter(|name| role(name, modules) == Some(Kind::Agent)).collect();
        let (speaker, place) = match (raw, members, agents.as_slice()) {
            (Some(at), ..) => {
                if !members.contains(at.get_ref()) {
                    let what = "module of this route called";
                    self.unknown(at, what, members.iter().map(String::as_str));
                } else if role(at.get_ref(), modules) == Some(Kind::Tap) {
                    let name = at.get_ref();
                    self.problem(at.span(), format!("{name:?} has role \"tap\" and only listens"));
                }
                (Some(at.get_ref().clone()), at.span())
            }
            (None, [only], _) => {
                (Some(only.clone()).filter(|only| role(only, modules) != Some(Kind::Tap)), route)
            }
            (None, _, [agent]) => (Some((*agent).clone()), route),
            (None, ..) => (None, route),
        };
        if let Some(agent) = agents.iter().find(|agent| speaker.as_ref() != Some(**agent)) {
            let message = format!(
                "{agent:?} has role \"agent\" and would not be heard: one module speaks, which `speaker` names; leave `role` away if it speaks on other routes only"
            );
            self.problem(place, message);
        }
        speaker
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

fn role(name: &str, modules: &[ModuleConfig]) -> Option<Kind> {
    modules.iter().find(|module| module.name == name)?.role
}
