"""A menu that callers move about in with the keys of their phone. What it says stands in ringback.toml; flite speaks it."""

import functools
import subprocess
import tempfile
import wave

import ringback


@functools.lru_cache(maxsize=64)
def spoken(text):
    """The text as speech: 16 kHz, 16-bit. Any other synthesizer fits here, or recordings."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", "slt", "-t", text, "-o", file.name]
        subprocess.run(command, check=True, timeout=10, stdin=subprocess.DEVNULL)
        with wave.open(file.name) as speech:
            return speech.readframes(speech.getnframes())


class Menu(ringback.Module):
    name, speaks = "menu", 16000

    def on_start(self, s):
        for entry in ("greeting", "keys", "unknown"):
            if entry not in (s.config or {}):
                raise ringback.Reject("bad_config", f"`config` needs `{entry}`, see ringback.toml")
        s.play(spoken(s.config["greeting"]))

    def on_dtmf(self, s, key):
        s.clear()  # Who presses a key has heard enough
        if key.digit == "#":
            s.play(spoken("Goodbye."))
            s.hangup("the caller pressed #", after="playback")
            return
        answer = s.config["keys"].get(key.digit, s.config["unknown"])
        s.event("menu.chosen", {"key": key.digit, "known": key.digit in s.config["keys"]})
        s.play(spoken(answer))

    def on_cleared(self, s, cleared):
        if cleared.played_ms:
            s.log("info", "interrupted", heard_ms=cleared.played_ms, unheard_ms=cleared.discarded_ms)


ringback.run(Menu)
