//! Calls that are ended by a provider's API.

use super::*;
#[cfg(feature = "tls")]
use crate::hangup::{RECIPES, Scheme};

/// A listener of `provider` with these keys of `hangup`.
fn hung_up_by(provider: &str, keys: &str) -> Result<Config, String> {
    let text = format!(
        "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"{provider}\"\n[listener.hangup]\nkind = \"rest\"\n{keys}"
    );
    let variable = |name: &str| match name {
        "KEY" => Some("s3cret".to_owned()),
        "PEM" => Some(crate::outgoing::mock::TEST_KEY.to_owned()),
        _ => None,
    };
    let mut context = context(&variable);
    context.providers = provider::PROVIDERS.iter().map(|provider| provider.name()).collect();
    Config::parse("f.toml", &text, &Overrides::default(), &context)
        .map_err(|error| error.to_string())
}

#[test]
#[cfg(feature = "tls")]
fn every_way_to_hang_up_takes_its_keys_and_hides_its_secrets() {
    for recipe in &RECIPES {
        let mut keys = match recipe.scheme {
            Scheme::Basic => "password = \"env:KEY\"\n",
            Scheme::Token(_) => "token = \"env:KEY\"\n",
            Scheme::Client(_) => "user = \"u\"\npassword = \"env:KEY\"\n",
            Scheme::Application => "application = \"a\"\nprivate_key = \"env:PEM\"\n",
        }
        .to_owned();
        if recipe.wants_account() {
            keys.push_str("account = \"AC1\"\n");
        }
        if recipe.base.is_none() {
            let missing = hung_up_by(recipe.provider, &keys).unwrap_err();
            assert!(missing.contains("`base_url` is missing"), "{missing}");
            keys.push_str("base_url = \"https://api.example\"\n");
        }
        let config = hung_up_by(recipe.provider, &keys).unwrap();
        let hangup = config.listeners[0].hangup.as_ref().expect("it was asked for");
        assert_eq!((hangup.recipe.provider, hangup.deadline.as_secs()), (recipe.provider, 5));
        assert!(config.wants_tls());
        let said = format!("{config:?}");
        assert!(!said.contains("s3cret") && !said.contains("PRIVATE"), "{said}");
        // Each of its keys is needed.
        for line in keys.lines().filter(|line| !line.starts_with("base_url")) {
            let error = hung_up_by(recipe.provider, &keys.replace(line, "")).unwrap_err();
            let key = line.split(' ').next().unwrap();
            assert!(error.contains(&format!("`{key}` is missing")), "{error}");
        }
    }
}

#[test]
fn hang_ups_that_cannot_be_are_refused_with_a_remedy() {
    for (provider, keys, why) in [
        ("asterisk", "", "asterisk is hung up over its own wire: leave `hangup` out"),
        ("exotel", "", "how to hang up \"exotel\" by its API is not known (known: twilio, "),
        ("telnyx", "token = \"s3cret\"", "a secret is not written here"),
        (
            "telnyx",
            "token = \"env:KEY\"\naccount = \"a\"",
            "`account` is not used by telnyx, which takes token",
        ),
        (
            "telnyx",
            "token = \"env:KEY\"\nbase_url = \"http://api.telnyx.com\"",
            "over https:// only",
        ),
        ("telnyx", "token = \"env:KEY\"\ndeadline = \"1ms\"", "expected 500ms to 30s"),
        ("vonage", "application = \"a\"\nprivate_key = \"env:KEY\"", "env:KEY "),
    ] {
        let error = hung_up_by(provider, keys).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
