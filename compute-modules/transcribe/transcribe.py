"""Speech to text with PocketSphinx 5: live guesses while the caller speaks, the final text when a sentence ends.

Runs offline on one core: the English model is in the PyPI package. It understands plain phrases; it is no match for a large model.
"""

import ringback
from pocketsphinx import Decoder, Endpointer

# Cepstral means of speech on a phone line. What the model starts with fits a headset and makes 8 kHz calls unintelligible.
PHONE_CMN = "40.46,23.82,-27.45,44.46,-19.98,3.31,13.19,-27.06,18.57,-11.45,3.07,11.60,-10.34"
# How widely the decoder searches. Measured on 32 sentences: its own settings need 1.5 times the work of these for 6 instead of
# 7 % of words wrong; `fast` needs 0.7 times the work, has the final text 0.2 s sooner and 10 % of words wrong.
SEARCH = {False: {"maxhmmpf": 5000, "maxwpf": 10}, True: {"maxhmmpf": 3000, "fwdflat": False}}
GUESS_MS = 300  # From one guess to the next
NOTICE_MS = 600  # Speech is noticed well within this


class Transcribe(ringback.Module):
    name, version = "transcribe", "0.1.0"
    rate, frame_ms, overflow = 16000, 20, "spool"
    auto_ack = False  # Sound counts as used when its text is out: after a crash the whole sentence is heard again

    def on_load(self):
        self.decoders = {}
        self.load(False)

    def load(self, fast):
        if fast not in self.decoders:
            self.decoders[fast] = Decoder(samprate=self.rate, loglevel="FATAL", **SEARCH[fast])
        return self.decoders[fast]

    def on_start(self, s):
        s.decoder = self.load(bool((s.config or {}).get("fast")))
        self.listen(s)

    def listen(self, s):
        s.ears = Endpointer(sample_rate=self.rate, frame_length=self.frame_ms / 1000)
        s.fed_ms, s.talking = 0, False

    def on_audio(self, s, pcm):
        s.fed_ms += self.frame_ms
        speech = s.ears.process(
            pcm.ljust(s.ears.frame_bytes, b"\0")
        )  # A call may end within a frame
        if speech:
            self.hear(s, speech)
        if not s.talking:
            s.ack(s.now_ms - NOTICE_MS)

    def hear(self, s, speech):
        if not s.talking:
            zero_ms = s.now_ms - s.fed_ms  # The endpointer's zero on the clock of the call
            s.talking, s.guess, s.guess_at = True, "", s.now_ms + GUESS_MS
            s.start_ms = max(0, round(zero_ms + s.ears.speech_start * 1000))
            s.decoder.set_cmn(PHONE_CMN)
            s.decoder.start_utt()
        s.decoder.process_raw(speech)
        if not s.ears.in_speech:
            self.finish(s, s.start_ms + round((s.ears.speech_end - s.ears.speech_start) * 1000))
        elif s.now_ms >= s.guess_at:
            s.guess_at = s.now_ms + GUESS_MS
            text = self.text(s)
            if text != s.guess:
                s.guess = text
                s.transcript(text, final=False, start_ms=s.start_ms)

    def finish(self, s, end_ms):
        s.decoder.end_utt()
        s.talking = False
        text = self.text(s)
        if text or s.guess:
            s.transcript(text, start_ms=s.start_ms, end_ms=end_ms)
        s.ack(end_ms)

    def text(self, s):
        hypothesis = s.decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    def on_finalize(self, s):
        if s.talking:
            rest = s.ears.end_stream(bytes(2))
            if rest:
                s.decoder.process_raw(rest)
            self.finish(s, s.now_ms)
        self.listen(s)

    on_stop = on_finalize


if __name__ == "__main__":
    ringback.run(Transcribe)
