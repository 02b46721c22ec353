#!/bin/sh
# Makes speech-8k.ulaw (raw G.711 mu-law, 8 kHz, mono) with flite (voice rms) and sox, and prints where its sentences lie.
# Each sentence is trimmed, limited to the telephone band and brought to -6 dBFS; pauses are digital silence.
set -eu
out=$(cd "$(dirname "$0")" && pwd)/speech-8k.ulaw
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"

pause=0.75
sox -n -r 8000 -b 16 -c 1 pause.wav trim 0 $pause
set -- pause.wav
samples=$(soxi -s pause.wav)
n=0
while read -r sentence; do
    n=$((n + 1))
    flite -voice rms -t "$sentence" -o whole.wav
    sox whole.wav -b 16 "$n.wav" silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse \
        rate 8000 sinc 300-3400 gain -n -6
    length=$(soxi -s "$n.wav")
    echo "($((samples / 8)), $(((samples + length) / 8))) ms: $sentence"
    samples=$((samples + length + $(soxi -s pause.wav)))
    set -- "$@" "$n.wav" pause.wav
done <<'END'
I need to cancel my appointment.
No, I do not want to pay that much money.
My number is five five, zero one nine.
Hello?
END
sox "$@" -t raw -e mu-law -r 8000 -c 1 "$out"
