//! What one 20 ms frame costs on every wire: reading it off, and writing it.

use divan::Bencher;
use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Dial, Message, Options, Outbox, PROVIDERS, Protocol, Provider, Send, Track, Upgrade,
    find,
};

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.name())
}

/// Both ends of a stream that has started, the bridge's first.
fn ends(provider: &dyn Provider) -> (Box<dyn Protocol>, Box<dyn Protocol>) {
    let (request, mut phone) = provider.dial(&Dial::default());
    let upgrade = Upgrade { target: &request.target, public_url: None, headers: &[] };
    let accepted = provider.accept(&upgrade, &Options::default());
    let mut bridge = accepted.expect("accepts what it dials itself").protocol;
    let mut out = Outbox::new();
    bridge.handle_open(Instant::ZERO, &mut Outbox::new()).expect("opens");
    phone.handle_open(Instant::ZERO, &mut out).expect("opens");
    for send in out.sends() {
        if let Send::Text(span) = send {
            let message = Message::Text(out.text_of(span));
            let mut heard = Outbox::new();
            bridge.handle_message(Instant::ZERO, message, &mut heard).expect("is understood");
        }
    }
    (bridge, phone)
}

/// 20 ms of the provider's usual format.
fn frame(provider: &dyn Provider) -> Vec<u8> {
    let format = provider.formats()[0];
    let len = format.octets_for(format.rate.hz() as usize / 50).expect("frames of one length");
    (0..len).map(|i| (i * 37) as u8).collect()
}

/// The bridge reads a frame.
#[divan::bench(args = names())]
fn parse(bencher: Bencher<'_, '_>, name: &str) {
    let provider = find(name).expect("a provider of the table");
    let (mut bridge, mut phone) = ends(provider);
    let payload = frame(provider);
    let mut wire = Outbox::new();
    let command = Command::Media { track: Track::Inbound, payload: &payload };
    phone.handle_command(Instant::ZERO, command, &mut wire).expect("says it");
    let message = match &wire.sends()[0] {
        Send::Text(span) => Message::Text(wire.text_of(span)),
        Send::Binary(span) => Message::Binary(wire.octets(span)),
        Send::Close(_) => panic!("hung up"),
    };
    let mut out = Outbox::new();
    bencher.bench_local(|| {
        out.reset();
        bridge.handle_message(Instant::ZERO, divan::black_box(message), &mut out).expect("parses");
        divan::black_box(out.events().len())
    });
}

/// The bridge writes a frame.
#[divan::bench(args = names())]
fn print(bencher: Bencher<'_, '_>, name: &str) {
    let provider = find(name).expect("a provider of the table");
    let (mut bridge, _) = ends(provider);
    let payload = frame(provider);
    let mut out = Outbox::new();
    bencher.bench_local(|| {
        out.reset();
        let payload = divan::black_box(payload.as_slice());
        let command = Command::Media { track: Track::Outbound, payload };
        bridge.handle_command(Instant::ZERO, command, &mut out).expect("prints");
        divan::black_box(out.sends().len())
    });
}

/// The provider's end writes a frame, as a load generator does.
#[divan::bench(args = names())]
fn say(bencher: Bencher<'_, '_>, name: &str) {
    let provider = find(name).expect("a provider of the table");
    let (_, mut phone) = ends(provider);
    let payload = frame(provider);
    let mut out = Outbox::new();
    bencher.bench_local(|| {
        out.reset();
        let payload = divan::black_box(payload.as_slice());
        let command = Command::Media { track: Track::Inbound, payload };
        phone.handle_command(Instant::ZERO, command, &mut out).expect("says it");
        divan::black_box(out.sends().len())
    });
}
