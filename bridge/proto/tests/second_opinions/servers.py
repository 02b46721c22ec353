"""Packages that answer providers' streams in the place of a bridge: each is told messages and orders, and tells what it understood
and what it would send. What they understood is told in the same words by all, and never judged.

Events: `{"started": {..}}`, `{"sound": base64 of PCM}` or, from who does not decode, `{"payload": base64 of octets}`, `{"key": "5"}`,
`{"played": mark}`, `{"cleared": true}`, `{"error": text}`, and `{"reply": message}` for what is sent by itself. Orders:
`{"sound": PCM, "payload": the same encoded}`, `{"clear": true}`, `{"mark": name}`, `{"hangup": true}`. Messages: `{"text": ..}` or
`{"binary": base64}`.
"""

import base64
import json
from types import SimpleNamespace

from jambonz_sdk.websocket.audio_stream import AudioStream
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vobiz import VobizFrameSerializer, parse_vobiz_start
from pipecat.serializers.vonage import VonageFrameSerializer
from pipecat_acefone import AcefoneFrameSerializer
from pipecat_asterisk import AsteriskFrameSerializer
from pipecat_bandwidth import BandwidthFrameSerializer
from pipecat_wavix import WavixFrameSerializer
from plivo_stream.base import BaseStreamingHandler


def encoded(octets):
    return base64.b64encode(octets).decode()


def message(data):
    return {"text": data} if isinstance(data, str) else {"binary": encoded(data)}


class Pipecat:
    """A serializer of pipecat or for it, which is made when the stream has told what it is called."""

    package = "pipecat-ai"
    # Whether the provider itself makes the package.
    vendors_own = False
    hears = ["sound", "key"]
    says = ["sound", "clear"]
    formats = [("PCMU", 8000)]
    options = {}

    def __init__(self, encoding, rate):
        self.encoding, self.rate = encoding, rate
        self.serializer = None
        self.texts = []

    def params(self, kind, **params):
        return kind.InputParams(**params, **self.options)

    async def hear(self, data):
        events = []
        if self.serializer is None:
            self.texts.append(data)
            made = await self.begin(data)
            if made is None:
                return events
            self.serializer, started = made
            rates = SimpleNamespace(audio_in_sample_rate=self.rate, audio_out_sample_rate=self.rate)
            await self.serializer.setup(rates)
            if started:
                events.append({"started": started})
        frame = await self.serializer.deserialize(data)
        return events + [event for event in [await self.event(frame)] if event]

    async def begin(self, data):
        """The serializer, once a message tells what it needs to know, and what the package itself has read in it."""
        raise NotImplementedError

    async def event(self, frame):
        if frame is None:
            return None
        if isinstance(frame, InputAudioRawFrame):
            assert (frame.sample_rate, frame.num_channels) == (self.rate, 1)
            return {"sound": encoded(frame.audio)}
        if isinstance(frame, InputDTMFFrame):
            return {"key": frame.button.value}
        if isinstance(frame, OutputTransportMessageUrgentFrame):
            return {"reply": message(await self.serializer.serialize(frame))}
        return {"error": f"a frame of a kind that is not expected: {frame}"}

    async def say(self, order):
        data = await self.serializer.serialize(self.frame(order))
        return [] if data is None else [message(data)]

    def frame(self, order):
        if "sound" in order:
            pcm = base64.b64decode(order["sound"])
            return OutputAudioRawFrame(audio=pcm, sample_rate=self.rate, num_channels=1)
        return InterruptionFrame() if "clear" in order else EndFrame()


class Detected(Pipecat):
    """With pipecat's own reading of the first messages, which also tells providers apart."""

    hears = ["started", "sound", "key"]
    options = {"auto_hang_up": False}
    detected = None

    async def begin(self, data):
        if json.loads(data).get("event") != "start":
            return None
        texts = self.texts

        async def iter_text():
            for text in texts:
                yield text

        kind, call = await parse_telephony_websocket(SimpleNamespace(iter_text=iter_text))
        if kind != self.detected:
            raise ValueError(f"taken for {kind}: {texts}")
        told = {"stream": call.stream_id, "call": call.call_id, "from": call.from_number, "to": call.to_number}
        told = {name: value for name, value in told.items() if value}
        return self.make(call), told | ({"parameters": call.body} if call.body else {})


class Twilio(Detected):
    detected = "twilio"

    def make(self, call):
        return TwilioFrameSerializer(call.stream_id, params=self.params(TwilioFrameSerializer))


class Telnyx(Detected):
    detected = "telnyx"
    formats = [("PCMU", 8000), ("PCMA", 8000)]

    def make(self, call):
        codec = call.outbound_encoding
        return TelnyxFrameSerializer(call.stream_id, codec, codec, params=self.params(TelnyxFrameSerializer))


class Plivo(Detected):
    detected = "plivo"

    def make(self, call):
        return PlivoFrameSerializer(call.stream_id, params=self.params(PlivoFrameSerializer))


class Exotel(Detected):
    detected = "exotel"
    formats = [("L16", 8000), ("L16", 16000), ("L16", 24000)]
    options = {}

    def make(self, call):
        params = self.params(ExotelFrameSerializer, exotel_sample_rate=self.rate)
        return ExotelFrameSerializer(call.stream_id, params=params)


class Vonage(Pipecat):
    formats = [("L16", 8000), ("L16", 16000), ("L16", 24000)]

    async def begin(self, data):
        return VonageFrameSerializer(self.params(VonageFrameSerializer, vonage_sample_rate=self.rate)), None


class Bandwidth(Pipecat):
    package = "pipecat-bandwidth"
    vendors_own = True
    hears = ["sound"]
    options = {"auto_hang_up": False}

    async def begin(self, data):
        stream = json.loads(data)["metadata"]["streamId"]
        return BandwidthFrameSerializer(stream, params=self.params(BandwidthFrameSerializer)), None


class Acefone(Pipecat):
    package = "pipecat-acefone"
    says = ["sound", "clear", "hangup"]

    async def begin(self, data):
        start = json.loads(data)
        if start["event"] != "start":
            return None
        params = self.params(AcefoneFrameSerializer, auto_hang_up=True, call_sid=start["start"]["callSid"])
        return AcefoneFrameSerializer(params), None


class Wavix(Pipecat):
    package = "pipecat-wavix"
    vendors_own = True
    hears = ["sound"]
    formats = [("L16", 24000)]

    async def begin(self, data):
        start = json.loads(data)
        if start["event"] != "start":
            return None
        return WavixFrameSerializer(start["stream_id"], self.params(WavixFrameSerializer)), None


class Vobiz(Pipecat):
    package = "pipecat-vobiz"
    hears = ["started", "sound", "key"]
    says = ["sound", "clear", "hangup"]
    formats = [("PCMU", 8000), ("L16", 8000), ("L16", 16000)]
    # Its default is big-endian sound, "per the Vobiz docs". What those say today of `playAudio` is little-endian.
    options = {"l16_byte_order": "le", "hangup_method": "ws_stop"}

    async def begin(self, data):
        async def receive_text():
            return data

        start = await parse_vobiz_start(SimpleNamespace(receive_text=receive_text))
        kind = VobizFrameSerializer
        params = self.params(kind, encoding=start["encoding"], vobiz_sample_rate=start["sample_rate"])
        return kind(start["stream_id"], params=params), {"stream": start["stream_id"], "call": start["call_id"]}


class Genesys(Pipecat):
    hears = ["started", "sound", "key"]
    says = ["sound", "clear", "hangup"]

    async def begin(self, data):
        return GenesysAudioHookSerializer(self.params(GenesysAudioHookSerializer)), None

    async def hear(self, data):
        was_open = self.serializer is not None and self.serializer.is_open
        events = await super().hear(data)
        session = self.serializer
        if session.is_open and not was_open:
            told = {"stream": session.session_id, "call": session.conversation_id}
            told |= {"from": session.participant["ani"], "to": session.participant["dnis"]}
            events.append({"started": told})
        return events


class AudioHook(Genesys):
    """Its session that only listens: the same protocol, and nothing to be played."""

    says = ["hangup"]


class Asterisk(Pipecat):
    package = "pipecat-asterisk"
    says = ["sound", "clear", "hangup"]
    # Of 8 kHz, which chan_websocket calls "slin", its list of rates knows nothing, but it takes it.
    formats = [("L16", 8000), ("L16", 16000), ("L16", 24000), ("L16", 48000)]

    async def begin(self, data):
        return AsteriskFrameSerializer(), None

    async def event(self, frame):
        # Its start, which it hands on as it is.
        return None if isinstance(frame, InputTransportMessageFrame) else await super().event(frame)


class PlivoStream(BaseStreamingHandler):
    """Plivo's SDK, all of it but the socket: its types check whatever comes."""

    package = "plivo-stream-sdk"
    vendors_own = True
    hears = ["started", "sound", "key", "played", "cleared"]
    says = ["sound", "mark", "clear"]
    formats = [("PCMU", 8000), ("L16", 8000), ("L16", 16000)]

    def __init__(self, encoding, rate):
        super().__init__()
        self.encoding, self.rate = encoding, rate
        self.events, self.sent = [], []
        self.on_start(self.told(lambda e: {"started": {"stream": e.start.stream_id, "call": e.start.call_id}}))
        self.on_media(self.told(lambda e: {"payload": encoded(e.get_raw_media())}))
        self.on_dtmf(self.told(lambda e: {"key": e.dtmf.digit}))
        self.on_played_stream(self.told(lambda e: {"played": e.name}))
        self.on_cleared_audio(self.told(lambda e: {"cleared": True}))
        self.on_error(self.told(lambda error: {"error": str(error)}))

    def told(self, event):
        async def note(what):
            self.events.append(event(what))

        return note

    async def _send_raw(self, data):
        self.sent.append(message(data))

    async def hear(self, data):
        self.events = []
        await self._process_message(data)
        return self.events

    async def say(self, order):
        self.sent = []
        if "payload" in order:
            name = {"PCMU": "audio/x-mulaw", "L16": "audio/x-l16"}[self.encoding]
            await self.send_media(base64.b64decode(order["payload"]), name, self.rate)
        elif "mark" in order:
            await self.send_checkpoint(order["mark"])
        else:
            await self.send_clear_audio()
        return self.sent


class Jambonz:
    """jambonz' SDK for sound, all of it but the socket.

    It waits for a first message of type "setup" and for keys of type "dtmf". jambonz sends the one without a type, and keys by `event`:
    so it learns neither the call nor the keys, and is not asked for them.
    """

    package = "jambonz-python-sdk"
    vendors_own = True
    hears = ["sound", "played"]
    says = ["sound", "clear", "mark", "hangup"]
    formats = [("L16", 8000), ("L16", 16000), ("L16", 24000), ("L16", 48000), ("L16", 64000)]

    def __init__(self, encoding, rate):
        self.events, self.sent, self.incoming = [], [], []
        self.stream = AudioStream(self)
        self.stream.on("audio", lambda pcm: self.events.append({"sound": encoded(pcm)}))
        self.stream.on("dtmf", lambda data: self.events.append({"key": data["digit"]}))
        self.stream.on("mark", lambda data: self.events.append({"played": data["data"]["name"]}))
        self.stream.on("error", lambda error: self.events.append({"error": str(error)}))

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.incoming:
            raise StopAsyncIteration
        return self.incoming.pop()

    async def send(self, data):
        self.sent.append(message(data))

    async def hear(self, data):
        self.events, self.incoming = [], [data]
        await self.stream._run()
        return self.events

    async def say(self, order):
        self.sent = []
        if "sound" in order:
            await self.stream.send_audio(base64.b64decode(order["sound"]))
        elif "mark" in order:
            await self.stream.send_mark(order["mark"])
        elif "clear" in order:
            await self.stream.kill_audio()
        else:
            await self.stream.disconnect()
        return self.sent


# By provider. Where a provider says that it speaks another's protocol, that one's code is asked. Not of vonage-video: its end that we
# act out speaks JSON, which pipecat does not.
SERVERS = [
    ("twilio", Twilio),
    ("signalwire", Twilio),
    ("cloudonix", Twilio),
    ("telnyx", Telnyx),
    ("plivo", Plivo),
    ("plivo", PlivoStream),
    ("vobiz", Vobiz),
    ("vonage", Vonage),
    ("exotel", Exotel),
    ("bandwidth", Bandwidth),
    ("smartflo", Acefone),
    ("wavix", Wavix),
    ("genesys-audiohook", AudioHook),
    ("genesys-connector", Genesys),
    ("asterisk", Asterisk),
    ("jambonz", Jambonz),
]
