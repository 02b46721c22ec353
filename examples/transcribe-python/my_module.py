"""Live speech to text in twenty lines: PocketSphinx hears the caller, each sentence comes out as a transcript."""

import ringback
from pocketsphinx import Decoder, Endpointer

# Cepstral means of speech on a phone line; those of the model fit a headset.
PHONE_CMN = "40.46,23.82,-27.45,44.46,-19.98,3.31,13.19,-27.06,18.57,-11.45,3.07,11.60,-10.34"


class MyModule(ringback.Module):
    name, rate, frame_ms = "my-module", 16000, 20  # the bridge converts

    def on_load(self):
        self.decoder = Decoder(samprate=self.rate, loglevel="FATAL")

    def on_start(self, s):
        s.ears, s.talking = Endpointer(sample_rate=self.rate, frame_length=0.02), False

    def on_audio(self, s, pcm):
        speech = s.ears.process(pcm)
        if speech and not s.talking:
            self.decoder.set_cmn(PHONE_CMN)
            self.decoder.start_utt()
            s.talking = True
        if speech:
            self.decoder.process_raw(speech)
        if s.talking and not s.ears.in_speech:
            self.finish(s)

    def finish(self, s):
        self.decoder.end_utt()
        s.talking = False
        if self.decoder.hyp():
            start, end = s.ears.speech_start, s.ears.speech_end
            s.transcript(self.decoder.hyp().hypstr, start_ms=start * 1000, end_ms=end * 1000)

    def on_stop(self, s):
        if s.talking:
            self.finish(s)


ringback.run(MyModule)
