//! A phone behind a provider, as a value that is told the time: speaks, listens, presses keys and hangs up over the provider's end of
//! a wire. No socket and no clock; calls, load and tests drive it alike.

mod ear;
mod mouth;
mod talk;

use std::collections::VecDeque;
use std::time::Duration;

use ringback_codecs::{DecodeError, Decoder, EncodeError, UnsupportedFormat};

use crate::Instant;
use crate::provider::Line as Dialled;
use crate::provider::behaviour::{Act, Line, Part};
use crate::provider::{
    Command, Dial, Digit, Event, LineEvent, Message, Notice, Outbox, OutgoingUpgrade, Protocol,
    ProtocolError, Provider, Span, Start, Track,
};
use ear::{Ear, Heard};
use mouth::Mouth;
use talk::Talk;

/// Why a simulated call cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// The bridge broke the protocol.
    #[error("the bridge broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// There is no codec for the stream's format.
    #[error(transparent)]
    Format(#[from] UnsupportedFormat),
    /// The bridge sent sound that cannot be decoded.
    #[error("sound from the bridge: {0}")]
    Decode(#[from] DecodeError),
    /// The caller's voice could not be encoded.
    #[error("sound of the caller: {0}")]
    Encode(#[from] EncodeError),
}

/// What happened at the phone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PhoneEvent {
    /// The stream is open and this is what it is.
    Started(Box<Start>),
    /// Sound is heard after silence.
    PlaybackBegan,
    /// The queue ran dry; at the end of a sentence, or within it if the bridge was late.
    PlaybackEnded,
    /// The bridge wants to know when playback gets here.
    MarkRequested(String),
    /// Playback got there (or a clear released the mark), and the bridge was told.
    MarkPlayed(String),
    /// The bridge cleared the queue.
    Cleared {
        /// Samples dropped.
        samples: usize,
        /// Marks dropped; the bridge will not be told.
        marks: usize,
    },
    /// The bridge holds playback.
    Paused,
    /// Playback goes on.
    Resumed,
    /// The bridge pressed a key.
    Dtmf(Digit),
    /// A module found something; a JSON object.
    Result(String),
    /// The bridge had the provider speak this, a whole utterance.
    Said(String),
    /// The caller spoke while that was being spoken, and heard no more of it than this.
    Interrupted(String),
    /// The bridge has the provider play this file.
    Plays(String),
    /// The bridge changed the languages.
    Language {
        /// What is spoken to the caller, if that changed.
        speech: Option<String>,
        /// What the caller speaks, if that changed.
        recognition: Option<String>,
    },
    /// The bridge hands the call on, with this.
    HandedOn(String),
    /// The bridge hung up.
    HungUp,
    /// Something odd.
    Notice(Notice),
}

/// What a simulated call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames of the caller's voice sent, all tracks.
    pub frames_sent: u64,
    /// Messages of sound received.
    pub media_received: u64,
    /// Samples received in them.
    pub samples_received: u64,
    /// Messages of sound discarded because the queue was over its limit.
    pub discarded: u64,
    /// Times the queue ran dry.
    pub underruns: u64,
    /// Marks reported to the bridge.
    pub marks_played: u64,
    /// Clears obeyed.
    pub clears: u64,
    /// Utterances of the caller told as words.
    pub texts_sent: u64,
    /// Messages of words to speak.
    pub texts_received: u64,
    /// Events that nobody polled and that were forgotten.
    pub events_lost: u64,
}

/// A phone call at the provider's end of one stream.
pub struct Simulator {
    protocol: Box<dyn Protocol>,
    record: bool,
    start: Option<Box<Start>>,
    over: bool,
    mouths: Vec<Mouth>,
    /// Said before the stream started.
    early: Vec<(Track, Vec<i16>)>,
    early_words: Vec<String>,
    talk: Talk,
    /// The caller cuts in then.
    cut_in: Option<Instant>,
    ear: Option<(Ear, Box<dyn Decoder>)>,
    cushion: Duration,
    counters: Counters,
    events: VecDeque<PhoneEvent>,
    /// Where the provider's end does what it does not promise.
    line: Option<Line>,
    /// Messages in the outbox that went through the line already.
    passed: usize,
    // Kept for their memory.
    told: Vec<Event>,
    heard: Vec<Heard>,
    pcm: Vec<i16>,
}

impl Simulator {
    /// Events kept for [`Simulator::poll_event`].
    const MOST_EVENTS: usize = 1024;

    /// A call over `provider`, and the request that opens its stream. `record` keeps all that is heard; a load generator does not.
    #[must_use]
    pub fn new(provider: &dyn Provider, call: &Dial, record: bool) -> (OutgoingUpgrade, Self) {
        let (upgrade, protocol) = provider.dial(call);
        let simulator = Self {
            protocol,
            record,
            start: None,
            over: false,
            mouths: Vec::new(),
            early: Vec::new(),
            early_words: Vec::new(),
            talk: Talk::default(),
            cut_in: None,
            ear: None,
            cushion: Duration::ZERO,
            counters: Counters::default(),
            events: VecDeque::new(),
            line: Line::new(call, !provider.has_sound()),
            passed: 0,
            told: Vec::new(),
            heard: Vec::new(),
            pcm: Vec::new(),
        };
        (upgrade, simulator)
    }

    /// The stream as announced, once it has started. The caller speaks at [`Start::inbound`]'s rate and hears at
    /// [`Start::outbound`]'s.
    #[must_use]
    pub fn start(&self) -> Option<&Start> {
        self.start.as_deref()
    }

    /// Whether either side has hung up.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Figures so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What happened next, in order.
    pub fn poll_event(&mut self) -> Option<PhoneEvent> {
        self.events.pop_front()
    }

    /// From now on, sound that comes after silence is played so much later, as by a phone with a jitter buffer, so that a live voice
    /// has no gaps. Without, sound is played the moment it comes, which measures best.
    pub fn set_cushion(&mut self, cushion: Duration) {
        self.cushion = cushion;
        if let Some((ear, _)) = &mut self.ear {
            ear.set_cushion(cushion);
        }
    }

    /// All that was heard since the stream started, sample by sample, silence included. Empty if it is not recorded.
    #[must_use]
    pub fn heard(&self) -> &[i16] {
        self.ear.as_ref().map_or(&[], |(ear, _)| ear.recording())
    }

    /// Appends to `into` what was heard since the last call, and forgets it. A call that is recorded and drained like this, for a
    /// speaker, takes no memory however long it lasts; [`Self::heard`] then has only what nobody took. Time moves on in
    /// [`Self::handle_timeout`] and [`Self::handle_message`]. Nothing comes if it is not recorded.
    pub fn take_heard(&mut self, into: &mut Vec<i16>) {
        if let Some((ear, _)) = &mut self.ear {
            ear.take_recording(into);
        }
    }

    /// Samples received and not played yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.ear.as_ref().map_or(0, |(ear, _)| ear.queued())
    }

    /// Says this on a track, after what is being said; one channel at the rate of [`Start::inbound`]. On a track that the stream
    /// does not have, nobody hears it.
    pub fn speak(&mut self, track: Track, samples: &[i16]) {
        if self.start.is_none() {
            self.early.push((track, samples.to_vec()));
        } else if let Some(mouth) = self.mouths.iter_mut().find(|mouth| mouth.track == track) {
            mouth.say(samples.iter().copied());
        }
    }

    /// Says this to a provider that recognises speech; others do not hear it. What is being spoken meanwhile is cut off. Before the
    /// stream has started it is kept until then.
    pub fn say(
        &mut self,
        now: Instant,
        text: &str,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        if self.start.is_none() {
            self.early_words.push(text.to_owned());
            return Ok(());
        }
        self.passed = out.sends().len();
        self.utter(now, text, out)
    }

    fn utter(&mut self, now: Instant, text: &str, out: &mut Outbox) -> Result<(), SimulatorError> {
        if self.over || self.start.as_ref().is_none_or(|start| !start.capabilities.text) {
            return Ok(());
        }
        self.interrupt(now, out)?;
        let has = |act| self.line.as_ref().is_some_and(|line| line.has(act));
        let (partials, keys) = (has(Act::Partials), has(Act::Keys));
        let ends = text.match_indices(char::is_whitespace).map(|(end, _)| end);
        for end in ends.filter(|_| partials) {
            let command = Command::Heard { text: &text[..end], language: None, last: false };
            self.protocol.handle_command(now, command, out)?;
            self.pass(now, Part::Words, out);
        }
        let command = Command::Heard { text, language: None, last: true };
        self.protocol.handle_command(now, command, out)?;
        self.pass(now, Part::Utterance, out);
        self.counters.texts_sent += 1;
        if keys {
            self.protocol.handle_command(now, Command::Dtmf(Digit::STAR), out)?;
            self.pass(now, Part::Words, out);
        }
        Ok(())
    }

    /// Says what was to be said before the stream had started.
    fn utter_early(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        if self.start.is_none() || self.early_words.is_empty() {
            return Ok(());
        }
        let early = std::mem::take(&mut self.early_words);
        early.iter().try_for_each(|words| self.utter(now, words, out))
    }

    /// The caller begins to speak: what is being spoken is cut off.
    fn interrupt(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        let Some((heard, after)) = self.talk.interrupt(now) else { return Ok(()) };
        self.tell_spoken(now, Some(&heard), out)?;
        let command = Command::Interrupted { heard: &heard, after };
        self.protocol.handle_command(now, command, out)?;
        self.pass(now, Part::Words, out);
        self.note(PhoneEvent::Interrupted(heard));
        Ok(())
    }

    /// Tells which words were spoken, if that is told: those `cut` off, or all of an utterance that is over.
    fn tell_spoken(
        &mut self,
        now: Instant,
        cut: Option<&str>,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        if !self.tells_spoken() {
            return Ok(());
        }
        let whole = self.talk.take_spoken(now);
        for words in [whole.as_deref(), cut].into_iter().flatten().filter(|words| !words.is_empty())
        {
            self.protocol.handle_command(now, Command::Spoken(words), out)?;
            self.pass(now, Part::Words, out);
        }
        Ok(())
    }

    fn tells_spoken(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.has(Act::TellSpoken))
    }

    /// Until when a provider that speaks by itself goes on with what it was given.
    #[must_use]
    pub fn spoken_to_until(&self, now: Instant) -> Option<Instant> {
        self.talk.until(now)
    }

    /// Samples of a track that are not said yet.
    #[must_use]
    pub fn unspoken(&self, track: Track) -> usize {
        let early = self.early.iter().filter(|(of, _)| *of == track).map(|(_, pcm)| pcm.len());
        let mouths = self.mouths.iter().filter(|mouth| mouth.track == track).map(Mouth::unsaid);
        early.chain(mouths).sum()
    }

    /// When the sample that long into the caller's voice was sent, which is when its frame was complete: what latencies are
    /// measured from. `None` before the stream has started.
    #[must_use]
    pub fn sent_at(&self, into: Duration) -> Option<Instant> {
        self.mouths.first().map(|mouth| mouth.sent_at(into))
    }

    /// Forgets up to `samples` of what a track was to say, the oldest first, and says how many; for a live voice that came faster
    /// than it can be said.
    pub fn skip_unspoken(&mut self, track: Track, samples: usize) -> usize {
        let mouth = self.mouths.iter_mut().find(|mouth| mouth.track == track);
        mouth.map_or(0, |mouth| mouth.skip(samples))
    }

    /// Presses a key.
    pub fn press(
        &mut self,
        now: Instant,
        digit: Digit,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.protocol.handle_command(now, Command::Dtmf(digit), out)?;
        self.pass(now, Part::Words, out);
        Ok(())
    }

    /// Hangs up.
    pub fn hang_up(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.leave(now, out)
    }

    fn leave(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        if !self.over {
            self.over = true;
            self.pass(now, Part::Words, out);
            self.protocol.handle_command(now, Command::Hangup, out)?;
            self.pass(now, Part::Goodbye, out);
        }
        Ok(())
    }

    /// Until when the bridge's messages should be left unread, by whoever reads them.
    #[must_use]
    pub fn unread_until(&self, now: Instant) -> Option<Instant> {
        self.line.as_ref()?.unread_until(now)
    }

    /// Whether the call is over and the connection should be left as it is, open and unread.
    #[must_use]
    pub fn is_vanished(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_vanished)
    }

    /// Whether the call is over and should be placed again.
    #[must_use]
    pub fn redials(&self) -> bool {
        self.over && self.line.as_ref().is_some_and(|line| line.has(Act::Redial))
    }

    /// Lets what was said since the last time go through the line.
    fn pass(&mut self, now: Instant, part: Part, out: &mut Outbox) {
        if let Some(line) = &mut self.line {
            line.pass(now, part, self.passed, out);
            self.over |= line.is_over();
            self.passed = out.sends().len();
        }
    }

    /// The socket is open.
    pub fn handle_open(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.protocol.handle_open(now, out)?;
        self.react(now, out)?;
        self.pass(now, Part::Opening { started: self.start.is_some() }, out);
        self.utter_early(now, out)
    }

    /// A message came from the bridge.
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.listen(now, out)?;
        self.protocol.handle_message(now, message, out)?;
        self.react(now, out)?;
        self.pass(now, Part::Words, out);
        self.utter_early(now, out)
    }

    /// Something happened on a line that the bridge dialled.
    pub fn handle_line(
        &mut self,
        now: Instant,
        line: Dialled,
        event: LineEvent<'_>,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.protocol.handle_line(now, line, event, out)?;
        self.react(now, out)?;
        self.pass(now, Part::Words, out);
        Ok(())
    }

    /// Time passed: says and plays what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        self.passed = out.sends().len();
        self.protocol.handle_timeout(now, out)?;
        self.react(now, out)?;
        self.listen(now, out)?;
        self.pass(now, Part::Words, out);
        match self.line.as_mut().and_then(|line| line.flow(now)) {
            Some(full) => {
                let told = if full { Command::Full } else { Command::Writable };
                self.protocol.handle_command(now, told, out)?;
                self.pass(now, Part::Words, out);
            }
            None if self.over => return Ok(()),
            None => {}
        }
        self.tell_spoken(now, None, out)?;
        if self.cut_in.is_some_and(|at| at <= now) {
            self.cut_in = None;
            self.interrupt(now, out)?;
        }
        self.speak_up(now, out)
    }

    /// Says the frames that are due.
    fn speak_up(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        for index in 0..self.mouths.len() {
            let track = self.mouths[index].track;
            while let Some(payload) = self.mouths[index].frame(now)?.filter(|_| !self.over) {
                self.protocol.handle_command(now, Command::Media { track, payload }, out)?;
                self.counters.frames_sent += 1;
                self.pass(now, Part::Sound, out);
                // The provider's end is to hear that a line is lost before it says more.
                if let Some(dropped) = self.line.as_mut().and_then(Line::take_dropped) {
                    let lost = LineEvent::Lost { reason: "it is acted out" };
                    self.protocol.handle_line(now, dropped, lost, out)?;
                    self.react(now, out)?;
                    self.pass(now, Part::Words, out);
                }
            }
        }
        Ok(())
    }

    /// The socket is closed.
    pub fn handle_close(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        self.listen(now, out)?;
        self.over = true;
        Ok(())
    }

    /// When to call [`Simulator::handle_timeout`], if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let line = self.line.as_ref().and_then(Line::next);
        if self.over {
            return line;
        }
        let spoken = if self.tells_spoken() { self.talk.ends() } else { None };
        let mouths = self.mouths.iter().map(Mouth::next);
        let ear = self.ear.as_ref().and_then(|(ear, _)| ear.next());
        mouths
            .chain(ear)
            .chain(self.protocol.poll_timeout())
            .chain(line)
            .chain(self.cut_in)
            .chain(spoken)
            .min()
    }

    fn note(&mut self, event: PhoneEvent) {
        if self.events.len() == Self::MOST_EVENTS {
            self.events.pop_front();
            self.counters.events_lost += 1;
        }
        self.events.push_back(event);
    }

    /// Acts on what the protocol's end made of the last message; only messages to send stay in `out`.
    fn react(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        let mut told = std::mem::take(&mut self.told);
        out.swap_events(&mut told);
        let mut reacted = Ok(());
        for event in told.drain(..) {
            reacted = self.react_to(now, event, out);
            if reacted.is_err() {
                break;
            }
        }
        told.clear();
        self.told = told;
        reacted
    }

    fn react_to(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Outbox,
    ) -> Result<(), SimulatorError> {
        let event = match event {
            Event::Started(start) => {
                return self.begin(now, start);
            }
            Event::SayRequested { text, last, .. } => {
                self.counters.texts_received += 1;
                self.tell_spoken(now, None, out)?;
                let cut_in = self.line.as_ref().and_then(Line::cut_in);
                self.cut_in = self.cut_in.or(cut_in.map(|after| now + after));
                match self.talk.give(now, &text, last) {
                    Some(utterance) => PhoneEvent::Said(utterance),
                    None => return Ok(()),
                }
            }
            Event::FileRequested { url, .. } => PhoneEvent::Plays(url),
            Event::LanguageRequested { speech, recognition } => {
                PhoneEvent::Language { speech, recognition }
            }
            Event::HandoffRequested(data) => PhoneEvent::HandedOn(data),
            Event::Media(media) => return self.play(now, &media.payload, out),
            Event::MarkRequested(name) => {
                self.note(PhoneEvent::MarkRequested(name.clone()));
                return self.with_ear(now, out, |ear, heard| ear.mark(name, heard));
            }
            Event::ClearRequested => {
                let mut lost = (0, 0);
                self.with_ear(now, out, |ear, heard| lost = ear.clear(heard))?;
                self.counters.clears += 1;
                self.protocol.handle_command(now, Command::Cleared, out)?;
                PhoneEvent::Cleared { samples: lost.0, marks: lost.1 }
            }
            Event::PauseRequested => {
                self.with_ear(now, out, |ear, _| ear.pause(true))?;
                PhoneEvent::Paused
            }
            Event::ResumeRequested => {
                self.with_ear(now, out, |ear, _| ear.pause(false))?;
                PhoneEvent::Resumed
            }
            Event::HangupRequested | Event::Stopped(_) => {
                self.leave(now, out)?;
                PhoneEvent::HungUp
            }
            Event::Dtmf { digit, .. } => PhoneEvent::Dtmf(digit),
            Event::Result(result) => PhoneEvent::Result(result),
            Event::Notice(notice) => PhoneEvent::Notice(notice),
            // The bridge's own affairs.
            Event::Played(_)
            | Event::Cleared
            | Event::Full
            | Event::Writable
            | Event::Heard { .. }
            | Event::Spoken(_)
            | Event::Interrupted { .. } => return Ok(()),
        };
        self.note(event);
        Ok(())
    }

    fn begin(&mut self, now: Instant, start: Box<Start>) -> Result<(), SimulatorError> {
        for (track, format) in start.tracks.iter().zip(start.inbound.iter().cycle()) {
            let packets = self.line.as_ref().and_then(Line::packets);
            let mut mouth = Mouth::new(*track, *format, now, packets)?;
            for (_, samples) in self.early.iter().filter(|(of, _)| of == track) {
                mouth.say(samples.iter().copied());
            }
            self.mouths.push(mouth);
        }
        self.early.clear();
        if let Some(format) = start.outbound {
            let mut ear = Ear::new(format.rate, now, start.capabilities, self.record);
            ear.set_cushion(self.cushion);
            self.ear = Some((ear, format.decoder()?));
        }
        self.note(PhoneEvent::Started(start.clone()));
        self.start = Some(start);
        Ok(())
    }

    fn play(&mut self, now: Instant, span: &Span, out: &mut Outbox) -> Result<(), SimulatorError> {
        let Some((_, decoder)) = &mut self.ear else { return Ok(()) };
        let mut pcm = std::mem::take(&mut self.pcm);
        pcm.clear();
        let decoded = decoder.decode(out.octets(span), &mut pcm);
        self.counters.media_received += 1;
        self.counters.samples_received += pcm.len() as u64;
        let mut taken = true;
        self.with_ear(now, out, |ear, heard| taken = ear.queue(&pcm, heard))?;
        self.counters.discarded += u64::from(!taken);
        self.pcm = pcm;
        Ok(decoded?)
    }

    /// Plays up to `now`.
    fn listen(&mut self, now: Instant, out: &mut Outbox) -> Result<(), SimulatorError> {
        self.with_ear(now, out, |_, _| {})
    }

    /// Plays up to `now`, then does something to playback, and tells the bridge what came of both.
    fn with_ear(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        act: impl FnOnce(&mut Ear, &mut Vec<Heard>),
    ) -> Result<(), SimulatorError> {
        let Some((ear, _)) = &mut self.ear else { return Ok(()) };
        let mut heard = std::mem::take(&mut self.heard);
        ear.advance(now, &mut heard);
        act(ear, &mut heard);
        for heard in heard.drain(..) {
            self.tell(now, heard, out)?;
        }
        self.heard = heard;
        Ok(())
    }

    fn tell(&mut self, now: Instant, heard: Heard, out: &mut Outbox) -> Result<(), SimulatorError> {
        match heard {
            Heard::Began => self.note(PhoneEvent::PlaybackBegan),
            Heard::Ended => {
                self.counters.underruns += 1;
                self.note(PhoneEvent::PlaybackEnded);
            }
            Heard::Mark(_) if self.line.as_ref().is_some_and(|line| line.has(Act::LoseMarks)) => {}
            Heard::Mark(name) => {
                self.protocol.handle_command(now, Command::Played(&name), out)?;
                self.counters.marks_played += 1;
                self.note(PhoneEvent::MarkPlayed(name));
            }
            Heard::Full => self.protocol.handle_command(now, Command::Full, out)?,
            Heard::Writable => self.protocol.handle_command(now, Command::Writable, out)?,
        }
        Ok(())
    }
}
