#!/bin/sh
# Makes every sound file of this folder from text, octet for octet the same each time: flite speaks, sox puts it on a phone line.
# Does not touch MANIFEST.toml; `python3 check.py` compares the two.
#
#   ./make.sh [folder]      where to write; default: the folder of this script
#
# Needs flite (voices rms and slt) and sox. -D turns dither off, which is noise from a random generator; -R makes sox repeatable.
set -eu
out=${1:-$(dirname "$0")}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# say VOICE NAME TEXT: speech as flite makes it, 16 kHz.
say() { flite -voice "$1" -t "$3" -o "$work/$2.wav"; }

# phone NAME [EFFECT...]: 8 kHz, through mu-law and back: what is left of a voice after a phone call, in 16-bit samples.
phone() {
    name=$1
    shift
    sox -D -R "$work/$name.wav" -r 8000 -e mu-law -b 8 "$work/$name.ulaw.wav" gain -3 "$@"
    sox -D -R "$work/$name.ulaw.wav" -e signed-integer -b 16 "$out/$name.wav"
}

say rms 1 "hello i would like to make an appointment for next tuesday morning"
say rms 2 "my telephone number is five five five two three four seven"
say rms 3 "please call me back this afternoon"
for n in 1 2; do sox -D -R "$work/$n.wav" "$work/$n.pad.wav" pad 0 1.1; done
sox -D -R "$work/1.pad.wav" "$work/2.pad.wav" "$work/3.wav" "$work/call-appointment.wav"
phone call-appointment pad 0.5 1

say rms sentence "what time do you open on saturday"
phone sentence pad 0.3 0.6
cp "$work/sentence.ulaw.wav" "$out/sentence-ulaw.wav"

say rms digits "one two three four five six seven eight nine zero"
phone digits pad 0.3 0.6

say slt reply-welcome "Thank you for calling. Your appointment is on Tuesday at nine."
sox -D -R "$work/reply-welcome.wav" -b 16 "$out/reply-welcome.wav" gain -3

sox -D -R -n -r 8000 -b 16 -c 1 "$out/tone-1k.wav" synth 1 sine 1000 gain -10
