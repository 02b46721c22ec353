//! Who is dialled and who is not: one file of URLs with what must become of each, held against the parts of the guard and against
//! whole connections.
#![allow(
    clippy::print_stdout,
    reason = "how many were refused is what one looks for in the output"
)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::outgoing::http::Url;
use crate::outgoing::{ConnectError, Connector, Peer};

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn reach(hosts: &[&str]) -> Reach {
    Reach::new(hosts.iter().map(|host| host.parse().expect(host)).collect(), Vec::new())
}

/// Somebody who may have us dial, by the letter that the file has for it.
enum Policy {
    Lines(char, Reach),
    Sink(char, Addresses),
}

impl Policy {
    fn all() -> [Self; 3] {
        let near = ["ws://127.0.0.1", "ws://[::1]", "ws://localhost", "lab.example"];
        let near = near.map(|host| host.parse().expect(host)).to_vec();
        let house = || networks(&["10.1.0.0/16"]);
        [
            Self::Lines('z', reach(&["zoom.us"])),
            Self::Lines('n', Reach::new(near, house())),
            Self::Sink('s', Addresses::new(house(), "allow")),
        ]
    }

    const fn letter(&self) -> char {
        match self {
            Self::Lines(letter, _) | Self::Sink(letter, _) => *letter,
        }
    }

    const fn addresses(&self) -> &Addresses {
        match self {
            Self::Lines(_, reach) => reach.addresses(),
            Self::Sink(_, addresses) => addresses,
        }
    }

    /// Whom the URL has us dial, if it may.
    fn peer(&self, url: &str) -> Result<Peer, String> {
        match self {
            Self::Lines(_, reach) => reach.url(url).map(|url| url.peer()),
            Self::Sink(..) => {
                let as_http = url.strip_prefix("ws").filter(|_| url.starts_with("ws://"));
                let as_https = url.strip_prefix("wss").filter(|_| url.starts_with("wss://"));
                let http = as_http.map(|rest| format!("http{rest}"));
                let https = as_https.map(|rest| format!("https{rest}"));
                let url: Url = http.or(https).unwrap_or_else(|| url.to_owned()).parse()?;
                Ok(url.peer().clone())
            }
        }
    }
}

/// A line of the file.
struct Row {
    line: usize,
    letters: String,
    url: String,
    leads_to: Vec<IpAddr>,
}

impl Row {
    /// Where its host leads: as written, or as this system's resolver reads a number.
    fn addresses(&self, authority: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = authority.rsplit_once(':').expect("it has a port");
        let port = port.parse().expect("it is one");
        if !self.leads_to.is_empty() {
            return Ok(self.leads_to.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
        }
        let is_number = host.starts_with('[') || host.starts_with(|c: char| c.is_ascii_digit());
        assert!(is_number, "line {}: {host} leads nowhere", self.line);
        Ok(authority.to_socket_addrs()?.collect())
    }
}

fn unescaped(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\\') {
        plain += &rest[..at];
        let letter = rest[at + 1..].chars().next().expect("something is escaped");
        rest = &rest[at + 2..];
        plain.push(match letter {
            'r' => '\r',
            'n' => '\n',
            't' => '\t',
            '0' => '\0',
            'u' => {
                let (number, after) = rest[1..].split_once('}').expect("a brace");
                rest = after;
                u32::from_str_radix(number, 16).ok().and_then(char::from_u32).expect("a character")
            }
            same => same,
        });
    }
    plain + rest
}

fn rows(port: u16) -> Vec<Row> {
    let lines = include_str!("urls.txt").lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let row = |(index, line): (usize, &str)| {
        let (letters, rest) = line.split_at(3);
        let rest = rest.strip_prefix(' ').expect("a blank").replace("{port}", &port.to_string());
        let (url, leads_to) = rest.split_once(" = ").unwrap_or((&rest, ""));
        let leads_to = leads_to.split(' ').filter(|ip| !ip.is_empty());
        Row {
            line: index + 1,
            letters: letters.to_owned(),
            url: unescaped(url),
            leads_to: leads_to.map(|ip| ip.parse().expect("an address")).collect(),
        }
    };
    lines.map(row).collect()
}

/// Both judgements, without a connection.
fn judged(policy: &Policy, row: &Row) -> Result<(), String> {
    let peer = policy.peer(&row.url)?;
    let addresses = row.addresses(&peer.authority).map_err(|error| error.to_string())?;
    let check = |address: &SocketAddr| policy.addresses().check(peer.host(), address.ip());
    let mut last = Err("no address".to_owned());
    for address in &addresses {
        last = check(address);
        if last.is_ok() {
            break;
        }
    }
    last
}

#[test]
fn every_url_of_the_file_is_dialled_by_whom_it_may_be_and_by_nobody_else() {
    let rows = rows(9);
    let (mut let_through, mut refused) = (0, 0);
    for policy in Policy::all() {
        for row in &rows {
            let (judged, may) = (judged(&policy, row), row.letters.contains(policy.letter()));
            let (letter, line, url) = (policy.letter(), row.line, &row.url);
            assert_eq!(judged.is_ok(), may, "line {line}, {letter}: {url:?}: {judged:?}");
            *(if may { &mut let_through } else { &mut refused }) += 1;
        }
    }
    assert!(rows.len() >= 200 && let_through >= 50, "{} {let_through}", rows.len());
    println!(
        "{} URLs: let through {let_through} of {let_through}, refused {refused} of {refused}",
        rows.len()
    );
}

/// Counts who comes, by either kind of address.
async fn counted() -> (u16, Arc<AtomicUsize>) {
    let came = Arc::new(AtomicUsize::new(0));
    let first = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = first.local_addr().expect("it has one").port();
    // Not every machine has the other kind.
    let second = tokio::net::TcpListener::bind(("::1", port)).await.ok();
    for listener in [Some(first), second].into_iter().flatten() {
        let came = Arc::clone(&came);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                came.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    (port, came)
}

#[tokio::test]
async fn whole_connections_come_to_nobody_who_may_not_be_dialled() {
    let (port, came) = counted().await;
    let (mut wanted, mut tried) = (0, 0);
    for row in rows(port) {
        let row = Arc::new(row);
        for policy in Policy::all() {
            let may = row.letters.contains(policy.letter());
            // Whoever may be dialled is elsewhere, but for this machine.
            let is_here = row.url.starts_with("ws://") && row.url.contains(&port.to_string());
            let Ok(peer) = policy.peer(&row.url) else { continue };
            if may && !is_here {
                continue;
            }
            let names = Arc::clone(&row);
            let connector = Connector::knowing(Arc::new(move |host: &str| names.addresses(host)));
            let connector = connector.within_reach(policy.addresses().clone());
            // Without TLS, so that nothing but the guard stands between.
            let peer = Peer { secure: false, ..peer };
            let connected = connector.connect(&peer).await;
            tried += 1;
            if connected.is_ok() {
                wanted += 1;
            }
            assert_eq!(connected.is_ok(), may, "line {}, {}", row.line, policy.letter());
        }
    }
    while came.load(Ordering::SeqCst) < wanted {
        tokio::task::yield_now().await;
    }
    assert_eq!(came.load(Ordering::SeqCst), wanted);
    assert!(wanted >= 4, "who may come does come, or nothing is shown");
    println!("{tried} tried, {wanted} of {wanted} that may have come, 0 others");
}

/// A name that leads to an allowed address when it is looked at and to another one when it is dialled.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_looked_up_is_what_is_connected_to() {
    let good = tokio::net::TcpListener::bind("127.0.0.2:0").await.expect("a port");
    let good = good.local_addr().expect("it has one");
    let (port, came) = counted().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let connector = Connector::knowing(Arc::new(move |_: &str| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![if first { good } else { SocketAddr::from(([127, 0, 0, 1], port)) }])
    }));
    let addresses = Addresses::new(networks(&["127.0.0.2/32"]), "dial");
    let connector = connector.within_reach(addresses);
    let peer = Peer { authority: format!("rebound.example:{port}"), secure: false };
    assert!(connector.connect(&peer).await.is_ok(), "the first answer is as good as it looks");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "asked once for a connection");
    let Err(error) = connector.connect(&peer).await else { panic!("rebound") };
    assert!(matches!(&error, ConnectError::Io(why) if why.contains("`dial`")), "{error}");
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

#[test]
fn without_tls_only_where_it_is_said() {
    let near = reach(&["ws://127.0.0.1", "ws://[::1]", "zoom.us"]);
    let told = near.url("ws://zoom.us/").expect_err("not without TLS");
    assert!(told.contains("ws://zoom.us") && told.contains("ws://127.0.0.1, "), "{told}");
    for wrong in ["", "https://a", "a/b", "a:80", "a b", "ws://", ".", ".."] {
        assert!(wrong.parse::<Host>().is_err(), "{wrong}");
    }
    assert!(".zoom.us".parse::<Host>().is_ok(), "as others write it");
    assert!(Reach::default().url("wss://zoom.us/").is_err(), "nobody");
}
