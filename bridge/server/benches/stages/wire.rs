//! Stages that know octets: WebSocket frames, providers' messages, base64, and the wire to modules outside the process.

use divan::black_box;
use ringback::socket::wire::{Kind, Reader, Role, Writer};
use ringback_module::message::SampleEncoding;
use ringback_module::wire::{AudioHeader, FrameReader, decode_samples, write_audio};
use ringback_proto::Instant;
use ringback_proto::provider::{
    Command, Outbox, PROVIDERS, PlayoutPolicy, Protocol, Provider, Track, find,
};

use crate::table::Stage;
use crate::turn::{Kept, ends, frames, opening, payload};

pub(crate) fn stages() -> Vec<Stage> {
    let mut stages = Vec::new();
    stages.extend(websocket());
    let sound = PROVIDERS.iter().filter(|provider| provider.has_sound());
    stages.extend(sound.flat_map(|provider| wire_of(*provider)));
    stages.extend(base64());
    stages.extend(module());
    stages
}

/// A frame as Twilio sends it.
fn twilio() -> Vec<u8> {
    let provider = find("twilio").expect("a provider of the table");
    let (_, mut phone) = ends(provider);
    let frames = frames(provider, phone.as_mut(), 1);
    let Some(Kept::Text(text)) = frames.into_iter().next() else { panic!("Twilio sends text") };
    text.into_bytes()
}

/// Messages of the sizes that cross a socket 50 times a second.
type Frame = (&'static str, Kind, fn() -> Vec<u8>);
const FRAMES: [Frame; 3] = [
    ("Twilio", Kind::Text, twilio),
    ("320 octets", Kind::Binary, || vec![0x55; 320]),
    ("640 octets", Kind::Binary, || vec![0x55; 640]),
];

fn websocket() -> impl Iterator<Item = Stage> {
    let read = FRAMES.into_iter().map(|(name, kind, frame)| {
        Stage::new(format!("websocket read: {name}"), move || {
            let mut client = Writer::new(Role::Client);
            client.push(kind, &frame());
            let octets = client.pending().to_vec();
            let mut reader = Reader::new(Role::Server, 64 * 1024);
            move || {
                reader.push(black_box(&octets));
                let arrival = reader.next_message().expect("well-formed").expect("whole");
                black_box(reader.octets(&arrival));
            }
        })
    });
    let write = FRAMES.into_iter().map(|(name, kind, frame)| {
        Stage::new(format!("websocket write: {name}"), move || {
            let frame = frame();
            let mut writer = Writer::new(Role::Server);
            move || {
                writer.push(kind, black_box(&frame));
                let octets = black_box(writer.pending()).len();
                writer.wrote(octets);
            }
        })
    });
    read.chain(write)
}

/// Both ends of a call whose first frame has been heard.
fn begun(provider: &dyn Provider) -> (Box<dyn Protocol>, Box<dyn Protocol>) {
    let (mut bridge, mut phone) = ends(provider);
    let mut said = opening(provider, phone.as_mut());
    said.extend(frames(provider, phone.as_mut(), 1));
    for message in said {
        message.tell(&mut *bridge, &mut Outbox::new());
    }
    (bridge, phone)
}

/// The bridge reads a frame and writes one, if it may; the provider's end writes one, as a load generator does.
fn wire_of(provider: &'static dyn Provider) -> Vec<Stage> {
    let name = provider.name();
    let parse = Stage::new(format!("{name} parse"), move || {
        let (mut bridge, mut phone) = begun(provider);
        let mut out = Outbox::new();
        let frame = frames(provider, phone.as_mut(), 1).remove(0);
        move || {
            out.reset();
            black_box(&frame).tell(&mut *bridge, &mut out);
            assert_eq!(black_box(out.events()).len(), 1);
        }
    });
    let print = Stage::new(format!("{name} print"), move || {
        says(provider, begun(provider).0, Track::Outbound)
    });
    let say = Stage::new(format!("{name} print, the provider's end"), move || {
        says(provider, begun(provider).1, Track::Inbound)
    });
    if provider.capabilities().playout == PlayoutPolicy::None {
        vec![parse, say]
    } else {
        vec![parse, print, say]
    }
}

fn says(provider: &dyn Provider, mut end: Box<dyn Protocol>, track: Track) -> impl FnMut() + use<> {
    let payload = payload(provider, 0);
    let mut out = Outbox::new();
    move || {
        out.reset();
        let command = Command::Media { track, payload: black_box(&payload) };
        end.handle_command(Instant::ZERO, command, &mut out).expect("prints");
        // Some say that sound begins before its first message.
        assert!(!black_box(out.sends()).is_empty());
    }
}

/// 160 octets, as the providers do it.
fn base64() -> [Stage; 2] {
    use base64_simd::STANDARD;
    let decode = Stage::new("base64 decode", || {
        let text = STANDARD.encode_to_string([0x55; 160]);
        let mut octets = Vec::with_capacity(1_024);
        move || {
            octets.clear();
            STANDARD.decode_append(black_box(text.as_str()), &mut octets).expect("is base64");
            black_box(octets.as_slice());
        }
    });
    let encode = Stage::new("base64 encode", || {
        let mut text = Vec::with_capacity(1_024);
        move || {
            text.clear();
            STANDARD.encode_append(black_box(&[0x55; 160]), &mut text);
            black_box(text.as_slice());
        }
    });
    [decode, encode]
}

/// 20 ms at 16 kHz to a process of its own, and from it.
fn module() -> [Stage; 2] {
    fn write(octets: &mut Vec<u8>) {
        let header = AudioHeader { pts: 320, ..AudioHeader::default() };
        write_audio(1, Some(&header), SampleEncoding::PcmS16le, black_box(&[0x55; 320]), octets)
            .expect("fits");
    }
    let encode = Stage::new("module wire write", || {
        let mut octets = Vec::with_capacity(1_024);
        move || {
            octets.clear();
            write(&mut octets);
            black_box(octets.as_slice());
        }
    });
    let decode = Stage::new("module wire read", || {
        let mut octets = Vec::new();
        write(&mut octets);
        let mut reader = FrameReader::new();
        let mut pcm = Vec::with_capacity(1_024);
        move || {
            reader.push(black_box(&octets));
            let frame = reader.next_frame().expect("well-formed").expect("whole");
            let (header, samples) = AudioHeader::decode(frame.body).expect("has a header");
            pcm.clear();
            decode_samples(SampleEncoding::PcmS16le, samples, &mut pcm).expect("whole samples");
            black_box((header, pcm.as_slice()));
        }
    });
    [encode, decode]
}
