//! Replays of calls of several lines: posts what the provider posted, serves the lines that the bridge then dials, and says over each what
//! was said there. In step with the bridge: what was an answer in the transcript is not said before it is asked for. Shows nothing.

use std::time::Duration;

use ringback_proto::Instant;
use ringback_proto::provider::{Line as Dialled, Provider};
use ringback_proto::transcript::{CUT, Direction, Line, NO_CODE, Transcript, Wire};

use super::{Heard, LAST_WORDS, Outcome, QUIET, Speed};
use crate::client::ClientError;
use crate::client::servers::{AtServers, Servers};
use crate::clock::Clock;
use crate::socket::{Incoming, close_code};

/// The bridge dials again what it lost within this, and answers sooner.
const PATIENCE: Duration = Duration::from_secs(20);

/// A replay in progress.
pub(super) struct Playing<'a> {
    clock: Clock,
    provider: &'a dyn Provider,
    start: Instant,
    servers: Option<Servers>,
    stand_ins: StandIns,
    /// Lines that are open.
    open: [bool; 2],
    /// Answers that came, and those that were waited for in vain.
    came: u64,
    missed: u64,
    outcome: Outcome,
}

/// The URLs that stand for those of a transcript: ports of this machine in the place of the provider's servers.
struct StandIns {
    /// Where in the transcript a line was dialled, its URL as a member has it, whole, and what stands for it.
    dialled: Vec<(usize, String, String)>,
}

impl StandIns {
    /// `urls` in the order of [`Dialled::ALL`].
    fn new(transcript: &Transcript, urls: &[String]) -> Self {
        let whole = |url: &str| format!("\"{url}\"");
        let dialled = transcript.lines.iter().filter_map(|line| match &line.wire {
            Wire::Dial(dialled, url) => {
                Some((line.number, whole(url), whole(&urls[dialled.index()])))
            }
            _ => None,
        });
        Self { dialled: dialled.collect() }
    }

    /// The text with the URLs that are here. A provider may have both its lines at one URL, and says it before the bridge dials it: what
    /// a text names is the line that is dialled next with it, or else the one that was last.
    fn put_into(&self, text: &str, number: usize) -> String {
        let mut text = text.to_owned();
        for (at, theirs, _) in &self.dialled {
            let is_first = self.dialled.iter().all(|(other, url, _)| other >= at || url != theirs);
            let mut same = self.dialled.iter().filter(|(_, url, _)| url == theirs);
            let meant = same.clone().find(|(at, ..)| *at > number).or_else(|| same.next_back());
            if let (true, Some((_, _, ours))) = (is_first, meant) {
                text = text.replace(theirs, ours);
            }
        }
        text
    }
}

/// What comes back for a line of the transcript.
pub(super) const fn is_answer(wire: &Wire) -> bool {
    wire.is_said() || matches!(wire, Wire::Dial(..))
}

impl<'a> Playing<'a> {
    pub(super) fn new(
        clock: Clock,
        provider: &'a dyn Provider,
        servers: Servers,
        transcript: &Transcript,
        outcome: Outcome,
    ) -> Self {
        let stand_ins = StandIns::new(transcript, servers.urls());
        let start = clock.now();
        let (came, missed) = (0, 0);
        let servers = Some(servers);
        Self { clock, provider, start, servers, stand_ins, open: [false; 2], came, missed, outcome }
    }

    /// Says everything and listens to the end.
    pub(super) async fn play(
        mut self,
        transcript: &Transcript,
        speed: Speed,
    ) -> Result<Outcome, ClientError> {
        let (mut asked, mut parted) = (0, false);
        for line in &transcript.lines {
            if line.direction == Direction::Out {
                asked += u64::from(is_answer(&line.wire));
                parted |= matches!(line.wire, Wire::Close(_));
                continue;
            }
            self.listen_until(speed.due(self.start, line.at)).await?;
            self.answers(asked).await?;
            if let Wire::Close(code) = line.wire {
                self.listen_out().await?;
                self.close(code).await;
                return Ok(self.done());
            }
            if !self.say(line).await? {
                self.outcome.unsaid = (!parted).then_some(line.number);
                self.listen_out().await?;
                self.close(close_code::NORMAL).await;
                return Ok(self.done());
            }
        }
        if let (Some(last), Speed::Times(_)) = (transcript.lines.last(), speed) {
            self.listen_until(speed.due(self.start, last.at)).await?;
        }
        self.answers(asked).await?;
        self.listen_out().await?;
        self.close(close_code::NORMAL).await;
        Ok(self.done())
    }

    fn done(mut self) -> Outcome {
        self.outcome.lasted = self.clock.now() - self.start;
        self.outcome
    }

    /// Does what a line of the transcript says; whether it could be done.
    async fn say(&mut self, line: &Line) -> Result<bool, ClientError> {
        match &line.wire {
            Wire::Text(text) => {
                let text = self.stand_ins.put_into(text, line.number);
                let Some(servers) = &self.servers else { return Ok(false) };
                servers.post(&text)?;
            }
            Wire::Opened(dialled) => return self.opened(*dialled).await,
            Wire::Lost(dialled, _) => {
                // One that could not be had is had here, and lost.
                if self.opened(*dialled).await?
                    && let Some(servers) = &mut self.servers
                {
                    servers.cut(*dialled);
                    self.open[dialled.index()] = false;
                }
                return Ok(true);
            }
            Wire::On(dialled, text) => {
                let text = self.stand_ins.put_into(text, line.number);
                let (open, Some(servers)) = (self.open[dialled.index()], &mut self.servers) else {
                    return Ok(false);
                };
                if !open || servers.feed(*dialled, &text).is_err() {
                    return Ok(false);
                }
                if servers.flush().await.is_err() {
                    return Ok(false);
                }
            }
            Wire::Binary(_) | Wire::Close(_) | Wire::Dial(..) => return Ok(true),
        }
        self.outcome.sent.count(self.provider, &line.wire);
        Ok(true)
    }

    /// Waits until a line is open.
    async fn opened(&mut self, line: Dialled) -> Result<bool, ClientError> {
        let deadline = self.clock.now() + PATIENCE;
        while !self.open[line.index()] {
            if !self.turn(deadline).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for so many answers, unless some were waited for in vain already.
    async fn answers(&mut self, asked: u64) -> Result<(), ClientError> {
        let deadline = self.clock.now() + PATIENCE;
        while self.came + self.missed < asked {
            if !self.turn(deadline).await? {
                self.missed = asked - self.came;
            }
        }
        Ok(())
    }

    async fn listen_until(&mut self, moment: Instant) -> Result<(), ClientError> {
        while self.turn(moment).await? {}
        Ok(())
    }

    /// Listens until the bridge has nothing more to say.
    async fn listen_out(&mut self) -> Result<(), ClientError> {
        let deadline = self.clock.now() + LAST_WORDS;
        while self.turn(deadline.min(self.clock.now() + QUIET)).await? {}
        Ok(())
    }

    /// Takes in what happens next; whether anything did before the moment.
    async fn turn(&mut self, until: Instant) -> Result<bool, ClientError> {
        let Some(servers) = &mut self.servers else { return Ok(false) };
        let happened = tokio::select! {
            biased;
            happened = servers.next() => happened,
            () = self.clock.sleep_until(Some(until)) => return Ok(false),
        };
        match happened {
            AtServers::NotTaken(error) => return Err(error),
            AtServers::Opened(line) => {
                self.open[line.index()] = true;
                self.heard(&Wire::Dial(line, String::new()));
            }
            AtServers::Came(line, Incoming::Close(closed)) => {
                self.open[line.index()] = false;
                if !servers.hang_up(line).await {
                    let code = closed.map_or(NO_CODE, |closed| closed.code);
                    self.end(Direction::Out, code).await;
                }
            }
            AtServers::Came(line, incoming) => {
                if let Some(message) = servers.message(line, &incoming)
                    && let Wire::Text(text) = message.into()
                {
                    self.heard(&Wire::On(line, text));
                }
            }
            AtServers::Lost(line, _) => {
                self.open[line.index()] = false;
                if !self.open.contains(&true) {
                    self.end(Direction::Out, CUT).await;
                }
            }
        }
        Ok(true)
    }

    fn heard(&mut self, wire: &Wire) {
        self.came += 1;
        self.outcome.keep(Heard::new(self.provider, wire));
    }

    async fn end(&mut self, by: Direction, code: u16) {
        self.outcome.closed = Some((by, code));
        if let Some(servers) = self.servers.take() {
            servers.close(code).await;
        }
    }

    async fn close(&mut self, code: u16) {
        if self.servers.is_some() {
            self.end(Direction::In, code).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_at_one_url_are_told_apart_by_which_is_dialled_next() {
        let line =
            |number, wire| Line { number, direction: Direction::Out, at: Instant::ZERO, wire };
        let dial = |dialled, url: &str| Wire::Dial(dialled, url.to_owned());
        let [first, second] = Dialled::ALL;
        let lines = vec![
            line(3, dial(first, "wss://a/")),
            line(7, dial(second, "wss://a/")),
            line(9, dial(first, "wss://a/")),
            line(11, dial(second, "wss://b/")),
        ];
        let text = include_str!("../../../proto/transcripts/zoom-rtms/call.jsonl");
        let transcript = Transcript { lines, ..Transcript::parse(text).expect("a transcript") };
        let stand_ins = StandIns::new(&transcript, &["ws://1/x".into(), "ws://2/x".into()]);
        for (number, text, here) in [
            (2, r#"{"url":"wss://a/"}"#, r#"{"url":"ws://1/x"}"#),
            (5, r#"{"url":"wss://a/"}"#, r#"{"url":"ws://2/x"}"#),
            (8, r#"{"url":"wss://a/"}"#, r#"{"url":"ws://1/x"}"#),
            (
                10,
                r#"["wss://a/","wss://b/","wss://a/b"]"#,
                r#"["ws://1/x","ws://2/x","wss://a/b"]"#,
            ),
            (12, r#""wss://b/""#, r#""ws://2/x""#),
        ] {
            assert_eq!(stand_ins.put_into(text, number), here, "line {number}");
        }
    }
}
