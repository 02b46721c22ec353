#!/bin/sh
# PocketSphinx as a program: 16 kHz samples in, sentences and their words' times out. Any other recogniser fits in its place.
set -eu
model=/usr/share/pocketsphinx/model/en-us/en-us
# Cepstral means of speech on a phone line. Those of the model fit a headset, and the engine takes others from the model's folder only.
means=40.46,23.82,-27.45,44.46,-19.98,3.31,13.19,-27.06,18.57,-11.45,3.07,11.60,-10.34
phone=$(mktemp -d)
trap 'rm -r "$phone"' EXIT
cp -s "$model"/* "$phone"
rm "$phone/feat.params"
sed "s/^-cmninit .*/-cmninit $means/" "$model/feat.params" >"$phone/feat.params"
# `cat`, because the engine opens /dev/stdin, and what Node.js gives a child is a socket, which cannot be opened.
cat | pocketsphinx_continuous -infile /dev/stdin -samprate 16000 -time yes -logfn /dev/null -hmm "$phone"
