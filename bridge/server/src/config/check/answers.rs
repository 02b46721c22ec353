//! Answers: where providers ask what to do with a call, how they prove that they may, and what goes into the document. Prints none.

use ringback_proto::provider::auth::{Jwt, JwtKeys, WebhookAuth};
use ringback_proto::provider::{Answer, Auth, Credential};

use super::super::raw::{self, At};
use super::super::{AnswerConfig, ListenerConfig};
use super::Checker;
use super::listeners::{PATH_RULE, is_path, taken};
use crate::listener::{AnswerPoint, RESERVED_PATHS};

impl Checker<'_> {
    /// Where the calls of a listener are asked for, if its configuration has `answer`, and how that is answered.
    pub(super) fn answer(
        &mut self,
        raw: &raw::Listener,
        path: &str,
        provider: &str,
        auth: &Auth,
        others: &[ListenerConfig],
    ) -> Option<(AnswerPoint, AnswerConfig)> {
        let at = raw.answer.as_ref()?;
        let Some(answer) = Answer::of(provider) else {
            let help = format!(
                "{provider:?} does not ask over HTTP what to do with a call, as far as is known; `ringback connect {provider}` tells what to do there"
            );
            self.problem(at.span(), help);
            return None;
        };
        let Some(dialled) = &raw.public_url else {
            let help = "the answer tells the provider to dial `public_url`, which is missing";
            self.problem(at.span(), help);
            return None;
        };
        if let Err(problem) = answer.carries(&Credential::of(auth)) {
            let at = raw.auth.as_ref().map_or(at.span(), At::span);
            self.problem(at, problem);
        }
        if raw.options.one_way {
            let help = "an answer has the stream speak and listen; where it only listens, what else becomes of the call is yours to say";
            self.problem(at.span(), help);
        }
        let asked = self.answer_auth(at, auth);
        let path = self.answer_path(at, path, others);
        let public_url = self.answer_url(at.get_ref(), dialled.get_ref(), &path);
        let parameters = self.parameters(at.get_ref(), answer);
        let challenges = asked.challenges();
        let point = AnswerPoint { path, public_url, challenges };
        Some((point, AnswerConfig { auth: asked, parameters }))
    }

    /// By default at `/answer` below the stream's path: one setting less, and a proxy that passes the listener's path on passes this
    /// on too.
    fn answer_path(
        &mut self,
        at: &At<raw::Answer>,
        listener: &str,
        others: &[ListenerConfig],
    ) -> String {
        let own = at.get_ref().path.as_ref();
        let by_default = || format!("{}/answer", listener.trim_end_matches('/'));
        let path = own.map_or_else(by_default, |at| at.get_ref().clone());
        let span = own.map_or(at.span(), At::span);
        if !is_path(&path) {
            self.problem(span, format!("found {path:?}: {PATH_RULE}"));
        } else if path == listener || RESERVED_PATHS.contains(&path.as_str()) || self.is_door(&path)
        {
            let help = "answers need a path of their own";
            self.problem(span, format!("{path:?} is taken: {help}"));
        } else if let Some(name) = taken(&path, others) {
            self.problem(span, format!("{path:?} is the path of listener {name:?} already"));
        }
        path
    }

    /// The URL that the provider asks: the listener's own host, unless another is told.
    fn answer_url(&mut self, raw: &raw::Answer, dialled: &str, path: &str) -> String {
        if let Some(at) = &raw.public_url {
            let url = at.get_ref();
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.problem(at.span(), format!(
                    "found {url:?}, expected the URL the provider asks, such as \"https://bridge.example/twilio/answer\""
                ));
            }
            return url.clone();
        }
        let (scheme, rest) = dialled.split_once("://").unwrap_or(("wss", ""));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let scheme = if scheme == "ws" { "http" } else { "https" };
        format!("{scheme}://{host}{path}")
    }

    /// Where nothing is said, what the stream is signed with; a fixed credential is never used for both.
    fn answer_auth(&mut self, at: &At<raw::Answer>, stream: &Auth) -> WebhookAuth {
        let own = at.get_ref().auth.as_ref();
        let auth = match own {
            Some(at) => self.webhook_auth(at),
            None => WebhookAuth::Common(stream.clone()),
        };
        if let WebhookAuth::Common(Auth::Jwt(Jwt { keys: JwtKeys::Public(keys), .. })) = &auth
            && keys.is_empty()
        {
            let span = own.map_or(at.span(), At::span);
            self.problem(span, "keys are fetched for streams only: `answer.auth` needs `jwks`");
        }
        let by_itself = !Credential::of(stream).is_told();
        if (own.is_none() && !by_itself) || !auth.is_of_webhooks() {
            let span = own.map_or(at.span(), At::span);
            let help = "`answer.auth` says how the provider proves that it asks, which is not how its stream does; `ringback connect` tells how";
            self.problem(span, help);
        }
        auth
    }

    fn parameters(&mut self, raw: &raw::Answer, answer: &Answer) -> Vec<(String, String)> {
        for (name, at) in &raw.parameters {
            if let Err(problem) = answer.takes(name, at.get_ref()) {
                self.problem(at.span(), problem);
            }
        }
        raw.parameters.iter().map(|(name, at)| (name.clone(), at.get_ref().clone())).collect()
    }

    /// What to say where anybody beyond this machine is answered.
    pub(super) fn strangers_asking(&mut self, raw: &raw::Listener, listener: &ListenerConfig) {
        let Some(at) = &raw.answer else { return };
        let span = at.get_ref().auth.as_ref().map_or(at.span(), At::span);
        if Credential::of(&listener.auth).is_told() {
            let help = "anybody could ask for the answer, and the stream's credential stands in it: set `answer.auth` or `allow`";
            self.problem(span, help);
        } else if !raw.insecure {
            let help = "anybody could ask for the answer: set `answer.auth` or `allow`, or `insecure = true` if something in front checks";
            self.problem(span, help);
        }
    }
}
