//! Whatever comes over a wire, neither end panics; and what one end prints, the other reads.

use proptest::prelude::*;
use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Dial, Digit, Event, FrameLaw, Line, LineEvent, Message, Options, Outbox, PROVIDERS,
    PlayoutPolicy, Protocol, Provider, Send, Track, Transport, Upgrade,
};

/// Both ends of a stream that has started, the bridge's first.
fn ends(provider: &dyn Provider) -> (Box<dyn Protocol>, Box<dyn Protocol>) {
    let (request, mut phone) = provider.dial(&Dial::default());
    let accepted = request.arrives(|upgrade| provider.accept(upgrade, &Options::default()));
    let mut bridge = accepted.expect("accepts").protocol;
    let (mut ours, mut theirs) = (Outbox::new(), Outbox::new());
    bridge.handle_open(Instant::ZERO, &mut ours).expect("opens");
    phone.handle_open(Instant::ZERO, &mut theirs).expect("opens");
    // Until nobody has anything left to say; some ask and are answered before they start.
    let mut started = false;
    let is_start = |event: &Event| matches!(event, Event::Started(_));
    while !(ours.sends().is_empty() && theirs.sends().is_empty()) {
        let (mut answers, mut replies) = (Outbox::new(), Outbox::new());
        theirs.sends().iter().for_each(|send| deliver(&mut *bridge, &theirs, send, &mut answers));
        ours.sends().iter().for_each(|send| deliver(&mut *phone, &ours, send, &mut replies));
        for send in ours.sends() {
            if let Send::Dial(line, _) = send {
                let opened =
                    bridge.handle_line(Instant::ZERO, *line, LineEvent::Opened, &mut answers);
                opened.expect("was asked for");
            }
        }
        started |= ours.events().iter().chain(answers.events()).any(is_start);
        (ours, theirs) = (answers, replies);
    }
    if !started {
        // On wires that announce nothing a stream starts with its first sound.
        told(
            &mut *phone,
            &mut *bridge,
            Command::Media { track: Track::Inbound, payload: &[0; 320] },
        );
    }
    (bridge, phone)
}

/// Whether sound can be played at all.
fn plays(provider: &dyn Provider) -> bool {
    provider.capabilities().playout != PlayoutPolicy::None
}

fn deliver(end: &mut dyn Protocol, from: &Outbox, send: &Send, out: &mut Outbox) {
    let now = Instant::ZERO;
    let heard = match send {
        Send::Text(span) => end.handle_message(now, Message::Text(from.text_of(span)), out),
        Send::Binary(span) => end.handle_message(now, Message::Binary(from.octets(span)), out),
        Send::Close(_) | Send::Drop(_) => return,
        Send::Dial(line, _) => end.handle_line(now, *line, LineEvent::Opened, out),
        Send::TextOn(line, span) => {
            let message = Message::Text(from.text_of(span));
            end.handle_line(now, *line, LineEvent::Message(message), out)
        }
    };
    heard.expect("is understood");
}

/// Gives both ends a message, before and after the stream has started, on each of its lines; looks at all that comes of it.
fn feed(message: Message<'_>) {
    let lines = Line::ALL.into_iter().map(Some).chain([None]);
    for (line, provider) in lines.flat_map(|line| PROVIDERS.iter().map(move |of| (line, of))) {
        if line.is_some() && !matches!(provider.transport(), Transport::Webhook { .. }) {
            continue;
        }
        let fresh = {
            let upgrade = Upgrade { target: "/", public_url: None, headers: &[] };
            provider.accept(&upgrade, &Options::default()).expect("accepts").protocol
        };
        let (bridge, phone) = ends(*provider);
        for mut end in [fresh, bridge, phone] {
            let mut out = Outbox::new();
            for _ in 0..2 {
                let now = Instant::ZERO;
                let handled = match line {
                    None => end.handle_message(now, message, &mut out),
                    Some(line) => end.handle_line(now, line, LineEvent::Message(message), &mut out),
                };
                if let Err(error) = handled {
                    assert!((1002..=1007).contains(&error.close_code()));
                    assert!(error.to_string().len() < 600, "{error}");
                }
            }
            for event in out.events() {
                if let Event::Media(media) = event {
                    let _ = out.octets(&media.payload);
                }
            }
            for send in out.sends() {
                if let Send::Text(span) | Send::TextOn(_, span) = send {
                    assert_eq!(out.text_of(span).as_bytes(), out.octets(span));
                }
            }
        }
    }
}

/// All text of the transcripts.
fn known_texts() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut texts = Vec::new();
    for provider in PROVIDERS {
        for entry in std::fs::read_dir(root.join(provider.name())).expect("transcripts") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let text = std::fs::read_to_string(path).expect("readable");
                let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
                let lines = lines.filter(|line: &serde_json::Value| line["type"] == "text");
                texts.extend(lines.map(|line| line["data"].as_str().expect("text").to_owned()));
            }
        }
    }
    assert!(texts.len() > 100);
    texts
}

/// A known message with pieces cut out, doubled or replaced.
fn damaged() -> impl Strategy<Value = String> {
    let texts = known_texts();
    let cut = (any::<prop::sample::Index>(), 0_usize..12, ".{0,6}");
    (prop::sample::select(texts), prop::collection::vec(cut, 1..4)).prop_map(|(text, cuts)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, len, instead) in cuts {
            let at = at.index(chars.len() + 1);
            let end = (at + len).min(chars.len());
            chars.splice(at..end, instead.chars());
        }
        chars.into_iter().collect()
    })
}

fn digit() -> impl Strategy<Value = Digit> {
    prop::sample::select("0123456789*#ABCD".chars().collect::<Vec<_>>())
        .prop_map(|key| Digit::new(key).expect("a key"))
}

/// What the other end is told when an end is given a command, sound as its octets.
fn told(
    from: &mut dyn Protocol,
    to: &mut dyn Protocol,
    command: Command<'_>,
) -> Vec<(Event, Vec<u8>)> {
    let (mut out, mut heard) = (Outbox::new(), Outbox::new());
    from.handle_command(Instant::ZERO, command, &mut out).expect("obeys");
    for send in out.sends() {
        deliver(to, &out, send, &mut heard);
    }
    // What the other end has to say to it counts, too.
    for send in heard.sends() {
        deliver(from, &heard, send, &mut Outbox::new());
    }
    let octets = |event: &Event| match event {
        Event::Media(media) => heard.octets(&media.payload).to_vec(),
        _ => Vec::new(),
    };
    // Some calls begin with their first sound.
    let begins = |event: &&Event| matches!(event, Event::Started(_));
    let events = heard.events().iter().filter(|event| !begins(event));
    events.map(|event| (event.clone(), octets(event))).collect()
}

/// A language tag, or none.
fn language() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-z]{2}-[A-Z]{2}")
}

proptest! {
    #[test]
    fn words_are_carried_as_they_are(
        text in ".{0,80}", language in language(), last in any::<bool>(), ms in 0_u64..1_000_000,
    ) {
        for provider in PROVIDERS.iter().filter(|provider| provider.capabilities().text) {
            let (mut bridge, mut phone) = ends(*provider);
            let tag = language.as_deref();
            let said = told(&mut *bridge, &mut *phone, Command::Say { text: &text, language: tag, last });
            let expected =
                Event::SayRequested { text: text.clone(), language: language.clone(), last };
            prop_assert_eq!(said, vec![(expected, Vec::new())]);
            let heard = told(&mut *phone, &mut *bridge, Command::Heard { text: &text, language: tag, last });
            let [(Event::Heard { text: words, last: complete, .. }, _)] = heard.as_slice() else {
                panic!("{}: {heard:?}", provider.name());
            };
            prop_assert_eq!((words, *complete), (&text, last));
            let after = std::time::Duration::from_millis(ms);
            let cut = told(&mut *phone, &mut *bridge, Command::Interrupted { heard: &text, after });
            let expected = Event::Interrupted { heard: Some(text.clone()), after: Some(after) };
            prop_assert_eq!(cut, vec![(expected, Vec::new())]);
        }
    }

    #[test]
    fn any_text_is_survived(text in ".{0,200}") {
        feed(Message::Text(&text));
    }

    #[test]
    fn damaged_messages_are_survived(text in damaged()) {
        feed(Message::Text(&text));
    }

    #[test]
    fn any_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
        feed(Message::Binary(&octets));
    }

    #[test]
    fn any_request_is_answered(target in "(/[a-z]{0,4})?\\?(encoding|rate|channels|x)=.{0,20}") {
        for provider in PROVIDERS {
            let upgrade = Upgrade { target: &target, public_url: None, headers: &[] };
            if let Err(rejection) = provider.accept(&upgrade, &Options::default()) {
                prop_assert_eq!(rejection.status(), 400);
            }
        }
    }

    #[test]
    fn marks_are_asked_for_and_reported_by_name(names in prop::collection::vec(".{0,80}", 1..20)) {
        for provider in PROVIDERS.iter().filter(|provider| provider.capabilities().marks) {
            let (mut bridge, mut phone) = ends(*provider);
            let mut wire_names = Vec::new();
            for name in &names {
                let asked = told(&mut *bridge, &mut *phone, Command::Mark(name));
                let [(Event::MarkRequested(wire), _)] = asked.as_slice() else {
                    panic!("{}: {asked:?}", provider.name());
                };
                wire_names.push(wire.clone());
            }
            for (name, wire) in names.iter().zip(wire_names) {
                let played = told(&mut *phone, &mut *bridge, Command::Played(&wire));
                prop_assert_eq!(played, vec![(Event::Played(name.clone()), Vec::new())]);
            }
        }
    }

    #[test]
    fn sound_is_carried_as_it_is(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 3_200), 1..4),
        keys in prop::collection::vec(digit(), 0..4),
    ) {
        for provider in PROVIDERS {
            let (mut bridge, mut phone) = ends(*provider);
            let usual = provider.formats().first();
            // Whole frames, for ends that take nothing else: 20 ms of every provider's usual format.
            let octets = match (usual, provider.capabilities().frame) {
                (Some(usual), FrameLaw::AtLeast { least: time, .. } | FrameLaw::Exact(time)) => {
                    usual.octets_for(usual.rate.samples_in(time) as usize).expect("of a kind")
                }
                _ => 640,
            };
            let frames = frames.iter().filter(|_| usual.is_some());
            for frame in frames.map(|frame| &frame[..octets]) {
                let command = |track| Command::Media { track, payload: frame };
                let said = told(&mut *phone, &mut *bridge, command(Track::Inbound));
                let heard = told(&mut *bridge, &mut *phone, command(Track::Outbound));
                if !plays(*provider) {
                    prop_assert_eq!(&heard, &[]);
                }
                let directions = [(said, Track::Inbound), (heard, Track::Outbound)];
                let directions = directions.into_iter().take(1 + usize::from(plays(*provider)));
                for (events, expected) in directions {
                    let [(Event::Media(media), octets)] = events.as_slice() else {
                        panic!("{}: {events:?}", provider.name());
                    };
                    prop_assert_eq!(media.track, expected);
                    prop_assert_eq!(octets, frame);
                }
            }
            for key in keys.iter().filter(|_| provider.capabilities().dtmf_in) {
                let pressed = told(&mut *phone, &mut *bridge, Command::Dtmf(*key));
                let right = match pressed.as_slice() {
                    [] => !provider.capabilities().dtmf_in,
                    [(Event::Dtmf { digit, .. }, _)] => digit == key,
                    _ => false,
                };
                prop_assert!(right, "{:?}", pressed);
            }
        }
    }
}
