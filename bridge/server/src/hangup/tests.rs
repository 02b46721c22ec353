//! Every recipe against a server that plays the provider's API: the right request, and what is made of each answer.

use ringback_proto::UnixSeconds;
use ringback_proto::provider::Upgrade;
use ringback_proto::provider::auth::{Auth, Jwt, JwtKeys, KeySet, Replays, Secret};

use super::*;
use crate::clock::WallTime;
use crate::outgoing::RsaKey;
use crate::outgoing::mock::{Mock, Reply, TEST_KEY, key_set, reply};

const ACCOUNT: &str = "AC0123";
const CALL: &str = "CA-4:5";

/// A credential as a recipe takes it, with what it becomes in the request, and where tokens are fetched from.
fn credential(recipe: &Recipe, url: &str) -> HangupCredential {
    match recipe.scheme {
        Scheme::Basic => {
            HangupCredential::Fixed(HangupCredential::basic(ACCOUNT, &Secret::from("s3cret")))
        }
        Scheme::Token(word) => {
            HangupCredential::Fixed(Secret::from(format!("{word} s3cret").as_str()))
        }
        Scheme::Client(_) => HangupCredential::Client {
            url: format!("{url}/token").parse().unwrap(),
            basic: HangupCredential::basic("client", &Secret::from("s3cret")),
        },
        Scheme::Application => HangupCredential::Application {
            id: "app-1".into(),
            key: Arc::new(RsaKey::from_pem(TEST_KEY).unwrap()),
        },
    }
}

fn hang_up(recipe: &'static Recipe, mock: &Mock, base: &str, pool: &Pool) -> Arc<HangUp> {
    let url = format!("{}{base}", mock.url);
    let account = if recipe.wants_account() { ACCOUNT.into() } else { String::new() };
    let config = HangupConfig {
        recipe,
        base: url.parse().unwrap(),
        account,
        credential: credential(recipe, &url),
        deadline: Duration::from_secs(5),
    };
    HangUp::new(config, Arc::new(mock.connector()), Clock::start(), pool.clone())
}

/// What came of it, and how many tries it took.
async fn outcome(hangup: &HangUp, call: &str) -> (HangupOutcome, u32) {
    let tries = AtomicU32::new(0);
    let path = hangup.config.recipe.path_of(&hangup.config.account, call).unwrap();
    let outcome = hangup.carry_out(&path, &tries).await;
    (outcome, tries.load(Relaxed))
}

async fn with(recipe: &'static Recipe, replies: Vec<Reply>) -> (HangupOutcome, u32) {
    let mock = Mock::new(replies);
    outcome(&hang_up(recipe, &mock, "", &Pool::new()), CALL).await
}

fn telnyx() -> &'static Recipe {
    recipe("telnyx").unwrap()
}

#[tokio::test]
async fn each_provider_is_asked_as_its_api_wants_to_be() {
    for recipe in &RECIPES {
        let fetched = matches!(recipe.scheme, Scheme::Client(_));
        let token = reply("200 OK", "", r#"{"access_token":"t0ken","expires_in":3600}"#);
        let mut replies = vec![reply("204 No Content", "", "")];
        if fetched {
            replies.insert(0, token);
        }
        let mock = Mock::new(replies);
        let hangup = hang_up(recipe, &mock, "/base", &Pool::new());
        assert_eq!(outcome(&hangup, CALL).await, (HangupOutcome::Done, 1), "{}", recipe.provider);
        let mut asked = mock.asked();
        if fetched {
            let first = asked.remove(0);
            assert!(first.starts_with("POST /base/token HTTP/1.1\r\n"), "{first}");
            assert!(first.contains("\r\nauthorization: Basic Y2xpZW50OnMzY3JldA==\r\n"), "{first}");
            assert!(first.ends_with("\r\n\r\ngrant_type=client_credentials"), "{first}");
        }
        let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
        let path = recipe.path.replace("{account}", ACCOUNT).replace("{call}", "CA-4%3A5");
        let line = format!("{} /base{path} HTTP/1.1", recipe.method);
        assert_eq!(head.lines().next(), Some(line.as_str()));
        assert_eq!(body, recipe.body.map_or("", |(_, text)| text), "{}", recipe.provider);
        let sent = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap();
        match recipe.scheme {
            Scheme::Basic => assert_eq!(sent, "Basic QUMwMTIzOnMzY3JldA=="),
            Scheme::Token(word) => assert_eq!(sent, format!("{word} s3cret")),
            Scheme::Client(_) => assert_eq!(sent, "Bearer t0ken"),
            Scheme::Application => verified(sent),
        }
    }
}

/// The bridge's own check of tokens takes what the bridge signs.
fn verified(authorization: &str) {
    let jwt = Jwt::new(JwtKeys::Public(KeySet::parse(&key_set("any")).unwrap()));
    let jwt = Jwt { claims: vec![("application_id".into(), "app-1".into())], ..jwt };
    let headers = [("authorization", authorization)];
    let upgrade = Upgrade { target: "/", public_url: None, headers: &headers };
    let check = |now: UnixSeconds| {
        Auth::Jwt(jwt.clone()).check(&upgrade, now, &mut Replays::default()).map(|_| ())
    };
    let now = WallTime::now().unix_seconds();
    assert_eq!(check(now), Ok(()));
    assert!(check(UnixSeconds(now.0 + 301)).is_err(), "it lives for five minutes");
}

#[tokio::test]
async fn a_call_that_the_api_does_not_know_any_more_is_over() {
    for recipe in &RECIPES {
        let (status, sign) = recipe.over[0];
        let mut replies = vec![reply(&format!("{status} Gone"), "", sign)];
        if matches!(recipe.scheme, Scheme::Client(_)) {
            replies.insert(0, reply("200 OK", "", r#"{"access_token":"t"}"#));
        }
        assert_eq!(with(recipe, replies).await, (HangupOutcome::Over, 1), "{}", recipe.provider);
    }
    let ended = r#"{"errors":[{"code":"90018","title":"Call has already ended"}]}"#;
    let invalid = r#"{"errors":[{"code":"90015","title":"Invalid Call Control ID"}]}"#;
    let status = "422 Unprocessable Entity";
    assert_eq!(with(telnyx(), vec![reply(status, "", ended)]).await, (HangupOutcome::Over, 1));
    let (outcome, tries) = with(telnyx(), vec![reply(status, "", invalid)]).await;
    assert!(matches!(&outcome, HangupOutcome::Failed(reason) if reason.contains("90015")));
    assert_eq!(tries, 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let ok = || reply("200 OK", "", "{}");
    let busy =
        |seconds: &str| reply("429 Too Many Requests", &format!("retry-after: {seconds}\r\n"), "");
    let broken = || reply("500 Internal Server Error", "", "");
    let garbage = || Reply::Octets("SSH-2.0-x\r\n".into());
    for (replies, tries) in [
        (vec![broken(), ok()], 2),
        (vec![busy("1"), ok()], 2),
        (vec![garbage(), broken(), ok()], 3),
        (vec![Reply::Silence, ok()], 2),
    ] {
        assert_eq!(with(telnyx(), replies).await, (HangupOutcome::Done, tries));
    }
    for (replies, tries, why) in [
        (vec![broken(), broken(), broken(), ok()], 3, "status 500"),
        (vec![busy("3600"), ok()], 1, "asked again in 3600s"),
        (vec![reply("401 Unauthorized", "", "bad  key\r\n"), ok()], 1, "status 401: bad key"),
        (vec![reply("302 Found", "location: /\r\n", ""), ok()], 1, "status 302"),
        (vec![garbage()], 3, "no HTTP answer"),
    ] {
        let (outcome, tried) = with(telnyx(), replies).await;
        let HangupOutcome::Failed(reason) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(tried, tries, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetched_token_serves_until_it_is_refused() {
    let token = |name: &str| {
        reply("200 OK", "", &format!(r#"{{"access_token":"{name}","expires_in":3600}}"#))
    };
    let ok = || reply("200 OK", "", "");
    let mock = Mock::new(vec![
        token("one"),
        ok(),
        ok(),
        reply("401 Unauthorized", "", ""),
        token("two"),
        ok(),
        reply("401 Unauthorized", "", ""),
        reply("401 Unauthorized", "", "client is locked"),
    ]);
    let hangup = hang_up(recipe("bandwidth").unwrap(), &mock, "", &Pool::new());
    assert_eq!(outcome(&hangup, CALL).await, (HangupOutcome::Done, 1));
    assert_eq!(outcome(&hangup, CALL).await, (HangupOutcome::Done, 1));
    assert_eq!(outcome(&hangup, CALL).await, (HangupOutcome::Done, 2));
    let (failed, _) = outcome(&hangup, CALL).await;
    assert!(matches!(&failed, HangupOutcome::Failed(reason) if reason.contains("no token from")));
    let used: Vec<_> = mock
        .asked()
        .iter()
        .filter_map(|request| {
            Some(request.split_once("authorization: ")?.1.lines().next()?.to_owned())
        })
        .filter(|value| value.starts_with("Bearer"))
        .collect();
    assert_eq!(used, ["Bearer one", "Bearer one", "Bearer one", "Bearer two", "Bearer two"]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_hang_ups_is_bounded_and_each_is_over_by_its_deadline() {
    let mock = Mock::new(vec![Reply::Silence]);
    let pool = Pool::of(1, 2);
    let hangup = hang_up(telnyx(), &mock, "", &pool);
    let before = tokio::time::Instant::now();
    let mut ended: Vec<_> = (0..4).map(|_| hangup.begin("call", Some(CALL))).collect();
    // The fourth finds no place, and is told at once.
    assert!(ended.remove(3).await.is_err());
    assert!(before.elapsed() < Duration::from_secs(1));
    for ended in ended {
        assert_eq!(ended.await, Ok(()));
    }
    assert_eq!(before.elapsed().as_secs(), 5);
    assert_eq!(pool.waiting.available_permits(), 3);
    assert_eq!(pool.running.available_permits(), 1);
}

#[tokio::test]
async fn names_that_are_none_are_never_asked_for() {
    let mock = Mock::new(vec![reply("200 OK", "", "")]);
    let hangup = hang_up(telnyx(), &mock, "", &Pool::new());
    for id in [None, Some(""), Some(".."), Some("../../accounts"), Some("a b")] {
        assert!(hangup.begin("call", id).await.is_err(), "{id:?}");
    }
    assert!(mock.asked().is_empty());
    let said = format!("{hangup:?}");
    assert!(!said.contains("s3cret"), "{said}");
}
