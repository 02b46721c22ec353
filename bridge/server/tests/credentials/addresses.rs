//! Providers of which nothing proves who they are but where they come from: allowed addresses, others, and those of whom others say so.

use ringback_proto::provider::{Dial, PROVIDERS, Provider, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Caller, Host, soon};
use crate::{ask, page_of};

const TOLD: (u16, &str) = (403, "this address may not open streams here");
/// Networks of the providers that are tried: this machine's, and one that is nobody's (RFC 5737).
const NEAR: &str = "127.0.0.0/8";
const FAR: &str = "192.0.2.0/24";

/// Whether a page says by address who may call.
pub(crate) fn is_known_by_address(page: &str) -> bool {
    page.lines().any(|line| line.starts_with("allow = ["))
}

fn known_by_address() -> impl Iterator<Item = &'static dyn Provider> {
    PROVIDERS.iter().copied().filter(|provider| is_known_by_address(&page_of(*provider)))
}

/// By their addresses alone: whether what comes from this machine was meant for it is asked elsewhere.
fn listeners(allow: &str) -> String {
    let listener = |provider: &dyn Provider| {
        let name = provider.name();
        format!(
            "[[listener]]\nname = \"{name}\"\npath = \"/{name}\"\nprovider = \"{name}\"\nallow = [\"{allow}\"]\ninsecure = true\n"
        )
    };
    known_by_address().map(listener).collect()
}

/// Whether a stream is taken; one without HTTP cannot be told anything and is only closed.
async fn taken(host: &Host, provider: &dyn Provider, forwarded: &[&str]) -> bool {
    let dial = Dial { target: format!("/{}", provider.name()), ..Dial::default() };
    if provider.transport() == Transport::Records {
        let mut stream = host.connect().await;
        // The first record of a call, whose name are 16 octets of anything.
        let first = [&[0x01, 0x00, 0x10][..], &[7; 16]].concat();
        let written = stream.write_all(&first).await;
        let ended = soon("the end", stream.read(&mut [0; 16])).await;
        return written.is_ok() && !matches!(ended, Ok(0) | Err(_));
    }
    let mut request = provider.dial(&dial).0;
    let fields = forwarded.iter().map(|value| ("X-Forwarded-For".into(), (*value).into()));
    request.headers.extend(fields);
    match ask(host, &request).await {
        Ok(()) => true,
        Err((status, body)) => {
            assert_eq!((status, body.as_str()), TOLD, "{}", provider.name());
            false
        }
    }
}

async fn whole_call(host: &Host, provider: &dyn Provider) {
    let call = format!("{}-by-address", provider.name());
    let dial = Dial { target: format!("/{}", provider.name()), call, ..Dial::default() };
    let caller = Caller::dial(host.clock, host.connect().await, provider, &dial, &[]).await;
    let mut caller = caller.unwrap_or_else(|error| panic!("{}: {error}", provider.name()));
    caller.format().await;
    if provider.transport() == Transport::Records {
        // Heard by now: who hangs up before the first record was read has never called.
        caller.pause(1).await;
    }
    let caller = caller.hang_up().await;
    host.log.ended(caller.call().unwrap_or(&dial.call)).await;
}

#[tokio::test]
async fn who_is_known_by_address_is_let_in_from_there_and_from_nowhere_else() {
    let near = Host::on_loopback(&listeners(NEAR));
    let far = Host::on_loopback(&listeners(FAR));
    let behind = Host::on_loopback(&format!("trusted_proxies = [\"{NEAR}\"]\n{}", listeners(FAR)));
    // Where this machine is, what comes from it, and whether it may.
    let cases: [(&str, &Host, &[&str], bool); 9] = [
        ("allowed", &near, &[], true),
        ("allowed, in somebody's name", &near, &["203.0.113.9"], true),
        ("not allowed", &far, &[], false),
        ("in the name of an allowed one, unasked", &far, &["192.0.2.7"], false),
        ("by a proxy of ours, allowed", &behind, &["192.0.2.7"], true),
        ("by a proxy of ours, not allowed", &behind, &["203.0.113.9"], false),
        ("by a proxy of ours, who says he is another", &behind, &["192.0.2.7, 203.0.113.9"], false),
        ("by a proxy of ours, no address", &behind, &["192.0.2.7", "nonsense"], false),
        ("by a proxy of ours, for itself", &behind, &[], false),
    ];
    let (mut providers, mut let_in, mut refused) = (0, 0, 0);
    for provider in known_by_address() {
        providers += 1;
        let name = provider.name();
        whole_call(&near, provider).await;
        let carries_fields = provider.transport() == Transport::WebSocket;
        for (case, host, forwarded, may) in cases {
            // Without HTTP nobody can be passed on, and what is taken says nothing until it hears sound.
            if carries_fields || (forwarded.is_empty() && !may) {
                assert_eq!(taken(host, provider, forwarded).await, may, "{name}: {case}");
                *(if may { &mut let_in } else { &mut refused }) += 1;
            }
        }
        let_in += 1;
    }
    assert!(providers > 0, "no page says by address who may call");
    println!(
        "{providers} providers by address: let in {let_in} of {let_in}, refused {refused} of {refused}"
    );
    for host in [near, far, behind] {
        host.stop().await;
    }
}
