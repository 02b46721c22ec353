//! Every way to prove that one may call, against right and wrong credentials, by kind and by what is wrong. Opens no socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its case has failed")]
#![allow(
    clippy::print_stdout,
    reason = "how many were refused is what one looks for in the output"
)]

mod bounds;
mod kinds;
mod signing;
mod timing;
mod vectors;
mod webhooks;

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{SECONDS_REMEMBERED, hs256};
use ringback_proto::provider::{Auth, Grant, Rejection, Replays, Upgrade};

/// When all is well.
const NOW: u64 = 1_800_000_000;

/// What can be wrong with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    Wrong,
    Missing,
    OtherScheme,
    NoSecrets,
    Expired,
    NotYetValid,
    Replayed,
    /// There twice, whichever of the two is right.
    Doubled,
    Empty,
    /// Large letters for small ones, and the other way round.
    OtherCase,
    /// A token that says of itself that it is signed otherwise, or not at all.
    Confused,
}

/// What every kind must refuse, and what those must that know of time.
const ALWAYS: [Flaw; 5] =
    [Flaw::Wrong, Flaw::Missing, Flaw::OtherScheme, Flaw::NoSecrets, Flaw::OtherCase];
const TIMED: [Flaw; 2] = [Flaw::Expired, Flaw::NotYetValid];

/// An upgrade to be made.
#[derive(Debug, Clone, Default)]
struct Asked {
    target: String,
    public_url: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    /// Of a request that is posted.
    body: String,
}

impl Asked {
    fn at(target: &str) -> Self {
        Self { target: target.into(), ..Self::default() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self
    }

    /// With another value in the place of the one there.
    fn but(self, name: &'static str, value: impl Into<String>) -> Self {
        self.without(name).with(name, value)
    }

    fn public(mut self, url: &'static str) -> Self {
        self.public_url = Some(url);
        self
    }

    fn upgrade<T>(&self, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let Self { target, public_url, .. } = self;
        look(&Upgrade { target, public_url: *public_url, headers: &headers })
    }

    fn check(&self, auth: &Auth, now: u64, replays: &mut Replays) -> Result<Grant, Rejection> {
        self.upgrade(|upgrade| {
            auth.check_posted(upgrade, self.body.as_bytes(), UnixSeconds(now), replays)
        })
    }
}

/// Counts what one kind let in and refused.
#[derive(Default)]
struct Tally {
    kind: &'static str,
    /// Text that must show nowhere.
    secrets: Vec<String>,
    accepted: usize,
    refused: BTreeMap<Flaw, usize>,
    /// The first that was let in, and when.
    first: Option<(Auth, Asked, u64)>,
}

impl Tally {
    fn of(kind: &'static str, secrets: &[&str]) -> Self {
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        Self { kind, secrets, ..Self::default() }
    }

    /// Must come in, by a memory of its own.
    fn accept(&mut self, why: &str, auth: &Auth, asked: &Asked, now: u64) -> Grant {
        let checked = asked.check(auth, now, &mut Replays::default());
        self.accepted += 1;
        self.first.get_or_insert_with(|| (auth.clone(), asked.clone(), now));
        checked.unwrap_or_else(|refusal| panic!("{}: {why}: {refusal}", self.kind))
    }

    fn refuse(&mut self, flaw: Flaw, why: &str, auth: &Auth, asked: &Asked, now: u64) -> String {
        self.refuse_remembering(flaw, why, auth, asked, now, &mut Replays::default())
    }

    /// Must stay out: the peer is told the same as everybody, and nothing that is secret or came from outside shows anywhere.
    fn refuse_remembering(
        &mut self,
        flaw: Flaw,
        why: &str,
        auth: &Auth,
        asked: &Asked,
        now: u64,
        replays: &mut Replays,
    ) -> String {
        let kind = self.kind;
        let Err(refusal) = asked.check(auth, now, replays) else {
            panic!("{kind}: {flaw:?}, {why}: let in")
        };
        let same_for_all = "authentication failed; the bridge's log says why";
        assert_eq!((refusal.status(), refusal.public()), (401, same_for_all), "{why}");
        let told = format!("{refusal} {refusal:?} {auth:?}");
        assert!(
            told.len() > "authentication failed".len() + 20,
            "{kind}: {why}: no reason for the log"
        );
        for secret in &self.secrets {
            assert!(!told.contains(secret), "{kind}: {why}: {secret} shows in {told}");
        }
        for (_, value) in asked.headers.iter().filter(|(_, value)| value.len() > 6) {
            assert!(!refusal.to_string().contains(value), "{kind}: {why}: {value} is repeated");
        }
        // A log line keeps 160 octets of it.
        assert!(refusal.to_string().len() <= 160, "{kind}: {refusal} is cut");
        *self.refused.entry(flaw).or_default() += 1;
        refusal.to_string()
    }

    /// Comes in once and not again.
    fn once(&mut self, auth: &Auth, asked: &Asked, now: u64) {
        let mut replays = Replays::default();
        asked.check(auth, now, &mut replays).expect("the first use");
        self.accepted += 1;
        let why = "used before";
        let told = self.refuse_remembering(Flaw::Replayed, why, auth, asked, now + 1, &mut replays);
        assert!(told.contains("has opened a stream already"), "{told}");
        // Neither when its time is nearly over, nor when it is, nor when nothing is left to remember it by.
        for later in [13, 60, 299, 300, 301, SECONDS_REMEMBERED, SECONDS_REMEMBERED + 1, 86_400] {
            self.refuse_remembering(Flaw::Replayed, why, auth, asked, now + later, &mut replays);
        }
    }

    /// All that can be done to a right one without knowing what it is.
    fn spoil(&mut self) {
        let (auth, right, now) = self.first.clone().expect("one was let in");
        for (at, (name, value)) in right.headers.iter().enumerate() {
            let with = |index: usize, value: &str| {
                let mut asked = right.clone();
                asked.headers.insert(index, (name, value.to_owned()));
                asked
            };
            // Of subprotocols there may be others.
            let other = if value.starts_with("Bearer-") { "Bearer-another" } else { "another" };
            for asked in [with(at, value), with(at, other), with(at + 1, other)] {
                self.refuse(Flaw::Doubled, name, &auth, &asked, now);
            }
            self.refuse(Flaw::Empty, name, &auth, &right.clone().but(name, ""), now);
            if let Some(other) = other_case(value) {
                self.refuse(Flaw::OtherCase, name, &auth, &right.clone().but(name, other), now);
            }
        }
        if right.headers.is_empty() {
            let target = other_case(&right.target).expect("it has letters");
            self.refuse(Flaw::OtherCase, "target", &auth, &Asked::at(&target), now);
        }
        if let Some((name, values)) = auth.query_parameter().zip(right.target.split_once('?')) {
            for more in [format!("{name}=another"), values.1.to_owned()] {
                for query in [format!("{}&{more}", values.1), format!("{more}&{}", values.1)] {
                    let asked = Asked::at(&format!("{}?{query}", values.0));
                    self.refuse(Flaw::Doubled, &query, &auth, &asked, now);
                }
            }
            let asked = Asked::at(&format!("{}?{name}=", values.0));
            self.refuse(Flaw::Empty, name, &auth, &asked, now);
        }
        self.confuse(&auth, &right, now);
    }

    /// The token with other words about its signature, and signed with what everybody knows.
    fn confuse(&mut self, auth: &Auth, right: &Asked, now: u64) {
        let Auth::Jwt(_) = auth else { return };
        let token = right.headers[0].1.strip_prefix("Bearer ").expect("a token");
        let [_, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
        let base64 = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
        for alg in CONFUSING {
            for kid in ["", r#","kid":"key-1""#] {
                let head = base64(&format!(r#"{{"typ":"JWT","alg":{alg}{kid}}}"#));
                for signature in ["", signature, "AAAA"] {
                    let asked = right
                        .clone()
                        .but("authorization", format!("Bearer {head}.{claims}.{signature}"));
                    self.refuse(Flaw::Confused, alg, auth, &asked, now);
                }
            }
        }
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap();
        let claims = String::from_utf8(claims).unwrap();
        for known in ["", "null", " ", vectors::JWKS, vectors::JWKS.trim(), modulus()] {
            let made = hs256(&known.into(), &claims);
            let asked = right.clone().but("authorization", format!("Bearer {made}"));
            self.refuse(Flaw::Confused, "signed with what everybody knows", auth, &asked, now);
        }
    }
}

/// What a token may say that it is signed by. HS256 and RS256 stand for those who want the other.
const CONFUSING: [&str; 12] = [
    r#""none""#,
    r#""None""#,
    r#""NONE""#,
    r#""nOnE""#,
    r#""""#,
    "null",
    r#""HS512""#,
    r#""hs256""#,
    r#""ES256""#,
    r#""PS256""#,
    r#""HS256","alg":"none""#,
    r#"["HS256"]"#,
];

/// The public half of a key, as everybody reads it.
fn modulus() -> &'static str {
    let (_, rest) = vectors::JWKS.split_once("\"n\":\"").unwrap_or_else(|| {
        vectors::JWKS.split_once("\"n\": \"").expect("a set of keys has their moduli")
    });
    rest.split_once('"').expect("a text").0
}

/// The same in the other case, if it has any; of what follows a scheme's name, whose case does not matter.
fn other_case(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
    let swap = |c: char| {
        if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    let other: String = rest.chars().map(swap).collect();
    let blank = if scheme.is_empty() { "" } else { " " };
    (other != rest).then(|| format!("{scheme}{blank}{other}"))
}

#[test]
fn only_the_right_credential_opens_whatever_the_kind() {
    let mut tallies = kinds::all();
    tallies.iter_mut().for_each(Tally::spoil);
    let (mut accepted, mut refused) = (0, 0);
    for Tally { kind, accepted: opened, refused: by_flaw, .. } in &tallies {
        let total: usize = by_flaw.values().sum();
        println!(
            "{kind:22} let in {opened:2} of {opened:2}, refused {total:2} of {total:2}: {by_flaw:?}"
        );
        assert!(*opened > 0, "{kind}: nobody was let in");
        let timed: &[Flaw] = if kinds::TIMED.contains(kind) { &TIMED } else { &[] };
        let replayed: &[Flaw] = if kinds::ONCE.contains(kind) { &[Flaw::Replayed] } else { &[] };
        // A path has one last segment, and it is either there or not.
        let spoilt: &[Flaw] = if *kind == "path" { &[] } else { &[Flaw::Doubled, Flaw::Empty] };
        let confused: &[Flaw] = if kind.starts_with("jwt") { &[Flaw::Confused] } else { &[] };
        let more = spoilt.iter().chain(confused);
        for flaw in ALWAYS.iter().chain(timed).chain(replayed).chain(more) {
            assert!(by_flaw.contains_key(flaw), "{kind}: {flaw:?} was not tried");
        }
        accepted += opened;
        refused += total;
    }
    println!("let in {accepted} of {accepted}, refused {refused} of {refused}");
}

#[test]
fn no_auth_lets_everybody_in() {
    let asked = Asked::at("/");
    assert_eq!(asked.check(&Auth::None, NOW, &mut Replays::new(0)), Ok(Grant::default()));
    assert!(Auth::None.opens_for_strangers());
}

proptest! {
    /// Whatever is written into the fields that are parsed: nobody comes in, and nothing breaks.
    #[test]
    fn nonsense_opens_nothing(
        first in "(sig1=|key=|Bearer |Basic |:)?[ -~\u{e9}]{0,60}",
        second in "(sig1=\\(\"a\"|Bearer-|a\\.b\\.|algorithm=)?[\"();,=:. a-z0-9]{0,60}",
        target in "/[ -~]{0,30}",
    ) {
        let url = "wss://bridge.example.com/x";
        for auth in kinds::one_of_each() {
            for (first, second) in [(&first, &second), (&second, &first)] {
                let asked = kinds::FIELDS.iter().enumerate().fold(
                    Asked::at(&target).public(url),
                    |asked, (index, name)| {
                        asked.with(name, if index % 2 == 0 { first } else { second }.as_str())
                    },
                );
                prop_assert!(asked.check(&auth, NOW, &mut Replays::default()).is_err());
            }
        }
    }
}
