//! The provider's end of every wire, as the simulator drives it: scripts of what a bridge might say. The phone never hangs, and
//! writes no more than it was given reason to.

use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{
    Dial, Digit, Line, LineEvent, Message, Outbox, Provider, Track, behaviour,
};
use ringback_proto::simulator::{Simulator, SimulatorError};
use ringback_proto::transcript::{Direction, Wire};

use crate::lawful::Watched;
use crate::script::{self, Draft, Script};
use crate::seeds;

/// Steps of a script that are taken.
const MOST_STEPS: usize = 400;
/// Time that may pass in a script, all waits together, where it is about time.
const LONGEST: Duration = Duration::from_secs(12);
/// Sound that the caller says at once, in samples.
const MOST_SAMPLES: u16 = 8_000;

mod step {
    pub(super) const TEXT: u8 = 0;
    pub(super) const BINARY: u8 = 1;
    pub(super) const WAIT: u8 = 2;
    pub(super) const ON_LINE: u8 = 3;
    pub(super) const LINE: u8 = 4;
    pub(super) const SPEAK: u8 = 5;
    pub(super) const SAY: u8 = 6;
    pub(super) const KEY: u8 = 7;
    pub(super) const HANG_UP: u8 = 8;
    pub(super) const CLOSE: u8 = 9;
    pub(super) const COUNT: u8 = 10;
}

/// Runs a script against `provider`.
pub(super) fn run(provider: &'static dyn Provider, octets: &[u8]) {
    let mut script = Script::new(octets);
    let most = script::time(octets.len(), LONGEST);
    let mut phone = Phone::dial(provider, &mut script, Instant::ZERO + most);
    for _ in 0..MOST_STEPS {
        // A bridge that breaks the protocol has no call any more.
        if script.is_over() || phone.step(&mut script).is_err() {
            break;
        }
        phone.out.reset();
    }
}

struct Phone {
    simulator: Simulator,
    out: Outbox,
    now: Instant,
    /// No time passes behind it.
    end: Instant,
}

impl Phone {
    fn dial(provider: &'static dyn Provider, script: &mut Script<'_>, end: Instant) -> Self {
        let (format, act, seed) = (script.octet(), script.octet(), script.octet());
        let acts = behaviour::all(provider);
        let dial = Dial {
            format: provider.formats().get(usize::from(format)).copied(),
            behaviours: acts.get(usize::from(act).wrapping_sub(1)).copied().into_iter().collect(),
            seed: seed.into(),
            servers: vec!["ws://127.0.0.1:1".into(), "ws://127.0.0.1:2".into()],
            ..Dial::default()
        };
        let (_, simulator) = Simulator::new(&Watched(provider), &dial, true);
        let (out, now) = (Outbox::new(), Instant::ZERO);
        let mut phone = Self { simulator, out, now, end };
        let opened = phone.simulator.handle_open(now, &mut phone.out);
        assert!(opened.is_ok(), "it has heard nothing yet: {opened:?}");
        phone.out.reset();
        phone
    }

    fn step(&mut self, script: &mut Script<'_>) -> Result<(), SimulatorError> {
        let Self { simulator, out, now, .. } = self;
        let now = *now;
        match script.octet() % step::COUNT {
            step::TEXT => simulator.handle_message(now, Message::Text(&script.text()), out)?,
            step::BINARY => simulator.handle_message(now, Message::Binary(script.piece()), out)?,
            step::WAIT => self.wait(Duration::from_millis(script.number().into()))?,
            step::ON_LINE => {
                let (line, text) = (line(script), script.text());
                let event = LineEvent::Message(Message::Text(&text));
                simulator.handle_line(now, line, event, out)?;
            }
            step::LINE => {
                let (line, lost) = (line(script), script.octet() % 2 == 1);
                let event =
                    if lost { LineEvent::Lost { reason: "cut" } } else { LineEvent::Opened };
                simulator.handle_line(now, line, event, out)?;
            }
            step::SPEAK => {
                let sample = i16::from(script.octet()) << 7;
                let samples = vec![sample; usize::from(script.number() % MOST_SAMPLES)];
                simulator.speak(Track::Inbound, &samples);
            }
            step::SAY => simulator.say(now, &script.text(), out)?,
            step::KEY => {
                let keys: Vec<_> = "0123456789*#ABCD".chars().filter_map(Digit::new).collect();
                simulator.press(now, keys[usize::from(script.octet()) % keys.len()], out)?;
            }
            step::HANG_UP => simulator.hang_up(now, out)?,
            _ => simulator.handle_close(now, out)?,
        }
        while self.simulator.poll_event().is_some() {}
        let start = self.simulator.start().and_then(|start| start.outbound);
        let most = start.map_or(0, |format| format.rate.samples_in(self.now.since_epoch()));
        let heard = self.simulator.heard().len() as u64;
        assert!(heard <= most, "it heard {heard} samples when {most} had passed");
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), SimulatorError> {
        let until = (self.now + time).min(self.end);
        while let Some(at) = self.simulator.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.out.reset();
            self.simulator.handle_timeout(self.now, &mut self.out)?;
            let next = self.simulator.poll_timeout();
            let rests = next.is_none_or(|next| next > self.now);
            assert!(rests, "told that it is {:?}, the phone asks for {next:?}", self.now);
        }
        self.now = self.now.max(until);
        Ok(())
    }
}

fn line(script: &mut Script<'_>) -> Line {
    Line::ALL[usize::from(script.octet()) % Line::ALL.len()]
}

/// Scripts to begin with: what the transcripts have bridges say, to phones that speak.
pub(super) fn seeds(provider: &'static dyn Provider) -> Vec<Vec<u8>> {
    let transcripts = seeds::transcripts(provider);
    let scripts = transcripts.iter().enumerate().map(|(index, transcript)| {
        let mut draft = Draft::new().octet(0).octet(index as u8).octet(7);
        draft = draft.octet(step::SPEAK).octet(9).number(3_200);
        for line in &transcript.lines {
            if line.direction == Direction::Out {
                draft = match &line.wire {
                    Wire::Text(text) => draft.octet(step::TEXT).piece(text.as_bytes()),
                    Wire::Binary(octets) => draft.octet(step::BINARY).piece(octets),
                    Wire::On(of, text) => {
                        draft.octet(step::ON_LINE).octet(of.index() as u8).piece(text.as_bytes())
                    }
                    Wire::Dial(of, _) => draft.octet(step::LINE).octet(of.index() as u8).octet(0),
                    Wire::Close(_) => draft.octet(step::CLOSE),
                    Wire::Opened(_) | Wire::Lost(..) => draft,
                };
            }
            draft = draft.octet(step::WAIT).number(20);
        }
        let draft = draft.octet(step::SAY).piece(b"Hello?").octet(step::KEY).octet(1);
        let draft = draft.octet(step::HANG_UP).octet(step::WAIT).number(2_000);
        draft.done_with_time([step::WAIT, 0, 0])
    });
    scripts.collect()
}
