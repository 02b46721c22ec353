"""What handlers are told and what a session says, in this process."""

import asyncio
import os
import tempfile
import unittest

import ringback
from ringback._sound import write_wav
from ringback.testing import ModuleFailed, run_wav, run_words

from . import support  # noqa: F401


class OverSound(unittest.TestCase):
    """200 ms of sound at 8 kHz, ten frames."""

    def setUp(self):
        handle, self.wav = tempfile.mkstemp(suffix=".wav")
        os.close(handle)
        self.addCleanup(os.unlink, self.wav)
        write_wav(self.wav, 8000, [n % 100 for n in range(1600)])

    def run_module(self, module, **options):
        return list(run_wav(module, self.wav, **options))

    def said(self, module, type, **options):
        seen = self.run_module(module, **options)
        return [one.message for one in seen if one.type == type]


class Handlers(OverSound):
    def test_sound_comes_in_frames_in_the_format_asked_for(self):
        formats = (("pcm_s16le", 16000, 640), ("pcm_f32le", 8000, 640), ("pcmu", 8000, 160))
        for want_encoding, want_rate, octets in formats:

            class Hear(ringback.Module):
                rate, encoding = want_rate, want_encoding

                def on_audio(self, s, pcm):
                    s.event("sound", [len(pcm), s.now_ms])

            got = [m["data"] for m in self.said(Hear, "event")]
            self.assertEqual(got, [[octets, ms] for ms in range(20, 201, 20)])

    def test_frames_carry_their_place(self):
        class Hear(ringback.Module):
            rate, framing = 8000, "hdr16"

            def on_frame(self, s, frame):
                s.event("frame", [frame.track, frame.pts, frame.at_ms, frame.end_ms, frame.samples])

        got = [m["data"] for m in self.said(Hear, "event", resume_ms=100)]
        self.assertEqual(got[0], [0, 800, 100, 120, 160])
        self.assertEqual(got[-1], [0, 1440, 180, 200, 160])

    def test_async_and_sync_handlers_mix_in_order(self):
        class Mixed(ringback.Module):
            rate = 8000

            async def on_start(self, s):
                s.order = ["start"]
                s.loop = asyncio.get_running_loop()

            async def on_audio(self, s, pcm):
                assert asyncio.get_running_loop() is s.loop
                await asyncio.sleep(0)
                s.order.append(s.now_ms)

            def on_dtmf(self, s, dtmf):
                s.order.append(dtmf.digit)

            def on_stop(self, s):
                s.event("order", s.order)

        keys = [(60, {"type": "dtmf", "digit": "7"})]
        (event,) = self.said(Mixed, "event", messages=keys)
        ten = list(range(20, 201, 20))
        self.assertEqual(event["data"], ["start", *ten[:3], "7", *ten[3:]])

    def test_every_message_reaches_its_handler_as_a_value(self):
        class All(ringback.Module):
            rate = 8000

            def note(self, s, value):
                s.event(type(value).__name__, getattr(value, "__dict__", value))

            on_dtmf = on_vad = on_mark = on_playback = on_gap = on_text = on_event = note
            on_cleared = on_spoken = on_private = on_consent = on_update = note

        messages = {
            "Dtmf": {"type": "dtmf", "digit": "#", "at_ms": 5},
            "Vad": {"type": "vad", "state": "speech", "at_ms": 10, "track": 0},
            "Mark": {"type": "mark", "name": "m", "epoch": 0, "status": "played", "played_ms": 3},
            "Cleared": {"type": "cleared", "epoch": 0, "played_ms": 1, "discarded_ms": 2},
            "Playback": {"type": "playback", "epoch": 0, "state": "idle", "played_ms": 9},
            "Gap": {"type": "gap", "track": 0, "from_ms": 1, "to_ms": 2, "reason": "provider"},
            "Transcript": {"type": "text", "id": "t", "text": "hi", "final": True},
            "Spoken": {"type": "spoken", "epoch": 0, "text": "Good"},
            "Private": {"type": "private", "state": "began", "at_ms": 7},
            "Consent": {"type": "consent", "given": True, "at_ms": 8, "by": "ivr", "how": "key 1"},
            "Event": {"type": "event", "name": "n", "data": [1]},
        }
        timed = [(20, message) for message in messages.values()]
        timed.append((20, {"type": "update", "config": {"a": 1}}))
        events = self.said(All, "event", messages=timed)
        self.assertEqual([e["name"] for e in events], [*messages, "dict"])
        for event, message in zip(events, messages.values()):
            for key, value in message.items():
                if key != "type":
                    self.assertEqual(event["data"][key], value)
        self.assertEqual(events[-1]["data"], {"a": 1})

    def test_start_is_there(self):
        class Look(ringback.Module):
            def on_start(self, s):
                s.event("start", [s.id, s.call.from_, s.call.provider, s.config, s.start["v"]])

        (event,) = self.said(Look, "event", config={"k": 1})
        self.assertEqual(event["data"], ["test", "caller", "test", {"k": 1}, 1])

    def test_rejecting_a_session(self):
        class Picky(ringback.Module):
            def on_start(self, s):
                raise ringback.Reject("bad_config", "no model named x", retryable=False)

        class Broken(ringback.Module):
            def on_start(self, s):
                raise KeyError("model")

        with self.assertRaisesRegex(ModuleFailed, "no model named x"):
            self.run_module(Picky)
        with self.assertRaisesRegex(ModuleFailed, "on_start: KeyError"):
            self.run_module(Broken)

    def test_finalize_is_answered_after_its_transcripts(self):
        class Words(ringback.Module):
            rate = 8000

            def on_finalize(self, s):
                s.transcript("all of it")

        ask = [(60, {"type": "finalize", "id": "f1"})]
        seen = self.run_module(Words, messages=ask)
        got = [(s.type, s.message.get("finalize_id") or s.message.get("id")) for s in seen[1:3]]
        self.assertEqual(got, [("transcript", "f1"), ("finalized", "f1")])

    def test_class_attributes_are_checked(self):
        for wrong in ({"encoding": "mp3"}, {"rate": 0}, {"pace": "fast"}, {"tracks": (0, 1)}):
            module = type("Wrong", (ringback.Module,), wrong)
            with self.assertRaisesRegex(ValueError, "Wrong"):
                self.run_module(module)


class Transcripts(OverSound):
    def test_guesses_and_their_final_text_share_an_id(self):
        class Words(ringback.Module):
            rate = 8000

            def on_audio(self, s, pcm):
                if s.now_ms in (40, 60):
                    s.transcript(f"guess {s.now_ms}", final=False)
                if s.now_ms == 80:
                    s.transcript("sure", confidence=0.5, words=[ringback.Word("sure", 40, 80)])
                if s.now_ms == 120:
                    s.transcript("next", start_ms=100, end_ms=110)

        got = self.said(Words, "transcript")
        self.assertEqual([m["final"] for m in got], [False, False, True, True])
        self.assertEqual(len({m["id"] for m in got[:3]}), 1)
        self.assertNotEqual(got[3]["id"], got[2]["id"])
        self.assertEqual(
            [(m["start_ms"], m["end_ms"]) for m in got][1:], [(40, 60), (40, 80), (100, 110)]
        )
        self.assertEqual(got[2]["words"], [{"w": "sure", "s": 40, "e": 80}])
        self.assertEqual((got[2]["confidence"], "confidence" in got[3]), (0.5, False))


class Acks(OverSound):
    def test_sound_is_acked_after_its_handler_every_200_ms(self):
        class Hear(ringback.Module):
            rate, frame_ms = 8000, 20

            def on_audio(self, s, pcm):
                s.event("handled", s.now_ms)

        seen = self.run_module(Hear)
        acks = [s.message["in_ms"] for s in seen if s.type == "ack"]
        self.assertEqual(acks, [200])
        self.assertEqual([s.type for s in seen[-3:]], ["event", "ack", "done"])

    def test_a_module_may_ack_itself(self):
        class Hear(ringback.Module):
            rate, auto_ack = 8000, False

            def on_audio(self, s, pcm):
                s.ack(s.now_ms * 5)

        acks = [m["in_ms"] for m in self.said(Hear, "ack")]
        self.assertEqual(acks, [200, 400, 600, 800, 1000])


class Speaking(OverSound):
    def test_echo(self):
        class Echo(ringback.Module):
            rate = speaks = 8000

            def on_audio(self, s, pcm):
                s.play(memoryview(pcm))

            def on_stop(self, s):
                s.end_of_audio()

        seen = self.run_module(Echo)
        self.assertEqual(seen[0].message["accept"]["out"]["rate"], 8000)
        types = [s.type for s in seen if s.type != "ack"]
        self.assertEqual(types, ["ready", "audio.begin", *["audio"] * 10, "audio.end", "done"])
        sound = b"".join(s.audio for s in seen)
        self.assertEqual(len(sound), 3200)
        self.assertEqual(sound[:6], b"\0\0\1\0\2\0")

    def test_long_sound_is_cut_and_whole(self):
        class Play(ringback.Module):
            rate, speaks, framing = 8000, 8000, "hdr16"

            def on_start(self, s):
                s.play(bytes(range(256)) * 1000)

        seen = self.run_module(Play)
        pieces = [s.audio for s in seen if s.audio]
        self.assertEqual(b"".join(pieces), bytes(range(256)) * 1000)
        self.assertLessEqual(max(map(len, pieces)), 32_768)

    def test_clear_begins_a_new_generation(self):
        class Clear(ringback.Module):
            rate = speaks = 8000

            def on_audio(self, s, pcm):
                if s.now_ms in (20, 60):
                    s.play(pcm)
                if s.now_ms == 40:
                    s.clear()

            def on_cleared(self, s, cleared):
                s.event("cleared", [cleared.epoch, s.epoch])

        seen = self.run_module(Clear)
        said = [s.message for s in seen if s.type not in ("ready", "ack", "done")]
        begins = [
            (m["type"], m.get("epoch")) for m in said if m["type"] in ("audio.begin", "clear")
        ]
        self.assertEqual(begins, [("audio.begin", 0), ("clear", 0), ("audio.begin", 1)])
        (event,) = [m for m in said if m["type"] == "event"]
        self.assertEqual(event["data"], [0, 1])

    def test_marks_come_back(self):
        class Marks(ringback.Module):
            rate = speaks = 8000

            def on_start(self, s):
                s.play(bytes(1600))
                s.mark("greeted")

            def on_mark(self, s, mark):
                s.event("mark", [mark.name, mark.status, mark.played_ms])

        (event,) = self.said(Marks, "event")
        self.assertEqual(event["data"], ["greeted", "played", 100])

    def test_mistakes_are_named(self):
        class Mute(ringback.Module):
            rate = 8000

            def on_audio(self, s, pcm):
                s.play(pcm)

        class Odd(ringback.Module):
            rate = speaks = 8000

            def on_audio(self, s, pcm):
                s.play(b"abc")

        class Words(ringback.Module):
            rate = 8000

            def on_audio(self, s, pcm):
                s.hangup(after="lunch")

        for module, what in ((Mute, "speaks"), (Odd, "3 octets"), (Words, "now, playback")):
            self.assertIn(what, self.said(module, "error")[0]["message"])

    def test_control_as_the_contract_spells_it(self):
        class Control(ringback.Module):
            def on_start(self, s):
                s.dtmf("12#", tone_ms=100)
                s.hangup("bye", after="playback")
                s.transfer("sip:desk")
                s.pause()
                s.resume()
                s.turn("end", 1, trigger="model")
                s.vad("silence", probability=0.1)
                s.log("info", "hello", n=1)
                s.metric("lag", 3, "ms")
                s.error("vendor", "slow", retryable=True)

        got = [s.message for s in self.run_module(Control)][1:-1]
        expected = [
            {"type": "dtmf.send", "digits": "12#", "tone_ms": 100},
            {"type": "hangup", "reason": "bye", "after": "playback"},
            {"type": "transfer", "to": "sip:desk"},
            {"type": "pause"},
            {"type": "resume"},
            {"type": "turn", "event": "end", "turn": 1, "trigger": "model"},
            {"type": "vad", "track": 0, "state": "silence", "at_ms": 0, "probability": 0.1},
            {"type": "log", "level": "info", "msg": "hello", "fields": {"n": 1}},
            {"type": "metric", "name": "lag", "value": 3.0, "unit": "ms"},
            {
                "type": "error",
                "code": "vendor",
                "message": "slow",
                "fatal": False,
                "retryable": True,
            },
        ]
        self.assertEqual(got, expected)

    def test_nothing_is_said_after_the_end(self):
        kept = []

        class Late(ringback.Module):
            rate = speaks = 8000

            def on_start(self, s):
                kept.append(s)

        seen = self.run_module(Late)
        self.assertEqual(seen[-1].type, "done")
        kept[0].event("late")
        self.assertFalse(kept[0].play(bytes(2)))


class OverWords(unittest.TestCase):
    """Calls that carry words instead of sound."""

    def said(self, module, words, *types):
        seen = [one.message for one in run_words(module, words)]
        return [message for message in seen if message["type"] in types]

    def test_words_are_answered_by_words(self):
        class Polite(ringback.Module):
            def on_text(self, s, text):
                assert s.can_say and not s.can_speak
                s.say("You said ", last=False)
                s.say(text.text, language="en-GB")

        got = self.said(Polite, ["hello", "bye"], "say", "ready")
        ready, said = got[0], got[1:]
        self.assertEqual(ready["accept"]["in"], None)
        self.assertEqual(ready["accept"]["tracks"], [])
        self.assertEqual(ready["want"], ["text"])
        begins = {"type": "say", "text": "You said ", "last": False, "epoch": 0}
        ends = {"type": "say", "last": True, "language": "en-GB", "epoch": 0}
        self.assertEqual(
            said, [begins, {**ends, "text": "hello"}, begins, {**ends, "text": "bye"}]
        )

    def test_words_after_an_interruption_are_for_the_next_epoch(self):
        class Talker(ringback.Module):
            def on_text(self, s, text):
                s.say(text.text)

            def on_cleared(self, s, cleared):
                s.event("heard", [cleared.heard, cleared.played_ms])

        cleared = {"type": "cleared", "epoch": 0, "played_ms": 460, "discarded_ms": 0, "heard": "A"}
        first, event, second = self.said(Talker, ["A long story", cleared, "Yes?"], "say", "event")
        self.assertEqual(event["data"], ["A", 460])
        self.assertEqual((first["epoch"], second["epoch"]), (0, 1))

    def test_who_still_talks_when_the_caller_cuts_in_is_told(self):
        class Slow(ringback.Module):
            def on_text(self, s, text):
                s.say("This ", last=False)
                s._interrupted(s.epoch)
                s.event("heard", s.say("is not heard."))

        (said, event) = self.said(Slow, ["Tell me"], "say", "event")
        self.assertEqual((said["text"], event["data"]), ("This ", False))

    def test_a_file_is_for_the_provider_to_play_and_tells_how_far_words_have_come(self):
        class Thinker(ringback.Module):
            def on_text(self, s, text):
                assert s.can_play_url
                s.play_url("https://files.example/hold.mp3", loop=0, preemptible=True)
                s.say("There you are.")

            def on_spoken(self, s, spoken):
                s.event("spoken", [spoken.text, spoken.epoch])

        spoken = {"type": "spoken", "epoch": 0, "text": "There you"}
        got = self.said(Thinker, ["Where?", spoken], "ready", "play", "say", "event")
        ready, play, said, event = got
        self.assertEqual(ready["want"], ["text", "spoken"])
        wanted = {"url": "https://files.example/hold.mp3", "loop": 0, "preemptible": True}
        self.assertEqual(play, {"type": "play", "epoch": 0, **wanted})
        self.assertEqual(said["text"], "There you are.")
        self.assertEqual(event["data"], ["There you", 0])

    def test_languages_and_a_hand_over(self):
        class Swede(ringback.Module):
            def on_text(self, s, text):
                s.language(speech="sv-SE")
                s.hangup("a person is wanted", after="playback", data={"queue": "sv"})
                with_nothing = s.language
                try:
                    with_nothing()
                except ValueError as error:
                    s.event("error", str(error))

        language, hangup, event = self.said(Swede, ["Hej"], "language", "hangup", "event")
        self.assertEqual(language, {"type": "language", "speech": "sv-SE"})
        self.assertEqual((hangup["after"], hangup["data"]), ("playback", {"queue": "sv"}))
        self.assertIn("speech", event["data"])

    def test_one_class_serves_both_kinds_of_call(self):
        class Both(ringback.Module):
            rate = speaks = 8000

            def on_audio(self, s, pcm):
                s.play(pcm)

            def on_text(self, s, text):
                s.event("spoken", [s.play(bytes(2)), s.say(text.text)])

        got = self.said(Both, ["hi"], "ready", "say", "event", "audio.begin")
        self.assertEqual([m["type"] for m in got], ["ready", "say", "event"])
        self.assertEqual(got[0]["accept"]["out"], None)
        self.assertEqual(got[2]["data"], [False, True])

    def test_who_hears_only_sound_declines_and_says_why(self):
        class Ears(ringback.Module):
            def on_start(self, s):
                raise AssertionError("there is nothing to start")

            def on_audio(self, s, pcm):
                pass

        with self.assertRaisesRegex(ModuleFailed, "unsupported_format.*on_text"):
            self.said(Ears, ["hi"])


class OfSound(OverSound):
    def test_nobody_speaks_words_on_a_call_of_sound(self):
        class Lost(ringback.Module):
            def on_start(self, s):
                s.event("said", [s.can_say, s.say("hello")])

        (event,) = self.said(Lost, "event")
        self.assertEqual(event["data"], [False, False])


if __name__ == "__main__":
    unittest.main()
