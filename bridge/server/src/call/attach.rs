//! The calls of a listener by the provider's names for them, so that a stream finds the call that it goes on with. Runs none of them.
//!
//! Looked at when a stream starts and when a call ends, and at no other time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use ringback_codecs::MediaFormat;
use ringback_proto::provider::{Capabilities, Start, Track};
use ringback_proto::session::Takeover;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::capture::Tape;
use crate::listener::Guest;
use crate::receipt::Receipt;
use crate::socket::{Socket, close_code};

/// Streams that may wait for a call to take them; it takes each at once.
const MOST_WAITING: usize = 2;
/// Streams of a listener that may be there at once without a place, until they have said whose they are.
const MOST_GUESTS: usize = 64;
/// A longer name is nobody's: providers' have some forty characters.
const LONGEST_NAME: usize = 256;

/// A stream for a call that another one was lost of.
pub(super) struct Arrived {
    pub(super) stream: Takeover,
    pub(super) socket: Socket,
    pub(super) tape: Option<Tape>,
}

type Names = HashMap<Box<str>, Entry>;

/// The calls of one listener. Clones look at the same.
#[derive(Clone, Default)]
pub(crate) struct Attachments(Arc<Shared>);

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    /// Counted down by each guest.
    guests: Arc<AtomicUsize>,
    /// Calls without a stream.
    waiting: AtomicUsize,
}

struct Entry {
    shape: Shape,
    whose: Whose,
    streams: mpsc::Sender<Box<Arrived>>,
}

/// Who brought a stream. All secrets of a listener are one party's, so that they can be rotated; tokens may be about many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The kind of credential that it came with.
    pub(crate) credential: &'static str,
    /// Whom its token is about.
    pub(crate) subject: Option<Box<str>>,
}

/// What a stream must have in common with the one that it follows.
#[derive(PartialEq)]
struct Shape {
    inbound: Option<MediaFormat>,
    outbound: Option<MediaFormat>,
    tracks: Vec<Track>,
    capabilities: Capabilities,
}

impl Shape {
    fn of(start: &Start) -> Self {
        let Start { inbound, outbound, tracks, capabilities, .. } = start;
        Self {
            inbound: *inbound,
            outbound: *outbound,
            tracks: tracks.clone(),
            capabilities: *capabilities,
        }
    }
}

/// Whose a stream is that starts.
enum Claimed {
    /// A call's of its own, which has the name from now on.
    Own(Attachment),
    /// That of the call which waits for it here.
    Other(mpsc::OwnedPermit<Box<Arrived>>),
    /// A call's of its own that cannot be found again.
    Unnamed,
}

/// A call's name, for as long as it can take another stream.
struct Attachment {
    name: Box<str>,
    all: Attachments,
    /// Counted among the calls without a stream.
    waits: bool,
    streams: mpsc::Receiver<Box<Arrived>>,
}

impl Attachments {
    /// A stream starts. A name belongs to the call that had it first, for as long as that call lives: another party's stream, one of
    /// another shape, and one too many become calls of their own that cannot be found.
    fn claim(&self, start: &Start, whose: &Whose) -> Claimed {
        let Some(name) = start.call.as_deref().filter(|name| name.len() <= LONGEST_NAME) else {
            return Claimed::Unnamed;
        };
        let shape = Shape::of(start);
        let mut names = self.names();
        if let Some(known) = names.get(name) {
            let is_same = known.shape == shape && known.whose == *whose;
            let permit = known.streams.clone().try_reserve_owned().ok().filter(|_| is_same);
            return permit.map_or(Claimed::Unnamed, Claimed::Other);
        }
        let whose = whose.clone();
        let (sender, streams) = mpsc::channel(MOST_WAITING);
        let name: Box<str> = name.into();
        names.insert(name.clone(), Entry { shape, whose, streams: sender });
        Claimed::Own(Attachment { name, all: self.clone(), waits: false, streams })
    }

    /// Lets a stream in for which there is no place, if there are calls that wait for one.
    pub(crate) fn guest(&self) -> Option<Guest> {
        Guest::among(&self.0.guests, self.0.waiting.load(Ordering::Relaxed).min(MOST_GUESTS))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // What a thread left behind that panicked is as good as ever: entries are whole.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachment {
    /// The call has no stream, or has one again.
    fn wait(&mut self, waits: bool) {
        match (std::mem::replace(&mut self.waits, waits), waits) {
            (false, true) => _ = self.all.0.waiting.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.all.0.waiting.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.wait(false);
        self.all.names().remove(&self.name);
        turn_away(std::mem::replace(&mut self.streams, mpsc::channel(1).1));
    }
}

/// Tells streams for a call that has ended that it has, also those that found it before and are sent only now.
fn turn_away(mut streams: mpsc::Receiver<Box<Arrived>>) {
    streams.close();
    // Without a runtime there are no streams.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    loop {
        match streams.try_recv() {
            Ok(late) => drop(runtime.spawn(tell_over(late))),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => break,
        }
    }
    runtime.spawn(async move {
        // Ends once those who had found the call have sent their streams, or let go of them.
        while let Some(late) = streams.recv().await {
            tokio::spawn(tell_over(late));
        }
    });
}

async fn tell_over(late: Box<Arrived>) {
    late.socket.close(close_code::TRY_AGAIN, "the call has just ended").await;
}

/// A call's way to another stream, and a stream's to its call.
pub(crate) struct Reattach {
    calls: Attachments,
    whose: Whose,
    own: Option<Attachment>,
    guest: Option<Box<(Guest, Receipt)>>,
}

/// What becomes of a stream that starts.
pub(super) enum Claim {
    /// It begins a call.
    Own,
    /// It goes on with another one, to which it is sent.
    Other(mpsc::OwnedPermit<Box<Arrived>>),
    /// It goes on with none, and there is no place for one more.
    NoPlace,
}

impl Reattach {
    /// Among `calls`, for a stream of this party.
    pub(crate) fn new(calls: &Attachments, whose: Whose) -> Self {
        Self { calls: calls.clone(), whose, own: None, guest: None }
    }

    /// The same, for a stream that has no place of its own.
    pub(crate) fn for_guest(self, guest: Option<Box<(Guest, Receipt)>>) -> Self {
        Self { guest, ..self }
    }

    /// Whose the stream is that starts so. From now on a call can be found by its name.
    pub(super) fn claim(&mut self, start: &Start) -> Claim {
        match self.calls.claim(start, &self.whose) {
            Claimed::Other(permit) => {
                self.guest.take().into_iter().for_each(|guest| guest.1.keep());
                Claim::Other(permit)
            }
            _ if self.guest.is_some() => Claim::NoPlace,
            Claimed::Unnamed => Claim::Own,
            Claimed::Own(own) => {
                self.own = Some(own);
                Claim::Own
            }
        }
    }

    /// Whether another stream can find the call.
    pub(super) fn is_open(&self) -> bool {
        self.own.is_some()
    }

    /// The call has no stream and waits for one, or has one again.
    pub(super) fn wait(&mut self, waits: bool) {
        if let Some(own) = &mut self.own {
            own.wait(waits);
        }
    }

    /// Another stream for the call.
    pub(super) fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Box<Arrived>> {
        match self.own.as_mut().map(|own| own.streams.poll_recv(cx)) {
            Some(Poll::Ready(Some(arrived))) => Poll::Ready(arrived),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringback_proto::Instant;
    use ringback_proto::provider::{Dial, Message, Options, Outbox, Send, Upgrade};
    use ringback_proto::session::{Session, SessionConfig};

    use super::*;
    use crate::socket::{self, Incoming, SocketOptions};

    fn start(call: &str) -> Start {
        let raw = ringback_proto::provider::find("raw").expect("a provider");
        let capabilities = raw.capabilities();
        Start {
            stream: None,
            call: Some(call.into()),
            from: None,
            to: None,
            parameters: Vec::new(),
            tracks: vec![Track::Inbound],
            inbound: raw.formats().first().copied(),
            outbound: None,
            capabilities,
        }
    }

    fn whose(credential: &'static str, subject: Option<&str>) -> Whose {
        Whose { credential, subject: subject.map(Into::into) }
    }

    fn own(calls: &Attachments, start: &Start, whose: &Whose) -> Attachment {
        match calls.claim(start, whose) {
            Claimed::Own(own) => own,
            _ => panic!("not a call of its own"),
        }
    }

    #[test]
    fn a_stream_finds_the_call_of_its_name_shape_and_party_and_no_other_takes_the_name() {
        let calls = Attachments::default();
        let party = whose("jwt", Some("anna"));
        let first = own(&calls, &start("a"), &party);
        let _other_name = own(&calls, &start("b"), &party);
        let long = start(&"x".repeat(LONGEST_NAME + 1));
        assert!(matches!(calls.claim(&long, &party), Claimed::Unnamed));
        let unnamed = Start { call: None, ..start("a") };
        assert!(matches!(calls.claim(&unnamed, &party), Claimed::Unnamed));
        for other in [whose("jwt", Some("berta")), whose("jwt", None), whose("bearer", None)] {
            assert!(matches!(calls.claim(&start("a"), &other), Claimed::Unnamed), "{other:?}");
        }
        let two_tracks = vec![Track::Inbound, Track::Outbound];
        let other_shape = Start { tracks: two_tracks, ..start("a") };
        assert!(matches!(calls.claim(&other_shape, &party), Claimed::Unnamed));
        assert!(matches!(calls.claim(&start("a"), &party), Claimed::Other(_)), "it is still there");
        drop(first);
        assert_eq!(calls.names().len(), 1, "what is over takes no room");
        let _next = own(&calls, &other_shape, &whose("bearer", None));
    }

    /// A stream of raw that has started, and its caller's end of it.
    async fn stream() -> (Box<Arrived>, Socket) {
        let raw = ringback_proto::provider::find("raw").expect("a provider");
        let (near, far) = tokio::io::duplex(1 << 16);
        let (request, mut caller) = raw.dial(&Dial { call: "a".into(), ..Dial::default() });
        let options = SocketOptions { keepalive: None, ..SocketOptions::default() };
        let (phone, socket) = tokio::join!(
            socket::dial(near, "bridge", &request, options),
            socket::answer(far, options)
        );
        let (phone, socket) = (phone.expect("a stream"), socket.expect("a stream"));
        let upgrade = Upgrade { target: &request.target, public_url: None, headers: &[] };
        let accepted = raw.accept(&upgrade, &Options::default()).expect("it is one of raw");
        let now = Instant::ZERO;
        let mut config = SessionConfig::new("c1", raw.name());
        config.reattach = Some(Duration::from_secs(5));
        let mut session = Session::new(now, config, accepted.protocol);
        let mut out = Outbox::new();
        caller.handle_open(now, &mut out).expect("its own");
        for send in out.sends() {
            if let Send::Text(span) = send {
                session.handle_message(now, Message::Text(out.text_of(span)));
            }
        }
        let stream = *session.hand_over().expect("it has started");
        (Box::new(Arrived { stream, socket, tape: None }), phone)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_found_a_call_and_comes_once_it_has_ended_is_told_so() {
        for sent_before in [true, false] {
            let calls = Attachments::default();
            let party = whose("bearer", None);
            let call = own(&calls, &start("a"), &party);
            let Claimed::Other(permit) = calls.claim(&start("a"), &party) else {
                panic!("the call is there")
            };
            let (arrived, mut phone) = stream().await;
            if sent_before {
                permit.send(arrived);
                drop(call);
            } else {
                drop(call);
                permit.send(arrived);
            }
            let said = phone.recv().await;
            let Some(Ok(Incoming::Close(Some(closed)))) = said else { panic!("{said:?}") };
            let told = (closed.code, closed.reason.as_str());
            assert_eq!(told, (close_code::TRY_AGAIN, "the call has just ended"), "{sent_before}");
        }
    }

    #[test]
    fn a_listener_keeps_no_more_streams_waiting_than_few() {
        let calls = Attachments::default();
        let party = whose("bearer", None);
        let first = own(&calls, &start("a"), &party);
        let claim = || calls.claim(&start("a"), &party);
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| claim()).collect();
        assert!(waiting.iter().all(|claimed| matches!(claimed, Claimed::Other(_))));
        assert!(matches!(claim(), Claimed::Unnamed), "one that takes none of them is stuck");
        drop(first);
    }

    #[test]
    fn as_many_guests_come_as_there_are_calls_that_wait_for_a_stream() {
        let calls = Attachments::default();
        let party = whose("bearer", None);
        let mut live: Vec<_> =
            ["a", "b", "c"].iter().map(|name| own(&calls, &start(name), &party)).collect();
        assert!(calls.guest().is_none(), "none of them has lost its stream");
        live.iter_mut().take(2).for_each(|call| call.wait(true));
        let guests: Vec<_> = (0..3).map_while(|_| calls.guest()).collect();
        assert_eq!(guests.len(), 2);
        drop(guests);
        live[0].wait(false);
        let guest = calls.guest().map(|guest| Box::new((guest, Receipt::default())));
        assert!(guest.is_some() && calls.guest().is_none());
        let mut guest = Reattach::new(&calls, party).for_guest(guest);
        assert!(matches!(guest.claim(&start("d")), Claim::NoPlace));
        assert!(matches!(guest.claim(&start("b")), Claim::Other(_)));
        assert_eq!(calls.names().len(), 3, "nothing is kept of a guest");
        drop(live);
        assert!(calls.guest().is_none(), "who is gone waits for nothing");
    }
}
