//! How a listener's calls are ended by its provider's API: which keys each recipe takes. Asks no provider.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ringback_proto::provider::{self, HangupLaw, Secret};

use super::super::raw::{self, At, HangupKind};
use super::{Checker, span};
use crate::hangup::{HangupConfig, HangupCredential, RECIPES, Recipe, Scheme, recipe};
use crate::outgoing::RsaKey;

/// All tries of a hang-up together take no longer than this where nothing else is said.
const DEADLINE: Duration = Duration::from_secs(5);

/// The keys that a recipe takes beside those that all take.
const fn keys(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::Basic => &["account", "user", "password"],
        Scheme::Token(_) => &["account", "token"],
        Scheme::Client(_) => &["account", "user", "password", "token_url"],
        Scheme::Application => &["application", "private_key"],
    }
}

impl Checker<'_> {
    pub(super) fn hangup(
        &mut self,
        hangup: Option<&At<raw::Hangup>>,
        provider: &str,
    ) -> Option<HangupConfig> {
        let at = hangup?;
        let (table, raw) = (at.span(), at.get_ref());
        let HangupKind::Rest = raw.kind;
        let Some(recipe) = recipe(provider) else {
            self.no_recipe(table, provider);
            return None;
        };
        self.superfluous_for(recipe, raw);
        let base = match (&raw.base_url, recipe.base) {
            (Some(at), _) => self.url(at),
            (None, Some(base)) => base.parse().ok(),
            (None, None) => {
                let help = "`base_url` is missing: the API's address differs by account";
                self.problem(table.clone(), help);
                None
            }
        };
        let account = if recipe.wants_account() {
            self.needed(table.clone(), "account", raw.account.as_ref())
        } else {
            String::new()
        };
        let credential = self.credential(table, recipe, raw, &account);
        let range = Duration::from_millis(500)..=Duration::from_secs(30);
        let deadline = self.time(raw.deadline.as_ref(), range, DEADLINE);
        Some(HangupConfig { recipe, base: base?, account, credential: credential?, deadline })
    }

    fn no_recipe(&mut self, table: Range<usize>, provider: &str) {
        let found = provider::find(provider).map(|provider| provider.capabilities().hangup);
        let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.provider).collect();
        let known = known.join(", ");
        let message = match found {
            Some(HangupLaw::Message) => {
                format!("{provider} is hung up over its own wire: leave `hangup` out")
            }
            _ => format!("how to hang up {provider:?} by its API is not known (known: {known})"),
        };
        self.problem(table, message);
    }

    fn superfluous_for(&mut self, recipe: &Recipe, raw: &raw::Hangup) {
        let given = [
            ("account", span(&raw.account)),
            ("user", span(&raw.user)),
            ("password", span(&raw.password)),
            ("token", span(&raw.token)),
            ("token_url", span(&raw.token_url)),
            ("application", span(&raw.application)),
            ("private_key", span(&raw.private_key)),
        ];
        let mut uses = keys(recipe.scheme).to_vec();
        uses.retain(|key| *key != "account" || recipe.wants_account());
        self.superfluous(given, &uses, recipe.provider);
    }

    fn credential(
        &mut self,
        table: Range<usize>,
        recipe: &Recipe,
        raw: &raw::Hangup,
        account: &str,
    ) -> Option<HangupCredential> {
        Some(match recipe.scheme {
            Scheme::Basic => {
                let user = match &raw.user {
                    Some(at) => at.get_ref().clone(),
                    None => account.to_owned(),
                };
                let password = self.secret(table, "password", raw.password.as_ref());
                HangupCredential::Fixed(HangupCredential::basic(&user, &password))
            }
            Scheme::Token(word) => {
                let token = self.secret(table, "token", raw.token.as_ref());
                HangupCredential::Fixed(Secret::from(format!("{word} {}", token.expose())))
            }
            Scheme::Client(url) => {
                let user = self.needed(table.clone(), "user", raw.user.as_ref());
                let password = self.secret(table, "password", raw.password.as_ref());
                let url = match &raw.token_url {
                    Some(at) => self.url(at)?,
                    None => url.parse().ok()?,
                };
                HangupCredential::Client { url, basic: HangupCredential::basic(&user, &password) }
            }
            Scheme::Application => {
                let id = self.needed(table.clone(), "application", raw.application.as_ref());
                let at = raw.private_key.as_ref();
                let pem = self.secret(table, "private_key", at);
                let key = match (at, RsaKey::from_pem(pem.expose())) {
                    (Some(_), Ok(key)) => Arc::new(key),
                    // An empty one was complained about already.
                    (Some(at), Err(problem)) if !pem.expose().is_empty() => {
                        self.problem(at.span(), format!("{} {problem}", at.get_ref()));
                        return None;
                    }
                    _ => return None,
                };
                HangupCredential::Application { id, key }
            }
        })
    }
}
