"""Messages of providers as their own types write them: what a provider's SDK expects is what its service sends."""

import base64

from plivo_stream import types as plivo


def encoded(octets):
    return base64.b64encode(octets).decode()


class PlivoStream:
    package = "plivo-stream-sdk"
    formats = [("PCMU", 8000), ("L16", 8000), ("L16", 16000)]

    def __init__(self, encoding, rate):
        self.encoding, self.rate, self.sent = encoding, rate, 0

    def write(self, event):
        """The message of an event as servers are told them; of `started`, what is told of the stream."""
        self.sent += 1
        numbered = {"sequenceNumber": self.sent, "streamId": "stream-1"}
        [(kind, value)] = event.items()
        if kind == "started":
            name = {"PCMU": "audio/x-mulaw", "L16": "audio/x-l16"}[self.encoding]
            media = plivo.MediaFormat(encoding=name, sampleRate=self.rate)
            ids = {"callId": value["call"], "streamId": value["stream"], "accountId": "account-1"}
            start = plivo.StartData(**ids, tracks=["inbound"], mediaFormat=media)
            made = plivo.StartEvent(event="start", sequenceNumber=self.sent, start=start)
        elif kind == "payload":
            data = plivo.MediaData(track="inbound", timestamp=str(20 * self.sent), chunk=self.sent, payload=value)
            made = plivo.MediaEvent(event="media", media=data, **numbered)
        elif kind == "key":
            data = plivo.DtmfData(track="inbound", digit=value, timestamp=str(20 * self.sent))
            made = plivo.DtmfEvent(event="dtmf", dtmf=data, **numbered)
        elif kind == "played":
            made = plivo.PlayedStreamEvent(event="playedStream", name=value, **numbered)
        else:
            made = plivo.ClearedAudioEvent(event="clearedAudio", **numbered)
        return {"text": made.model_dump_json(by_alias=True)}


CLIENTS = [("plivo", PlivoStream), ("vobiz", PlivoStream)]
