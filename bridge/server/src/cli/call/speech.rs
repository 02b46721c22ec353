//! What the caller of `ringback call` has to say: a sound file, or words, one utterance after the other, from the command line, a file or
//! a keyboard. Listens to no answer but to know that there was one.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Provider, Track};
use ringback_proto::simulator::{PhoneEvent, Simulator};
use tokio::sync::mpsc;

use super::{Sound, read_mono};
use crate::cli::screen;
use crate::client::{CallEvent, Client, ClientError};

/// Said if nothing is given.
const GREETING: &str = "Hello, can you hear me?";
/// Lines that are read before they can be said.
const READ_AHEAD: usize = 16;

/// What the options say about it.
pub(super) struct Wanted<'a> {
    pub(super) audio: Option<&'a Path>,
    pub(super) say: &'a [String],
    /// A file of words; `-` is the standard input.
    pub(super) words: Option<&'a Path>,
}

/// What is not said yet.
pub(super) enum Speech {
    Sound {
        sound: Sound,
        /// It was given to the phone.
        given: bool,
    },
    Words {
        left: VecDeque<String>,
        /// More come from the standard input.
        typed: Option<Typed>,
        /// An answer to the last is waited for until then.
        answer_by: Option<Instant>,
    },
}

/// Lines of the standard input, as they come.
pub(super) struct Typed {
    lines: mpsc::Receiver<String>,
    /// A person types them, and may cut in whenever she likes.
    by_hand: bool,
}

/// Tells the lines that have words in them, for as long as they are wanted. One that is no text is told with its number, and those
/// behind it are read all the same.
fn read_lines(mut input: impl BufRead, mut tell: impl FnMut(Result<String, String>) -> bool) {
    let mut octets = Vec::new();
    for number in 1.. {
        octets.clear();
        let told = match input.read_until(b'\n', &mut octets) {
            Ok(0) => return,
            Ok(_) => std::str::from_utf8(&octets).map_err(|error| {
                let octet = error.valid_up_to() + 1;
                format!("line {number} of the standard input is not said: it is no UTF-8 from octet {octet} on")
            }),
            Err(error) => {
                tell(Err(format!(
                    "line {number} of the standard input, and what follows, is not said: {error}"
                )));
                return;
            }
        };
        let words = told.map(|line| line.trim_end_matches(['\r', '\n']));
        if words.as_ref().is_ok_and(|words| words.trim().is_empty()) {
            continue;
        }
        if !tell(words.map(str::to_owned)) {
            return;
        }
    }
}

impl Typed {
    /// Begins to read.
    fn begin() -> Self {
        let (sender, lines) = mpsc::channel(READ_AHEAD);
        // Not waited for: a keyboard has no end, and the process does.
        std::thread::spawn(move || {
            read_lines(io::stdin().lock(), |line| match line {
                Ok(line) => sender.blocking_send(line).is_ok(),
                Err(problem) => {
                    screen::problem(problem);
                    true
                }
            });
        });
        Self { lines, by_hand: io::stdin().is_terminal() }
    }

    fn next(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Whether all was typed and taken.
    fn is_over(&self) -> bool {
        self.lines.is_closed() && self.lines.is_empty()
    }
}

impl Speech {
    /// What the options say, where it goes with the provider.
    pub(super) fn new(provider: &dyn Provider, wanted: &Wanted<'_>) -> Result<Self, String> {
        let name = provider.name();
        let Wanted { audio, say, words } = *wanted;
        match (provider.has_sound(), audio) {
            (true, _) if !say.is_empty() || words.is_some() => Err(format!(
                "calls of {name} carry sound and no words: give a sound file, --audio test-audio/call-appointment.wav say"
            )),
            (true, None) => Err("--audio WAV is missing: what is the caller to say?".into()),
            (true, Some(path)) => Ok(Self::Sound { sound: read_mono(path)?, given: false }),
            (false, Some(_)) => Err(format!(
                "calls of {name} carry words and no sound: the provider recognises speech and speaks by itself. Instead of --audio \
                 give what the caller says with --say TEXT, in a file of lines with --words FILE, or type it with --words -"
            )),
            (false, None) => Self::words(say, words),
        }
    }

    fn words(say: &[String], file: Option<&Path>) -> Result<Self, String> {
        let mut left: VecDeque<_> = say.iter().cloned().collect();
        let mut typed = None;
        match file {
            Some(path) if path == Path::new("-") => typed = Some(Typed::begin()),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {shown}: {error}"))?;
                left.extend(
                    text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned),
                );
                if left.is_empty() {
                    return Err(format!(
                        "{shown} has no words in it: a line is what is said in one go"
                    ));
                }
            }
            None if left.is_empty() => left.push_back(GREETING.into()),
            None => {}
        }
        Ok(Self::Words { left, typed, answer_by: None })
    }

    /// Says what is due on a stream that has started; gives words that were said. Words wait for an answer to those before and for
    /// its end, or without one for as long as `patience`.
    pub(super) async fn go_on(
        &mut self,
        now: Instant,
        patience: Duration,
        client: &mut Client,
    ) -> Result<Option<String>, ClientError> {
        let Some(start) = client.phone().start() else { return Ok(None) };
        match self {
            Self::Sound { sound, given } => {
                if let (false, Some(format)) = (*given, start.inbound) {
                    client.speak(&sound.at(format.rate));
                    *given = true;
                }
                Ok(None)
            }
            Self::Words { left, typed, answer_by } => {
                let by_hand = typed.as_ref().is_some_and(|typed| typed.by_hand);
                let waits = answer_by.is_some_and(|at| at > now);
                // Whoever speaks now would cut the answer off.
                let answered = !waits && client.phone().spoken_to_until(now).is_none();
                let next = if answered { left.pop_front() } else { None };
                let next = next.or_else(|| match typed {
                    Some(typed) if answered || (by_hand && left.is_empty()) => typed.next(),
                    _ => None,
                });
                let Some(words) = next else { return Ok(None) };
                client.say(&words).await?;
                *answer_by = Some(now + patience);
                Ok(Some(words))
            }
        }
    }

    /// Something happened on the call.
    pub(super) fn heard(&mut self, event: &CallEvent) {
        if let (Self::Words { answer_by, .. }, CallEvent::Phone(PhoneEvent::Said(_))) =
            (self, event)
        {
            *answer_by = None;
        }
    }

    /// The stream is to be opened anew: what `phone` has not said is left.
    pub(super) fn begin_again(&mut self, phone: &Simulator) {
        match self {
            Self::Sound { sound, given } => {
                *sound = sound.last(phone.unspoken(Track::Inbound), phone.start());
                *given = false;
            }
            Self::Words { answer_by, .. } => *answer_by = None,
        }
    }

    /// Whether all is said.
    pub(super) fn is_over(&self, phone: &Simulator) -> bool {
        match self {
            Self::Sound { given, .. } => *given && phone.unspoken(Track::Inbound) == 0,
            Self::Words { left, typed, .. } => {
                left.is_empty() && typed.as_ref().is_none_or(Typed::is_over)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line_that_is_no_text_is_told_and_those_behind_it_are_said() {
        let mut all = Vec::new();
        read_lines(&b"good\r\n \nday \xff\xfe\n\xc3\xa4\nend"[..], |line| {
            all.push(line);
            true
        });
        assert_eq!(all.len(), 4, "{all:?}");
        assert_eq!(all[0].as_deref(), Ok("good"));
        assert!(
            all[1].as_ref().is_err_and(|said| said.contains("line 3") && said.contains("octet 5"))
        );
        assert_eq!((all[2].as_deref(), all[3].as_deref()), (Ok("\u{e4}"), Ok("end")));
        let mut first = Vec::new();
        read_lines(&b"a\nb\n"[..], |line| {
            first.push(line);
            false
        });
        assert_eq!(first, [Ok("a".to_owned())], "nobody wants more");
    }
}
