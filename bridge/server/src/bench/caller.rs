//! One caller of the load: sends numbered frames on time and times those that come back. Keeps no sound.

use std::sync::Arc;
use std::time::Duration;

use ringback_codecs::{Encoding, MediaFormat};
use ringback_proto::Instant;
use ringback_proto::provider::{Command, Dial, Event, Outbox, Protocol, Provider, Send, Track};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::COOL_DOWN;
use crate::client::WsUrl;
use crate::clock::Clock;
use crate::socket::{self, Incoming, Outgoing, Socket, SocketOptions};

pub(super) const FRAME: Duration = Duration::from_millis(20);

/// A wake-up may come so much before its time.
const EARLY: Duration = Duration::from_micros(50);

/// When a caller speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) first: Instant,
    pub(super) measure_from: Instant,
    pub(super) until: Instant,
}

/// What callers took down, times in microseconds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// From due to back, with the second of the run in which the frame was due.
    pub(super) latencies: Vec<(u32, u32)>,
    /// From due to sent: the generator's own fault.
    pub(super) lateness: Vec<u32>,
    pub(super) sent: u64,
    pub(super) duplicates: u64,
    pub(super) strangers: u64,
}

impl Taken {
    pub(super) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.lateness.extend(other.lateness);
        self.sent += other.sent;
        self.duplicates += other.duplicates;
        self.strangers += other.strangers;
    }
}

struct Caller {
    clock: Clock,
    socket: Socket,
    protocol: Box<dyn Protocol>,
    out: Outbox,
    format: Option<MediaFormat>,
    schedule: Schedule,
    wake: Arc<Notify>,
    /// Frames sent, which is the number of the next.
    next: u64,
    back: Vec<bool>,
    /// Octets of a frame that came back in part.
    partial: Vec<u8>,
    payload: Vec<u8>,
    taken: Taken,
}

pub(super) async fn run(
    clock: Clock,
    provider: &'static dyn Provider,
    url: WsUrl,
    index: usize,
    schedule: Schedule,
    wake: Arc<Notify>,
) -> Result<Taken, String> {
    let dial =
        Dial { target: url.target.clone(), call: format!("bench-{index}"), ..Dial::default() };
    let (request, protocol) = provider.dial(&dial);
    let stream =
        TcpStream::connect(&url.authority).await.map_err(|e| format!("{}: {e}", url.authority))?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let socket = socket::dial(stream, &url.authority, &request, SocketOptions::default())
        .await
        .map_err(|e| e.to_string())?;
    let caller = Caller {
        clock,
        socket,
        protocol,
        out: Outbox::new(),
        format: None,
        schedule,
        wake,
        next: 0,
        back: Vec::new(),
        partial: Vec::new(),
        payload: Vec::new(),
        taken: Taken::default(),
    };
    caller.call().await
}

impl Caller {
    async fn call(mut self) -> Result<Taken, String> {
        self.protocol.handle_open(self.clock.now(), &mut self.out).map_err(|e| e.to_string())?;
        self.react().await?;
        let last = self.schedule.until + COOL_DOWN;
        let wake = Arc::clone(&self.wake);
        loop {
            tokio::select! {
                biased;
                incoming = self.socket.recv() => match incoming {
                    Some(Ok(incoming)) => self.hear(&incoming).await?,
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the bridge closed the stream".into()),
                },
                () = wake.notified() => self.speak_all_due().await?,
                () = self.clock.sleep_until(Some(last)) => break,
            }
        }
        self.socket.close(socket::close_code::NORMAL, "").await;
        Ok(self.taken)
    }

    /// Sends all frames that are due by now.
    async fn speak_all_due(&mut self) -> Result<(), String> {
        loop {
            let due = self.schedule.first + FRAME * self.next as u32;
            if due >= self.schedule.until || due > self.clock.now() + EARLY {
                return Ok(());
            }
            self.speak(due).await?;
        }
    }

    async fn speak(&mut self, due: Instant) -> Result<(), String> {
        let Some(format) = self.format else {
            return Err("the stream has not started in time".into());
        };
        let now = self.clock.now();
        self.payload.clear();
        stamp(format, self.next, &mut self.payload)?;
        let media = Command::Media { track: Track::Inbound, payload: &self.payload };
        self.protocol.handle_command(now, media, &mut self.out).map_err(|e| e.to_string())?;
        self.next += 1;
        self.back.push(false);
        if due >= self.schedule.measure_from {
            self.taken.sent += 1;
            self.taken.lateness.push(micros(now - due));
        }
        self.flush().await
    }

    async fn hear(&mut self, incoming: &Incoming) -> Result<(), String> {
        if matches!(incoming, Incoming::Close(_)) {
            return Err("the bridge closed the stream".into());
        }
        let Some(message) = self.socket.message(incoming) else { return Ok(()) };
        let now = self.clock.now();
        self.protocol.handle_message(now, message, &mut self.out).map_err(|e| e.to_string())?;
        self.react().await
    }

    async fn react(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let out = std::mem::take(&mut self.out);
        for event in out.events() {
            match event {
                Event::Started(start) => self.format = Some(start.inbound),
                Event::Media(media) => self.partial.extend_from_slice(out.octets(&media.payload)),
                _ => {}
            }
        }
        self.take_frames(now);
        self.out = out;
        self.flush().await
    }

    fn take_frames(&mut self, now: Instant) {
        let Some(format) = self.format else { return };
        let Some(length) = format.octets_for(format.rate.samples_in(FRAME) as usize) else {
            return;
        };
        while self.partial.len() >= length {
            let number = read_stamp(format, &self.partial[..length]);
            self.partial.drain(..length);
            self.note(now, number);
        }
    }

    fn note(&mut self, now: Instant, number: Option<u64>) {
        let seen = number.and_then(|n| Some((n, self.back.get_mut(usize::try_from(n).ok()?)?)));
        let Some((number, seen)) = seen else {
            self.taken.strangers += 1;
            return;
        };
        if std::mem::replace(seen, true) {
            self.taken.duplicates += 1;
            return;
        }
        let due = self.schedule.first + FRAME * number as u32;
        if due >= self.schedule.measure_from {
            let second = (due - self.schedule.measure_from).as_secs() as u32;
            self.taken.latencies.push((second, micros(now - due)));
        }
    }

    async fn flush(&mut self) -> Result<(), String> {
        for send in self.out.sends() {
            let fed = match send {
                Send::Text(span) => self.socket.feed(Outgoing::Text(self.out.text_of(span))),
                Send::Binary(span) => self.socket.feed(Outgoing::Binary(self.out.octets(span))),
                Send::Close(_) => Ok(()),
            };
            fed.map_err(|e| e.to_string())?;
        }
        self.socket.flush().await.map_err(|e| e.to_string())?;
        self.out.reset();
        Ok(())
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Septets of a frame's number; seven bits each fit every encoding's octets without a code that another one stands for.
const SEPTETS: usize = 4;

/// A frame whose sound says its number: four septets, over and over.
fn stamp(format: MediaFormat, number: u64, payload: &mut Vec<u8>) -> Result<(), String> {
    let samples = format.rate.samples_in(FRAME) as usize;
    let octets = format.octets_for(samples).ok_or("this format cannot carry numbered frames")?;
    let septet = |i: usize| (number >> (7 * (i % SEPTETS))) as u8 & 0x7f;
    match format.encoding {
        Encoding::Pcmu | Encoding::Pcma => payload.extend((0..octets).map(|i| 0x80 | septet(i))),
        Encoding::L16(_) => payload.extend((0..octets).map(|i| septet(i / 2))),
        _ => return Err("this format cannot carry numbered frames".into()),
    }
    Ok(())
}

fn read_stamp(format: MediaFormat, frame: &[u8]) -> Option<u64> {
    let width = if matches!(format.encoding, Encoding::L16(_)) { 2 } else { 1 };
    // From the middle: the first milliseconds may be blended with sound that was cut.
    let middle = frame.len() / width / 2 / SEPTETS * SEPTETS;
    let septet = |i: usize| frame.get((middle + i) * width).map(|octet| u64::from(octet & 0x7f));
    (0..SEPTETS).try_fold(0, |number, i| Some(number | septet(i)? << (7 * i)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringback_codecs::{Endian, SampleRate};

    #[test]
    fn a_frame_says_its_number_in_every_encoding_and_survives_decoding() {
        for encoding in [
            Encoding::Pcmu,
            Encoding::Pcma,
            Encoding::L16(Endian::Little),
            Encoding::L16(Endian::Big),
        ] {
            let format = MediaFormat::mono(encoding, SampleRate::HZ_8000);
            for number in [0, 1, 127, 128, 4_321, 268_435_455] {
                let mut payload = Vec::new();
                stamp(format, number, &mut payload).expect("this format can");
                let (mut pcm, mut again) = (Vec::new(), Vec::new());
                format.decoder().expect("a codec").decode(&payload, &mut pcm).expect("decodes");
                format.encoder().expect("a codec").encode(&pcm, &mut again).expect("encodes");
                assert_eq!(read_stamp(format, &again), Some(number), "{format}");
            }
        }
    }
}
