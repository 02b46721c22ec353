"""The contract as octets."""

import unittest

from ringback._wire import (
    AUDIO,
    JSON,
    MAX_BODY,
    FrameReader,
    WireError,
    dump,
    frame,
    load,
    pack_audio,
    unpack_audio,
)

from . import support  # noqa: F401


class Frames(unittest.TestCase):
    def test_octets_of_a_frame(self):
        self.assertEqual(frame(JSON, 0x0102, b"{}"), b"\x02\0\0\0\x00\x00\x02\x01{}")
        self.assertEqual(frame(AUDIO, 1, b"ab"), b"\x02\0\0\0\x01\x00\x01\x00ab")

    def test_any_cut_of_the_stream_gives_the_same_frames(self):
        frames = [(JSON, 0, b'{"type":"ping"}'), (AUDIO, 1, bytes(640)), (AUDIO, 65535, b"")]
        stream = b"".join(frame(*one) for one in frames)
        for size in (1, 3, 8, 9, 100, len(stream)):
            reader, got = FrameReader(), []
            for at in range(0, len(stream), size):
                got += reader.feed(stream[at : at + size])
            self.assertEqual(got, frames)
            self.assertEqual(reader.pending, 0)

    def test_the_largest_body_passes_and_one_octet_more_does_not(self):
        body = bytes(MAX_BODY)
        self.assertEqual(list(FrameReader().feed(frame(AUDIO, 1, body))), [(AUDIO, 1, body)])
        with self.assertRaises(ValueError):
            frame(AUDIO, 1, body + b"x")
        too_long = (MAX_BODY + 1).to_bytes(4, "little") + b"\x01\x00\x01\x00"
        with self.assertRaises(WireError):
            list(FrameReader().feed(too_long))

    def test_garbage_is_refused_with_its_place(self):
        for header in (b"GET / HT", b"\x02\0\0\0\x02\x00\x01\x00", b"\x02\0\0\0\x01\x01\x01\x00"):
            reader = FrameReader()
            good = frame(JSON, 0, b"{}")
            with self.assertRaisesRegex(WireError, f"octet {len(good)}:"):
                list(reader.feed(good + header))


class Messages(unittest.TestCase):
    def test_text_outside_ascii_survives(self):
        message = {"type": "transcript", "text": "Grüße 你好"}
        self.assertEqual(load(dump(message)), message)

    def test_what_is_no_message_is_refused(self):
        for body in (b"", b"{", b"[]", b'{"typ":1}', b'{"type":1}', b"\xff\xfe", b"null"):
            with self.assertRaises(WireError):
                load(body)

    def test_what_json_cannot_say_is_refused(self):
        with self.assertRaises(ValueError):
            dump({"type": "metric", "value": float("nan")})
        with self.assertRaises(TypeError):
            dump({"type": "event", "data": object()})


class AudioHeader(unittest.TestCase):
    def test_octets(self):
        body = pack_audio(2, 3, 0x0102030405, b"xy", flags=4)
        self.assertEqual(body, b"\x01\x04\x02\x00\x03\0\0\0\x05\x04\x03\x02\x01\0\0\0xy")
        self.assertEqual(unpack_audio(body), (4, 2, 3, 0x0102030405, b"xy"))

    def test_bare_samples_are_refused(self):
        for body in (b"", bytes(15), bytes(640)):
            with self.assertRaises(WireError):
                unpack_audio(body)


if __name__ == "__main__":
    unittest.main()
