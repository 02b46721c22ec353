//! Wires that carry words instead of sound.

use super::*;

/// Every provider that carries words, with every seed.
fn every_talk(mut test: impl FnMut(&'static dyn Provider, World<Simulator>)) {
    let talk = PROVIDERS.iter().filter(|provider| provider.capabilities().text);
    for provider in talk {
        for seed in SEEDS {
            eprintln!("{} seed {seed}", provider.name());
            test(*provider, phone(*provider, None, seed).expect("needs no codec"));
        }
    }
}

fn said(world: &mut World<Simulator>) -> Vec<PhoneEvent> {
    let events = std::iter::from_fn(|| world.phone.poll_event());
    events.filter(|event| !matches!(event, PhoneEvent::Started(_))).collect()
}

const AWKWARD: [&str; 3] = ["Yes.", "\"Quoted\\\" and\nbroken", "Grüße, 你好 \u{1F600}"];

#[test]
fn words_arrive_whole_and_in_order() {
    every_talk(|_, mut world| {
        for text in AWKWARD {
            world.phone.say(world.now, text, &mut world.out).expect("says");
            world.to_bridge.send(world.now, &mut world.out);
            let (first, rest) = text.split_at(1);
            world.command(Command::Say { text: first, language: None, last: false });
            world.command(Command::Say { text: rest, language: Some("de-DE"), last: true });
        }
        world.run(Duration::from_secs(20));
        let heard: Vec<_> = world.bridge.events.iter().map(|(_, event)| event.clone()).collect();
        let expected = AWKWARD.map(|text| Event::Heard {
            text: text.into(),
            language: Some("en-US".into()),
            last: true,
        });
        assert_eq!(heard, expected);
        assert_eq!(said(&mut world), AWKWARD.map(|text| PhoneEvent::Said(text.into())));
        let counters = world.phone.counters();
        assert_eq!((counters.texts_sent, counters.texts_received), (3, 6));
    });
}

#[test]
fn who_cuts_in_has_heard_the_beginning_and_the_bridge_is_told_which() {
    every_talk(|_, mut world| {
        let words = "This takes the provider a good while to speak to the caller.";
        world.command(Command::Say { text: words, language: None, last: true });
        while world.phone.counters().texts_received == 0 {
            world.run(FRAME);
        }
        world.run(Duration::from_millis(1_000));
        world.phone.say(world.now, "Stop!", &mut world.out).expect("says");
        world.to_bridge.send(world.now, &mut world.out);
        world.run(Duration::from_secs(10));
        let events = std::mem::take(&mut world.bridge.events);
        let [(_, Event::Interrupted { heard: Some(heard), after: Some(after) }), (_, last)] =
            events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert!(matches!(last, Event::Heard { text, last: true, .. } if text == "Stop!"));
        assert!(words.starts_with(heard.as_str()) && heard.split(' ').count() > 1, "{heard:?}");
        assert!(heard.len() < words.len() && *after >= Duration::from_millis(1_000));
        let at_phone = said(&mut world);
        assert_eq!(at_phone[1..], [PhoneEvent::Interrupted(heard.clone())]);
    });
}

#[test]
fn languages_and_what_is_handed_on_reach_the_provider() {
    every_talk(|provider, mut world| {
        world.command(Command::Language { speech: Some("sv-SE"), recognition: None });
        let data = r#"{"queue":"\"billing\""}"#;
        world.command(Command::Handoff(data));
        world.command(Command::Say { text: "too late", language: None, last: true });
        world.run(Duration::from_secs(10));
        let language = PhoneEvent::Language { speech: Some("sv-SE".into()), recognition: None };
        let handed = provider.capabilities().handoff.then(|| PhoneEvent::HandedOn(data.into()));
        let expected = [Some(language), handed, Some(PhoneEvent::HungUp)];
        assert_eq!(said(&mut world), expected.into_iter().flatten().collect::<Vec<_>>());
    });
}
