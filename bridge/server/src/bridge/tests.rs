//! Who is let in while the keys of tokens come and change; whole calls are tested from outside.

use super::*;
use crate::config::{Context, Overrides};
use crate::outgoing::RsaKey;
use crate::outgoing::mock::{Mock, Reply, TEST_KEY, key_set, reply};

/// A bridge with one listener, whose issuer is `mock`.
fn bridge(mock: &Mock) -> Arc<Bridge> {
    bridge_for("twilio", "", mock)
}

/// The same for another provider, with more that its listener needs.
fn bridge_for(provider: &str, more: &str, mock: &Mock) -> Arc<Bridge> {
    let text = format!(
        "[[module]]\nname = \"echo\"\nbuiltin = \"echo\"\n[[listener]]\nname = \"x\"\npath = \"/x\"\nprovider = \"{provider}\"\nauth = {{ kind = \"jwt\", jwks_url = \"http://localhost/keys\" }}\n{more}"
    );
    let context = Context {
        variable: &|name| (name == "SECRET").then(|| "secret".into()),
        ..Context::of_process()
    };
    let config = Config::parse("f.toml", &text, &Overrides::default(), &context).unwrap();
    let connector = Arc::new(mock.connector());
    Arc::new(Bridge::through(&config, Clock::start(), Shutdown::new(), None, connector))
}

/// A token that is good for a minute, by the key of that name.
fn token(kid: &str) -> String {
    let part = |text: String| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text.as_bytes());
    let expiry = WallTime::now().unix_seconds().0 + 60;
    let head = part(format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#));
    let text = format!("{head}.{}", part(format!(r#"{{"exp":{expiry}}}"#)));
    let signature = RsaKey::from_pem(TEST_KEY).unwrap().sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(&signature))
}

/// Status of the answer to a stream with this token, decided as a connection does it; 101 lets it in.
async fn status(bridge: &Bridge, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let upgrade = Upgrade { target: "/x", public_url: None, headers: &headers };
    let standing = bridge.live.now();
    let endpoint = &standing.plans[0].endpoint;
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let admit = || bridge.admit(endpoint, &upgrade, peer).map(drop);
    let mut verdict = admit();
    if verdict.as_ref().is_err_and(|refusal| refusal.may_change)
        && bridge.reconsider(endpoint).await
    {
        verdict = admit();
    }
    verdict.map_or_else(|refusal| refusal.status, |()| 101)
}

fn keep_fresh(bridge: &Arc<Bridge>) -> tokio::task::JoinHandle<()> {
    let ring = bridge.live.now().plans[0].keyring.clone().expect("it has keys");
    tokio::spawn(async move { ring.keep_fresh().await })
}

#[tokio::test(start_paused = true)]
async fn the_first_stream_waits_for_the_first_keys_and_a_later_one_for_a_key_that_is_new() {
    let mock = Mock::new(vec![reply("200 OK", "", &key_set("old"))]);
    let bridge = bridge(&mock);
    let keeper = keep_fresh(&bridge);
    assert_eq!(status(&bridge, &token("old")).await, 101);
    assert_eq!(mock.asked().len(), 1);
    // The issuer changes its key: one stream finds out for all.
    mock.answer(reply("200 OK", "", &key_set("new")));
    assert_eq!(status(&bridge, &token("new")).await, 401, "keys were read just now");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(status(&bridge, &token("new")).await, 101);
    assert_eq!(status(&bridge, &token("old")).await, 401);
    assert_eq!(status(&bridge, &token("made up")).await, 401);
    assert_eq!(mock.asked().len(), 2, "what is made up costs nothing");
    keeper.abort();
}

#[tokio::test(start_paused = true)]
async fn without_any_key_streams_are_told_to_come_again() {
    let mock = Mock::new(vec![Reply::Silence]);
    let bridge = bridge(&mock);
    let keeper = keep_fresh(&bridge);
    assert_eq!(status(&bridge, &token("a")).await, 503);
    mock.answer(reply("500 Internal Server Error", "", ""));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(status(&bridge, &token("a")).await, 503);
    assert_eq!(status(&bridge, "nonsense").await, 503, "there is nothing to check it with");
    keeper.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_is_held_to_the_keys_that_are_there_now_too() {
    let mock = Mock::new(vec![reply("200 OK", "", &key_set("old"))]);
    let more = "options = { client_id = \"id\", client_secret = \"env:SECRET\" }";
    let bridge = bridge_for("zoom-rtms", more, &mock);
    let bearer = format!("Bearer {}", token("old"));
    let headers = [("authorization", bearer.as_str())];
    let request = Upgrade { target: "/x", public_url: None, headers: &headers };
    let body = br#"{"event":"meeting.rtms_stopped","payload":{"rtms_stream_id":"a"}}"#;
    let standing = bridge.live.now();
    let endpoint = &standing.plans[0].endpoint;
    let posted = || bridge.posted(endpoint, &request, body).map(drop);
    let early = posted().expect_err("no keys were read yet");
    assert!(early.status == 503 && early.may_change, "{early:?}");
    let keeper = keep_fresh(&bridge);
    assert!(bridge.reconsider(endpoint).await);
    assert_eq!(posted(), Ok(()));
    keeper.abort();
}
