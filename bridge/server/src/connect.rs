//! How a provider is told to stream its calls to a listener: one page for each, with the listener's configuration and what to paste
//! where. Tells nobody by itself.

use include_dir::{Dir, include_dir};
use ringback_proto::provider::{Answer, Credential};

static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/connect");

/// Where a provider reaches a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    url: String,
    host: String,
    path: String,
}

impl PublicUrl {
    /// Takes `wss://host[:port]/path` apart.
    ///
    /// # Errors
    /// What is wrong with it, for the one who gave it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let expected =
            "expected the URL the provider dials, such as wss://bridge.example.com/twilio";
        let rest = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://"));
        let rest = rest.ok_or_else(|| format!("found {url:?}, {expected}"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = |c: char| c.is_ascii_graphic() && !"?#\"'<>\\^`{|}$".contains(c);
        if host.is_empty() || path.len() < 2 || !rest.chars().all(is_plain) {
            return Err(format!("found {url:?}, {expected}"));
        }
        Ok(Self { url: url.to_owned(), host: host.to_owned(), path: path.to_owned() })
    }

    /// Where a provider's listener might be; for those who only want to see.
    #[must_use]
    pub fn example(provider: &str) -> Self {
        let (host, path) = ("bridge.example.com".to_owned(), format!("/{provider}"));
        Self { url: format!("wss://{host}{path}"), host, path }
    }
}

/// The page of a provider in Markdown, with this URL filled in; `None` if there is no such page.
#[must_use]
pub fn page(provider: &str, at: &PublicUrl) -> Option<String> {
    let text = PAGES.get_file(format!("{provider}.md"))?.contents_utf8()?;
    // Last, for it has words of its own that stay.
    let answer = Answer::of(provider);
    let other = answer.and_then(Answer::other);
    let [answer, other] =
        [answer, other].map(|answer| answer.map(|a| document(a, text, at)).unwrap_or_default());
    let filled = [
        ("{{url}}", &at.url),
        ("{{host}}", &at.host),
        ("{{path}}", &at.path),
        ("{{answer}}", &answer),
        ("{{other-answer}}", &other),
    ];
    Some(filled.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value)))
}

/// The document of a provider's answer as its page shows it, by the same template that webhooks are answered with.
fn document(answer: &Answer, page: &str, at: &PublicUrl) -> String {
    let credential = match kind_on(page) {
        Some("basic") => Credential::Basic("ringback", "THE-PASSWORD"),
        Some("bearer") => Credential::Bearer("THE-TOKEN"),
        Some("query") => Credential::Query("token", "THE-TOKEN"),
        Some("path") => Credential::Path("THE-TOKEN"),
        Some("vonage-jwt") => Credential::Vonage,
        _ => Credential::Untold,
    };
    answer.document(&at.url, &credential, &answer.sample()).trim_end().to_owned()
}

/// Kind of the credential of the first listener on a page.
fn kind_on(page: &str) -> Option<&str> {
    let (_, kind) = page.split_once("\nauth = { kind = \"")?;
    kind.split_once('"').map(|(kind, _)| kind)
}

/// Kind of the credential that a provider's page recommends; `None` where callers are known by their address only.
#[must_use]
pub fn credential(provider: &str) -> Option<String> {
    kind_on(PAGES.get_file(format!("{provider}.md"))?.contents_utf8()?).map(str::to_owned)
}

/// Kinds of all credentials that a provider's page knows, the recommended one first.
#[must_use]
pub fn credentials(provider: &str) -> Vec<String> {
    let page = page(provider, &PublicUrl::example(provider)).unwrap_or_default();
    let mut kinds: Vec<_> = credential(provider).into_iter().collect();
    // In sentences; what else the page configures has kinds as well.
    let named = ["`kind = \"", "`auth = { kind = \""];
    let named = named.iter().flat_map(|words| page.split(words).skip(1));
    let named = named.filter_map(|rest| rest.split_once('"'));
    for (kind, _) in named {
        if !kinds.iter().any(|known| known == kind) {
            kinds.push(kind.to_owned());
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Context, Overrides};
    #[cfg(feature = "tls")]
    use crate::hangup::recipe;
    use ringback_proto::provider::PROVIDERS;

    fn names() -> impl Iterator<Item = &'static str> {
        PROVIDERS.iter().map(|provider| provider.name())
    }

    /// Any secret, and a key set.
    fn variable(name: &str) -> Option<String> {
        let modulus = format!("{}w", "_".repeat(341));
        let key_set =
            format!(r#"{{"keys":[{{"kty":"RSA","kid":"1","n":"{modulus}","e":"AQAB"}}]}}"#);
        let value = if name == "KEYS" { key_set } else { "c2VjcmV0LXNlY3JldC1zZWNyZXQ=".into() };
        // Not for what the bridge itself looks for.
        (!["RINGBACK_BIND", "RINGBACK_LOG", "RINGBACK_LOG_FORMAT"].contains(&name)).then_some(value)
    }

    #[test]
    fn every_provider_has_a_page_and_every_page_a_provider() {
        let mut pages: Vec<_> = PAGES.files().filter_map(|file| file.path().to_str()).collect();
        let mut expected: Vec<_> = names().map(|name| format!("{name}.md")).collect();
        pages.sort_unstable();
        expected.sort_unstable();
        assert_eq!(pages, expected);
    }

    #[test]
    fn the_listener_on_each_page_is_a_valid_configuration() {
        for name in names() {
            let page = page(name, &PublicUrl::example(name)).expect("a page");
            let toml = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
            let (listener, _) = toml.expect("a listener");
            let text = format!(
                "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[route]]\nname = \"default\"\nmodules = [\"echo\"]\n{listener}"
            );
            let text =
                text.replace("THE-PUBLIC-KEY", "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
            let context = Context { variable: &variable, ..Context::of_process() };
            let config = Config::parse("page", &text, &Overrides::default(), &context);
            let config = config.unwrap_or_else(|problems| panic!("{name}: {problems}\n{text}"));
            assert_eq!(config.listeners[0].provider, name);
            assert!(config.listeners[0].endpoint.path.starts_with(&format!("/{name}")));
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn pages_of_providers_whose_api_ends_calls_say_how() {
        for name in names() {
            let page = page(name, &PublicUrl::example(name)).expect("a page");
            let hangup = page.split_once("```toml\nhangup = ").map(|(_, rest)| rest);
            assert_eq!(hangup.is_some(), recipe(name).is_some(), "{name}");
            let Some((hangup, _)) = hangup.and_then(|rest| rest.split_once("\n```")) else {
                continue;
            };
            let text = format!(
                "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"{name}\"\nhangup = {hangup}"
            );
            let text = text.replace("file:/etc/ringback/vonage.pem", "env:PEM");
            let variable = |name: &str| match name {
                "PEM" => Some(crate::outgoing::mock::TEST_KEY.to_owned()),
                name => variable(name),
            };
            let context = Context { variable: &variable, ..Context::of_process() };
            let config = Config::parse("page", &text, &Overrides::default(), &context);
            let config = config.unwrap_or_else(|problems| panic!("{name}: {problems}\n{text}"));
            assert!(config.listeners[0].hangup.is_some());
        }
    }

    #[test]
    fn whoever_has_an_answer_is_told_first_to_ask_the_bridge_and_sees_what_it_says() {
        for name in names() {
            let page = page(name, &PublicUrl::example(name)).expect("a page");
            let asks = page.contains(&format!("https://bridge.example.com/{name}/answer"));
            assert_eq!(asks, Answer::of(name).is_some(), "{name}");
            assert_eq!(page.contains("\nanswer = {"), asks, "{name}");
            let Some(answer) = Answer::of(name) else { continue };
            let (_, shown) = page.split_once("/answer").expect("the webhook");
            let shown = shown.split("```").nth(2).expect("the document under it");
            let shown =
                shown.split_once('\n').map(|(_, document)| document).expect("a language before it");
            // What the bridge says to a webhook that tells what stands on the page.
            let credential = shown.contains("THE-TOKEN") || shown.contains("THE-PASSWORD");
            let told = credential_of(&page, name);
            assert_eq!(credential, told.is_told(), "{name}");
            let url = PublicUrl::example(name).url;
            assert_eq!(shown, answer.document(&url, &told, &answer.sample()), "{name}");
            let Some(other) = answer.other() else { continue };
            let document = other.document(&url, &told, &other.sample());
            assert!(page.contains(&format!("```json\n{document}```")), "{name}: {page}");
        }
    }

    fn credential_of(page: &str, name: &str) -> Credential<'static> {
        match credential(name).as_deref() {
            Some("basic") => Credential::Basic("ringback", "THE-PASSWORD"),
            Some("bearer") => Credential::Bearer("THE-TOKEN"),
            Some("query") => Credential::Query("token", "THE-TOKEN"),
            Some("path") => Credential::Path("THE-TOKEN"),
            Some("vonage-jwt") => Credential::Vonage,
            Some("twilio-signature") => Credential::Untold,
            kind => panic!("{kind:?} in\n{page}"),
        }
    }

    #[test]
    fn credentials_are_those_of_the_pages() {
        assert_eq!(credential("twilio").as_deref(), Some("twilio-signature"));
        assert_eq!(credential("audiosocket"), None);
        assert_eq!(credential("nobody"), None);
        assert_eq!(credentials("plivo"), ["query", "plivo-signature"]);
        assert_eq!(credentials("audiosocket"), [""; 0]);
    }

    #[test]
    fn urls_are_filled_in_and_nothing_is_left() {
        let at = PublicUrl::parse("wss://calls.example:8443/in/twilio").expect("a URL");
        let page = page("twilio", &at).expect("a page");
        assert!(page.contains(r#"<Stream url="wss://calls.example:8443/in/twilio">"#), "{page}");
        assert!(page.contains(r#"path = "/in/twilio""#));
        for name in names() {
            let page = super::page(name, &PublicUrl::example(name)).expect("a page");
            for word in ["{{url}}", "{{host}}", "{{path}}", "{{answer}}", "{{other-answer}}"] {
                assert!(!page.contains(word), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_url_to_dial_is_refused() {
        for url in [
            "",
            "bridge",
            "https://a/b",
            "wss://",
            "wss:///a",
            "wss://a",
            "wss://a/",
            "wss://a/b?c",
            "wss://a/\"b",
        ] {
            let problem = PublicUrl::parse(url).expect_err(url);
            assert!(problem.contains("wss://bridge.example.com/twilio"), "{problem}");
        }
    }
}
