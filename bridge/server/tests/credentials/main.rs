//! Every provider with every credential that its page knows, over sockets: the right one is taken, and whatever is wrong with it is
//! refused before the upgrade, with the same answer for all.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its case has failed")]
#![allow(
    clippy::print_stdout,
    reason = "how many were refused is what one looks for in the output"
)]

mod addresses;
mod command_line;
#[path = "../support/mod.rs"]
mod support;
mod ways;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ringback::clock::WallTime;
use ringback::connect::{PublicUrl, credentials, page};
use ringback::socket::{self, DialError, SocketOptions};
use ringback_proto::UnixSeconds;
use ringback_proto::provider::auth::{Occasion, Proof, hs256};
use ringback_proto::provider::{Dial, OutgoingUpgrade, PROVIDERS, Provider, Transport};
use support::{Caller, Folder, Host, soon, summaries};
use ways::{NOBODYS, SEEDS, Way, forged, ways};

/// What is wrong with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flaw {
    Missing,
    Wrong,
    /// Of another listener, or for one.
    OfAnother,
    Cut,
    /// One bit is not what it was.
    Changed,
    Expired,
    NotYetValid,
    Replayed,
    /// Used at one listener, and brought to another that has the same secret.
    ReplayedElsewhere,
    /// There twice, whichever of the two is right.
    Doubled,
    Empty,
    /// Large letters for small ones, and the other way round.
    OtherCase,
    /// A token that says of itself that it is signed otherwise, or not at all.
    Confused,
}

impl Flaw {
    /// What must be tried of a way.
    fn of(way: &Way) -> Vec<Self> {
        use Flaw::{
            Changed, Confused, Cut, Doubled, Empty, Expired, Missing, NotYetValid, OfAnother,
        };
        use Flaw::{OtherCase, Replayed, ReplayedElsewhere, Wrong};
        let of = |does: bool, flaws: &'static [Self]| if does { flaws } else { &[] };
        [
            &[Missing, Wrong, OfAnother, Cut, Changed, OtherCase],
            of(way.timed, &[Expired, NotYetValid]),
            of(way.once, &[Replayed, ReplayedElsewhere]),
            // A path has one last segment, which is there or not.
            of(!way.is_path(), &[Doubled, Empty]),
            of(way.is_jwt(), &[Confused]),
        ]
        .concat()
    }
}

/// What everybody is told who is refused.
const TOLD: (u16, &str) = (401, "authentication failed; the bridge's log says why");
const TWO_DAYS: u64 = 2 * 24 * 60 * 60;
const HOST: &str = "bridge.example";

/// A provider's listener of one kind, another of the same kind with another secret, and a third with the first one's.
struct Row {
    provider: &'static dyn Provider,
    /// With the first secret, with the second, and with one of nobody's.
    ways: [Way; 3],
    index: usize,
}

/// A request that is signed, and what it was before.
struct Signed {
    bare: OutgoingUpgrade,
    request: OutgoingUpgrade,
}

fn page_of(provider: &dyn Provider) -> String {
    page(provider.name(), &PublicUrl::example(provider.name())).expect("every provider has a page")
}

/// What a provider posts instead is signed in a way of its own, and tried where it posts.
fn streaming() -> impl Iterator<Item = &'static dyn Provider> {
    let streams = [Transport::WebSocket, Transport::Records];
    PROVIDERS.iter().copied().filter(move |provider| streams.contains(&provider.transport()))
}

fn rows(folder: &Folder) -> Vec<Row> {
    let mut rows = Vec::new();
    for provider in streaming() {
        let page = page_of(provider);
        for kind in credentials(provider.name()) {
            let [a, b, c] =
                [SEEDS[0], SEEDS[1], NOBODYS].map(|seed| ways(&kind, &page, folder, seed));
            for ((a, b), c) in a.into_iter().zip(b).zip(c) {
                let index = rows.len();
                rows.push(Row { provider, ways: [a, b, c], index });
            }
        }
    }
    rows
}

impl Row {
    fn path(&self, which: usize) -> String {
        format!("/{}-{}-{which}", self.provider.name(), self.index)
    }

    /// All listeners.
    fn toml(&self) -> String {
        let mut text = String::new();
        for which in 0..3 {
            let (path, auth) = (self.path(which), &self.ways[which % 2].auth);
            let provider = self.provider.name();
            let _ = write!(
                text,
                "[[listener]]\nname = \"{}\"\npath = \"{path}\"\nprovider = \"{provider}\"\npublic_url = \"wss://{HOST}{path}\"\nauth = {auth}\n",
                &path[1..]
            );
        }
        text
    }

    fn dial(&self, which: usize) -> Dial {
        Dial { target: self.path(which), call: self.path(which)[1..].into(), ..Dial::default() }
    }

    /// Signed at `now` for the listener `which`.
    fn sign(&self, which: usize, proof: &Proof, now: u64) -> Signed {
        let bare = self.provider.dial(&self.dial(which)).0;
        let mut request = bare.clone();
        sign(&mut request, proof, &self.path(which), now);
        Signed { bare, request }
    }

    /// The right one for the first listener.
    fn right(&self) -> Signed {
        self.sign(0, &self.ways[0].proof, now())
    }

    /// Signed for the second listener, and sent to the first.
    fn astray(&self, proof: &Proof) -> OutgoingUpgrade {
        let mut request = self.sign(1, proof, now()).request;
        request.target = request.target.replacen(&self.path(1), &self.path(0), 1);
        request
    }

    /// What was signed for the first listener, sent to the third, which has the same secret.
    fn elsewhere(&self, request: &OutgoingUpgrade) -> OutgoingUpgrade {
        let mut request = request.clone();
        request.target = request.target.replacen(&self.path(0), &self.path(2), 1);
        request
    }

    /// All that must be refused at the first listener, but what is right at first.
    fn wrong(&self) -> Vec<(Flaw, OutgoingUpgrade)> {
        let way = &self.ways[0];
        let signed = |proof: &_, now| self.sign(0, proof, now).request;
        let mut wrong = vec![
            (Flaw::Missing, self.right().bare),
            (Flaw::Wrong, signed(&self.ways[2].proof, now())),
            (Flaw::OfAnother, self.astray(&self.ways[1].proof)),
        ];
        if way.auth.contains("jwks") {
            wrong.push((Flaw::Wrong, signed(&forged(way), now())));
        }
        if way.by_url {
            wrong.push((Flaw::OfAnother, self.astray(&way.proof)));
        }
        if way.timed {
            wrong.push((Flaw::Expired, signed(&way.proof, now() - TWO_DAYS)));
            wrong.push((Flaw::NotYetValid, signed(&way.proof, now() + TWO_DAYS)));
        }
        for part in self.right().parts() {
            let length = part.end - part.start;
            for left in [1, length / 2, length - 1] {
                let mut cut = self.right().request;
                let end = part.end;
                part.of(&mut cut).drain(part.start + left..end);
                wrong.push((Flaw::Cut, cut));
            }
            for at in [0, length / 2, length - 1] {
                let mut changed = self.right().request;
                flip(part.of(&mut changed), part.start + at);
                wrong.push((Flaw::Changed, changed));
            }
            wrong.extend(part.spoilt(&self.right().request, way.is_path()));
        }
        if way.is_jwt() {
            let confused = confused(&self.right().request).into_iter();
            wrong.extend(confused.map(|request| (Flaw::Confused, request)));
        }
        wrong
    }
}

fn now() -> u64 {
    WallTime::now().unix_seconds().0
}

/// Signs as for the listener at `path`; two never have the same nonce.
fn sign(request: &mut OutgoingUpgrade, proof: &Proof, path: &str, now: u64) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nonce = format!("{:022}", COUNT.fetch_add(1, Ordering::Relaxed));
    let url = format!("wss://{HOST}{path}");
    let (now, public_url) = (UnixSeconds(now), Some(url.as_str()));
    let occasion = Occasion { now, nonce: &nonce, host: HOST, secure: true, public_url, body: "" };
    proof.sign(request, &occasion).unwrap();
}

/// Where a request holds a piece of its credential.
struct Part {
    place: Place,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Target,
    Header(usize),
    Subprotocol(usize),
}

impl Part {
    fn of<'a>(&self, request: &'a mut OutgoingUpgrade) -> &'a mut String {
        match self.place {
            Place::Target => &mut request.target,
            Place::Header(index) => &mut request.headers[index].1,
            Place::Subprotocol(index) => &mut request.subprotocols[index],
        }
    }

    /// The right one with this part twice, empty, or in the other case.
    fn spoilt(&self, right: &OutgoingUpgrade, is_path: bool) -> Vec<(Flaw, OutgoingUpgrade)> {
        let mut spoilt = Vec::new();
        let (mut empty, mut other_case) = (right.clone(), right.clone());
        let text = self.of(&mut other_case);
        let part = text[self.start..self.end].to_owned();
        let other: String = part.chars().map(swapped).collect();
        text.replace_range(self.start..self.end, &other);
        if other != part {
            spoilt.push((Flaw::OtherCase, other_case));
        }
        if is_path {
            return spoilt;
        }
        self.of(&mut empty).replace_range(self.start..self.end, "");
        spoilt.push((Flaw::Empty, empty));
        for (before, value) in [(true, "another"), (false, "another"), (true, part.as_str())] {
            let mut doubled = right.clone();
            let at = usize::from(!before);
            match self.place {
                Place::Target => {
                    let (path, query) = right.target.split_once('?').expect("a parameter");
                    let before_it = &right.target[..self.start - "=".len()];
                    let name = before_it.rsplit(['?', '&']).next().expect("its name");
                    let pairs = [format!("{name}={value}"), query.to_owned()];
                    let [first, second] =
                        if before { pairs } else { [pairs[1].clone(), pairs[0].clone()] };
                    doubled.target = format!("{path}?{first}&{second}");
                }
                Place::Header(index) => {
                    let (name, whole) = &right.headers[index];
                    let value = format!("{}{value}", &whole[..self.start]);
                    doubled.headers.insert(index + at, (name.clone(), value));
                }
                // Our own client offers nothing twice.
                Place::Subprotocol(_) if value == part => continue,
                Place::Subprotocol(index) => {
                    let value = format!("Bearer-{value}");
                    doubled.subprotocols.insert(index + at, value);
                }
            }
            spoilt.push((Flaw::Doubled, doubled));
        }
        spoilt
    }
}

const fn swapped(c: char) -> char {
    if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

/// The token of a request with other words about its signature, and signed with what everybody knows.
fn confused(right: &OutgoingUpgrade) -> Vec<OutgoingUpgrade> {
    let is_token = |(_, value): &&(String, String)| value.starts_with("Bearer ");
    let (name, value) = right.headers.iter().find(is_token).expect("a token");
    let token = value.strip_prefix("Bearer ").expect("it begins so");
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let decoded = |part: &str| {
        let octets = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).unwrap();
        String::from_utf8(octets).unwrap()
    };
    let (head, claims_text) = (decoded(head), decoded(claims));
    let mut tokens = Vec::new();
    for (from, to) in [("256", "384"), ("256", "512"), ("HS", "RS"), ("RS", "HS"), ("RS", "PS")] {
        tokens.push((head.replacen(from, to, 1), signature));
    }
    for none in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", signature] {
            let other = head.replacen("HS256", none, 1).replacen("RS256", none, 1);
            tokens.push((other, signature));
        }
    }
    let tokens = tokens.into_iter().filter(|(other, _)| *other != head);
    let tokens = tokens.map(|(head, signature)| {
        let head = base64_simd::URL_SAFE_NO_PAD.encode_to_string(head);
        format!("{head}.{claims}.{signature}")
    });
    let known = ["", "null", ways::KEY, ways::KEY.trim()];
    let known = known.map(|known| hs256(&known.into(), &claims_text));
    let with = |token: String| {
        let mut request = right.clone();
        let field = request.headers.iter_mut().find(|(found, _)| found == name);
        field.expect("as before").1 = format!("Bearer {token}");
        request
    };
    tokens.chain(known).map(with).collect()
}

impl Signed {
    /// All that signing has added, scheme words and punctuation of URLs left out.
    fn parts(&self) -> Vec<Part> {
        let Self { bare, request } = self;
        let mut parts = Vec::new();
        if bare.target != request.target {
            let start = request.target.find(SEEDS[0]).expect("as it is");
            parts.push(Part { place: Place::Target, start, end: start + SEEDS[0].len() });
        }
        for (index, (_, value)) in request.headers.iter().enumerate().skip(bare.headers.len()) {
            let start =
                if value.starts_with("B") { value.find(' ').map_or(0, |at| at + 1) } else { 0 };
            parts.push(Part { place: Place::Header(index), start, end: value.len() });
        }
        let protocols = request.subprotocols.iter().enumerate();
        for (index, name) in protocols.skip(bare.subprotocols.len()) {
            let place = Place::Subprotocol(index);
            parts.push(Part { place, start: "Bearer-".len(), end: name.len() });
        }
        assert!(!parts.is_empty(), "signing has added nothing");
        parts
    }
}

/// Changes the last bit of one character.
fn flip(text: &mut String, at: usize) {
    let mut octets = std::mem::take(text).into_bytes();
    octets[at] ^= 1;
    *text = String::from_utf8(octets).expect("ASCII before and after");
}

/// Whether a request is taken, or else what is said.
async fn ask(host: &Host, request: &OutgoingUpgrade) -> Result<(), (u16, String)> {
    let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
    let dialled = socket::dial(host.connect().await, HOST, request, options);
    match soon("an answer", dialled).await {
        Ok(socket) => {
            socket.close(1000, "").await;
            Ok(())
        }
        Err(DialError::Refused { status, body, .. }) => Err((status, body)),
        Err(other) => panic!("{request:?}: {other}"),
    }
}

#[tokio::test]
async fn only_the_right_credential_opens_a_stream_of_any_provider() {
    let folder = Folder::new("credentials");
    let rows = rows(&folder);
    let host = Host::on_loopback(&rows.iter().map(Row::toml).collect::<String>());
    let (mut taken, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        let name = format!("{} by {}", row.provider.name(), row.ways[0].name);
        let (let_in, by_flaw) = try_row(&host, row, &name).await;
        for flaw in Flaw::of(&row.ways[0]) {
            assert!(by_flaw.contains_key(&flaw), "{name}: {flaw:?} was not tried");
        }
        let total: usize = by_flaw.values().sum();
        println!(
            "{name:40} let in {let_in} of {let_in}, refused {total:2} of {total:2}: {by_flaw:?}"
        );
        *taken.entry(row.provider.name()).or_insert(0) += let_in;
        *refused.entry(row.provider.name()).or_insert(0) += total;
    }
    for provider in streaming() {
        let (name, page) = (provider.name(), page_of(provider));
        let tried = taken.contains_key(name) && refused.contains_key(name);
        let by_address = addresses::is_known_by_address(&page);
        assert!(tried || by_address, "{name}: no page says how it proves that it may call");
    }
    let (yes, no): (usize, usize) = (taken.values().sum(), refused.values().sum());
    println!("{} providers: let in {yes} of {yes}, refused {no} of {no}", taken.len());
    let log = host.log.clone();
    host.stop().await;
    let mut calls = BTreeMap::new();
    for summary in summaries(&log.entries()) {
        *calls.entry(summary.provider).or_insert(0) += 1;
    }
    assert_eq!(calls, taken, "what is let in is a call, and what is refused never was one");
}

/// How many were let in, and how many refused for what.
async fn try_row(host: &Host, row: &Row, name: &str) -> (usize, BTreeMap<Flaw, usize>) {
    // Both listeners open for their own: what is refused at one is right at the other.
    for which in 0..2 {
        call(host, row, which, name).await;
    }
    let mut by_flaw = BTreeMap::new();
    let mut refuse = |flaw, answer: Result<(), (u16, String)>| {
        let Err((status, body)) = answer else { panic!("{name}: {flaw:?} was let in") };
        assert_eq!((status, body.as_str()), TOLD, "{name}: {flaw:?}");
        *by_flaw.entry(flaw).or_default() += 1;
    };
    for (flaw, request) in row.wrong() {
        refuse(flaw, ask(host, &request).await);
    }
    let Signed { request, .. } = row.right();
    assert_eq!(ask(host, &request).await, Ok(()), "{name}: what the wrong ones were made of");
    let again = ask(host, &request).await;
    let elsewhere = row.elsewhere(&request);
    if row.ways[0].once {
        refuse(Flaw::Replayed, again);
        refuse(Flaw::ReplayedElsewhere, ask(host, &elsewhere).await);
        return (3, by_flaw);
    }
    assert_eq!(again, Ok(()), "{name}: opens as often as it is asked");
    (4, by_flaw)
}

/// A call that starts and is hung up.
async fn call(host: &Host, row: &Row, which: usize, name: &str) {
    if !row.provider.has_sound() {
        let signed = row.sign(which, &row.ways[which].proof, now());
        return assert_eq!(ask(host, &signed.request).await, Ok(()), "{name}");
    }
    let dial = row.dial(which);
    let stream = host.connect().await;
    let proof = &row.ways[which].proof;
    let signing = |request: &mut OutgoingUpgrade| sign(request, proof, &row.path(which), now());
    let caller = Caller::dial_as(host.clock, stream, row.provider, &dial, signing).await;
    let mut caller = caller.unwrap_or_else(|error| panic!("{name}: {error}"));
    caller.format().await;
    let caller = caller.hang_up().await;
    let code = caller.goodbye.as_ref().map_or(1000, |goodbye| goodbye.code);
    assert_eq!(code, 1000, "{name}: {:?}", caller.goodbye);
}
