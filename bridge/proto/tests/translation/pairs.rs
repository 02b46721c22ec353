//! Every provider in, every bot out: what one says the other hears, and the rest of what a call is.

use super::*;

/// Sound over error, in dB, at the best of all delays near the first sound.
fn likeness(said: &[i16], heard: &[i16]) -> f64 {
    let loud = |samples: &[i16]| samples.iter().position(|sample| sample.abs() > 500);
    let (Some(begin), Some(begins)) = (loud(said), loud(heard)) else { return f64::MIN };
    let mut best = f64::MIN;
    for shift in 0..24 {
        let Some(from) = (begins + 12).checked_sub(begin + shift) else { continue };
        let (mut signal, mut noise, mut length) = (0.0, 0.0, 0);
        for (&a, &b) in said.iter().zip(&heard[from..]) {
            let (a, b) = (f64::from(a), f64::from(b));
            signal += a * a;
            noise += (a - b) * (a - b);
            length += 1;
        }
        // All of it, but for the tail that a resampler keeps until it knows that nothing follows.
        if length + 64 >= said.len() {
            best = f64::max(best, 10.0 * (signal / noise.max(1e-9)).log10());
        }
    }
    best
}

/// Compares what was said in one format with what was heard in another.
fn same(about: &str, spoken: MediaFormat, said: &[i16], in_format: MediaFormat, heard: &[i16]) {
    if spoken == in_format {
        let (said, heard) = (voiced(said), voiced(heard));
        let first = said.iter().zip(&heard).position(|(a, b)| a != b);
        let counts = (said.len(), heard.len());
        assert!(said == heard, "{about}: {counts:?}, other from {first:?} on");
        return;
    }
    // As it would have been said in the other format, had it been made there.
    let length = spoken.rate.duration_of(said.len() as u64);
    let wanted = through(in_format, &chirp(in_format, length));
    let likeness = likeness(&wanted, heard);
    assert!(likeness > 15.0, "{about}: {spoken} as {in_format}: {likeness:.1} dB");
}

/// Providers that carry sound both ways over one connection.
fn two_way() -> Vec<&'static dyn Provider> {
    let speaks = |p: &&&'static dyn Provider| {
        let carried = !matches!(p.transport(), Transport::Webhook { .. });
        carried && p.has_sound() && p.capabilities().playout != PlayoutPolicy::None
    };
    PROVIDERS.iter().filter(speaks).copied().collect()
}

/// What one pair does: everything once, at the same time where that can be.
fn try_pair(
    caller: &'static dyn Provider,
    provider: &'static dyn Provider,
    bot_ends: bool,
) -> bool {
    let format = common(caller, provider);
    let about = format!("{} in, bot of {}", caller.name(), provider.name());
    eprintln!("{about}");
    let mut world = World::connect(caller, &dial(caller, format), bot(provider, format));
    let mut out = Outbox::new();
    while world.start.is_none() || world.phone.start().is_none() {
        world.run(FRAME);
        assert!(world.now < Instant::from_millis(2_000), "{about}: it does not start");
    }
    let (far, near) = (world.start.clone().unwrap(), world.phone.start().unwrap().clone());
    let told = world.translator.as_ref().and_then(Translator::start).expect("started");
    // Some callers' providers have parameters of their own by a name that some bots' providers mean something else by.
    let known = |start: &Start| {
        let named =
            |(name, _): &(String, String)| ["tenant", "both", "prompt"].contains(&name.as_str());
        let parameters: Vec<_> = start.parameters.iter().filter(|p| named(p)).cloned().collect();
        // The phone's end has no word for a number that is not known.
        let [from, to] = [&start.from, &start.to].map(|n| n.clone().filter(|n| !n.is_empty()));
        Start { call: None, from, to, parameters, ..start.clone() }
    };
    assert_eq!(known(told), known(&far), "{about}");
    let (caller_says, bot_hears) = (near.inbound.unwrap(), far.inbound.unwrap());
    let (bot_says, caller_hears) = (far.outbound.unwrap(), near.outbound.unwrap());

    // Both speak at once.
    let length = FRAME * 10;
    let said = chirp(caller_says, length);
    world.phone.speak(Track::Inbound, &said);
    world.run(FRAME);
    let answer = chirp(bot_says, length);
    world.play(&answer);
    let can = far.capabilities;
    if can.marks {
        world.command(Command::Mark("the end"));
        world.command(Command::Mark("the end"));
    }
    world.run(Duration::from_millis(500));
    // Some want half a second in a message, and wait for it.
    for _ in 0..6 {
        if (voiced(world.phone.heard()).len() as u64)
            < caller_hears.rate.samples_in(length) * 95 / 100
        {
            world.run(FRAME * 8);
        }
    }
    let heard = decoded(bot_hears, &world.heard);
    same(&about, caller_says, &through(caller_says, &said), bot_hears, &heard);
    let at_phone = world.phone.heard().to_vec();
    same(&about, bot_says, &through(bot_says, &answer), caller_hears, &at_phone);
    let marks = if can.marks { 2 } else { 0 };
    assert_eq!(world.played(), vec!["the end"; marks], "{about}");
    if can.marks {
        let whole = voiced(&at_phone).len();
        // Resampled sound has an end that comes with the next.
        let missing = whole - world.heard_at_mark.min(whole);
        let forgiven = if bot_says == caller_hears { 0 } else { whole / 10 };
        assert!(missing <= forgiven, "{about}: {missing} of {whole} samples behind the mark");
    }

    // Keys both ways.
    world.events.clear();
    world.at_phone();
    world.press('5');
    world.press('#');
    let keys = if near.capabilities.dtmf_in && can.dtmf_in { "5#" } else { "" };
    assert_eq!(world.keys_at_bot(), keys, "{about}");
    world.command(Command::Dtmf(Digit::STAR));
    let pressed = world.at_phone().contains(&PhoneEvent::Dtmf(Digit::STAR));
    assert_eq!(pressed, can.dtmf_out && near.capabilities.dtmf_out, "{about}");

    try_clear(&mut world, &about, &can, caller_hears, bot_says);

    if bot_ends {
        match can.hangup {
            HangupLaw::Message => world.command(Command::Hangup),
            HangupLaw::Close => {
                let now = world.now;
                world.translator.as_mut().unwrap().handle_closed(now);
                world.exchange();
            }
        }
        world.run(FRAME * 20);
        for _ in 0..10 {
            if !world.phone_closed && !world.phone.is_over() {
                world.run(FRAME * 8);
            }
        }
        let is_over = world.phone_closed || world.phone.is_over();
        assert!(world.hung_up.is_some() && is_over, "{about}");
    } else {
        world.phone.hang_up(world.now, &mut out).expect("may hang up");
        world.tell_session(&mut out);
        // What is left of the call is that its connection ends.
        world.session.handle_closed(world.now, Ok(()));
        world.exchange();
        let stopped = world.events.iter().any(|(_, event)| matches!(event, Event::Stopped(_)));
        assert!(world.bot_closed || stopped, "{about}: the bot was not told");
    }
    world.run(FRAME * 10);
    let summary = world.summary.as_ref().unwrap_or_else(|| panic!("{about}: it does not end"));
    let by_bot = matches!(summary.reason, EndReason::Hangup { .. });
    assert_eq!(by_bot, bot_ends, "{about}: {}", summary.reason);
    let unbalanced: Vec<_> = summary.ledger.unbalanced().map(ToString::to_string).collect();
    assert!(unbalanced.is_empty(), "{about}: {unbalanced:?}");
    assert_eq!(world.dropped, 0, "{about}");
    format.is_some()
}

fn try_clear(
    world: &mut World,
    about: &str,
    can: &ringback_proto::provider::Capabilities,
    caller_hears: MediaFormat,
    bot_says: MediaFormat,
) {
    if can.clear == ClearLaw::Unsupported {
        return;
    }
    world.events.clear();
    let before = voiced(world.phone.heard()).len() as u64;
    // What a queue of the bot's provider holds, and longer than anybody is sent ahead.
    let limit = match can.playout {
        PlayoutPolicy::Ahead { limit } | PlayoutPolicy::Paced { limit } => limit,
        PlayoutPolicy::None => Duration::ZERO,
    };
    let length = (limit / 2).min(FRAME * 50);
    world.play(&chirp(bot_says, length));
    world.command(Command::Mark("never"));
    world.run(FRAME * 2);
    assert_eq!(world.played(), Vec::<&str>::new(), "{about}");
    world.command(Command::Clear);
    let returned = can.marks && can.clear == ClearLaw::ReturnsMarks;
    assert_eq!(world.played(), vec!["never"; usize::from(returned)], "{about}");
    world.run(FRAME * 12);
    let heard = voiced(world.phone.heard()).len() as u64 - before;
    let all = caller_hears.rate.samples_in(length);
    if length > FRAME * 20 {
        assert!(heard < all * 3 / 4, "{about}: {heard} of {all} samples heard after a clear");
    }
    // It works as before.
    let again = chirp(bot_says, FRAME * 5);
    world.play(&again);
    world.command(Command::Mark("after"));
    let silent = voiced(world.phone.heard()).len() as u64;
    world.run(FRAME * 16);
    for _ in 0..4 {
        if can.marks && !world.played().contains(&"after") {
            world.run(FRAME * 16);
        }
    }
    let heard = voiced(world.phone.heard()).len() as u64 - silent;
    let all = caller_hears.rate.samples_in(FRAME * 5);
    assert!(heard * 10 >= all * 9, "{about}: {heard} of {all} samples heard behind the clear");
    let after = world.played().iter().filter(|name| **name == "after").count();
    assert_eq!(after, usize::from(can.marks), "{about}: {:?}", world.played());
}

#[test]
fn every_bot_answers_the_calls_of_every_provider() {
    let providers = two_way();
    assert!(providers.len() > 25 && providers.iter().all(|provider| can_speak(*provider)));
    let (mut pairs, mut exact) = (0, 0);
    for (index, caller) in providers.iter().enumerate() {
        for (other, bot) in providers.iter().enumerate() {
            exact += u32::from(try_pair(*caller, *bot, (index + other) % 2 == 0));
            pairs += 1;
        }
    }
    assert!(exact * 3 > pairs, "{exact} of {pairs} pairs have a format in common");
}
