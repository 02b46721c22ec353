//! How each provider's API is asked to end a call, as a table. Asks nobody.

use hyper::Method;

/// How a provider's API is asked to end a call.
#[derive(Debug)]
pub struct Recipe {
    /// Name of the provider.
    pub provider: &'static str,
    /// Where its API is; nothing where that differs by account and has to be configured.
    pub base: Option<&'static str>,
    /// Method of the request.
    pub method: Method,
    /// Path behind the base; `{account}` is configured, `{call}` is what the stream told.
    pub path: &'static str,
    /// Type and text of the body.
    pub body: Option<(&'static str, &'static str)>,
    /// How the request proves that it may.
    pub scheme: Scheme,
    /// Answers that say the call is over already: a status, and what the body must have in it.
    pub over: &'static [(u16, &'static str)],
}

/// How a request proves that it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `Basic`, with the account, or a key of it, and a password.
    Basic,
    /// A fixed token behind this word.
    Token(&'static str),
    /// A token that is fetched with a client's name and password from here (RFC 6749, 4.4), and used until it expires.
    Client(&'static str),
    /// A token that we sign for an application (RS256).
    Application,
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// A call that the API does not know is over.
const UNKNOWN: &[(u16, &str)] = &[(404, "")];

/// All recipes there are. A provider whose wire has a message to hang up needs none.
pub static RECIPES: [Recipe; 8] = [
    Recipe {
        provider: "twilio",
        base: Some("https://api.twilio.com"),
        method: Method::POST,
        path: "/2010-04-01/Accounts/{account}/Calls/{call}.json",
        body: Some((FORM, "Status=completed")),
        scheme: Scheme::Basic,
        over: UNKNOWN,
    },
    Recipe {
        provider: "signalwire",
        base: None,
        method: Method::POST,
        path: "/api/laml/2010-04-01/Accounts/{account}/Calls/{call}.json",
        body: Some((FORM, "Status=completed")),
        scheme: Scheme::Basic,
        over: UNKNOWN,
    },
    Recipe {
        provider: "telnyx",
        base: Some("https://api.telnyx.com"),
        method: Method::POST,
        path: "/v2/calls/{call}/actions/hangup",
        body: Some((JSON, "{}")),
        scheme: Scheme::Token("Bearer"),
        over: &[(404, ""), (422, "90018")],
    },
    Recipe {
        provider: "plivo",
        base: Some("https://api.plivo.com"),
        method: Method::DELETE,
        path: "/v1/Account/{account}/Call/{call}/",
        body: None,
        scheme: Scheme::Basic,
        over: UNKNOWN,
    },
    Recipe {
        provider: "vonage",
        base: Some("https://api.nexmo.com"),
        method: Method::PUT,
        path: "/v1/calls/{call}",
        body: Some((JSON, r#"{"action":"hangup"}"#)),
        scheme: Scheme::Application,
        over: UNKNOWN,
    },
    Recipe {
        provider: "bandwidth",
        base: Some("https://voice.bandwidth.com"),
        method: Method::POST,
        path: "/api/v2/accounts/{account}/calls/{call}",
        body: Some((JSON, r#"{"state":"completed"}"#)),
        scheme: Scheme::Client("https://api.bandwidth.com/api/v1/oauth2/token"),
        over: UNKNOWN,
    },
    Recipe {
        provider: "infobip",
        base: None,
        method: Method::POST,
        path: "/calls/1/calls/{call}/hangup",
        body: Some((JSON, "{}")),
        scheme: Scheme::Token("App"),
        over: UNKNOWN,
    },
    Recipe {
        provider: "cloudonix",
        base: Some("https://api.cloudonix.io"),
        method: Method::DELETE,
        path: "/customers/self/domains/{account}/sessions/{call}",
        body: None,
        scheme: Scheme::Token("Bearer"),
        over: UNKNOWN,
    },
];

/// The recipe of a provider; none if its calls cannot be ended like this.
#[must_use]
pub fn recipe(provider: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.provider == provider)
}

impl Recipe {
    /// Whether the account has to be told.
    #[must_use]
    pub fn wants_account(&self) -> bool {
        self.path.contains("{account}")
    }

    /// The path for a call; `None` if what the stream called it cannot be a name of one.
    pub(super) fn path_of(&self, account: &str, call: &str) -> Option<String> {
        let account = if self.wants_account() { segment(account)? } else { String::new() };
        Some(self.path.replace("{account}", &account).replace("{call}", &segment(call)?))
    }

    /// Whether an answer says that the call is over already.
    pub(super) fn says_over(&self, status: u16, body: &[u8]) -> bool {
        self.over.iter().any(|(code, sign)| {
            *code == status
                && (sign.is_empty() || body.windows(sign.len()).any(|part| part == sign.as_bytes()))
        })
    }
}

/// Longest name of a call, in octets; Telnyx' are about 90.
const LONGEST: usize = 256;

/// Text as one segment of a path, all but the unreserved escaped (RFC 3986, 2.3). What providers call their calls are letters,
/// digits and a few marks: what has anything else in it, or leads elsewhere (`..`), is no such name.
fn segment(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:~+=@".contains(c);
    let leads_away = text.chars().all(|c| c == '.');
    if text.len() > LONGEST || leads_away || !text.chars().all(is_plain) {
        return None;
    }
    let mut segment = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) {
            segment.push(c);
        } else {
            segment.push_str(&format!("%{:02X}", u32::from(c)));
        }
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_proto::provider::{self, HangupLaw};

    #[test]
    fn recipes_are_for_providers_whose_wire_cannot_hang_up_and_each_is_there_once() {
        for (index, recipe) in RECIPES.iter().enumerate() {
            let provider = provider::find(recipe.provider).expect("a provider of the table");
            assert_eq!(provider.capabilities().hangup, HangupLaw::Close, "{}", recipe.provider);
            assert!(RECIPES[..index].iter().all(|other| other.provider != recipe.provider));
            assert!(recipe.path.contains("{call}") && recipe.path.starts_with('/'));
            assert!(recipe.base.is_none_or(|base| base.starts_with("https://")));
        }
    }

    #[test]
    fn names_of_calls_stay_one_segment_of_the_path() {
        let telnyx = recipe("telnyx").unwrap();
        let path = |call: &str| telnyx.path_of("", call);
        assert_eq!(path("v3:M_x-1=").as_deref(), Some("/v2/calls/v3%3AM_x-1%3D/actions/hangup"));
        for wrong in
            ["", ".", "..", "a/b", "../x", "a%2fb", "a?b", "a#b", "a b", "ä", "a\r\nb", "{account}"]
        {
            assert_eq!(path(wrong), None, "{wrong}");
        }
        assert_eq!(path(&"x".repeat(LONGEST + 1)), None);
        assert!(path(&"x".repeat(LONGEST)).is_some());
        let cloudonix = recipe("cloudonix").unwrap();
        let path = "/customers/self/domains/a.example/sessions/x1";
        assert_eq!(cloudonix.path_of("a.example", "x1").as_deref(), Some(path));
        assert_eq!(cloudonix.path_of("", "x1"), None);
    }
}
