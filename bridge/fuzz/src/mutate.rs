//! Turns inputs over, by chance that a seed decides: bits, octets, numbers, pieces of other inputs, words. Knows no coverage.

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `below`, or 0 below nothing.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }
}

/// Octets an input may have.
pub const LONGEST: usize = 16 * 1024;

/// One input of so many is as long as what it was made of.
const WHOLE: usize = 16;

/// Things that parsers stumble over, whatever they parse.
const WORDS: [&[u8]; 24] = [
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b"1e400",
    b"-0.0",
    b"NaN",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b"\r\n",
    b"\"",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xae",
    b"*",
    b"%00",
    b"=",
];
/// Numbers at the edges of their widths.
const EDGES: [u32; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, u32::MAX];

/// An input made of one of `inputs`, or of its beginning, turned over a few times.
#[must_use]
pub fn mutated(inputs: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let pick = |dice: &mut Dice| inputs.get(dice.roll(inputs.len())).cloned().unwrap_or_default();
    let mut input = pick(dice);
    // Most are the beginning of one, of any order of length: what is short is quick, and what breaks something is seldom long.
    if dice.roll(WHOLE) > 0 {
        let doublings = usize::BITS - input.len().leading_zeros();
        let most = 1 << (1 + dice.roll(doublings as usize));
        input.truncate(1 + dice.roll(most));
    }
    let times = 1 << dice.roll(5);
    for _ in 0..times {
        let other = if dice.roll(8) == 0 { pick(dice) } else { Vec::new() };
        turn(&mut input, &other, dice);
    }
    input.truncate(LONGEST);
    input
}

fn turn(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.roll(input.len() + 1);
    let length = dice.roll((input.len() - at).min(64) + 1);
    if !other.is_empty() {
        let from = dice.roll(other.len());
        let to = from + dice.roll((other.len() - from).min(512) + 1);
        let gone = if dice.roll(2) == 0 { at..at } else { at..at + length };
        input.splice(gone, other[from..to].iter().copied());
        return;
    }
    match dice.roll(9) {
        0 if at < input.len() => input[at] ^= 1 << dice.roll(8),
        1 if at < input.len() => input[at] = dice.roll(256) as u8,
        2 if at < input.len() => {
            let by = dice.roll(35) as u8;
            input[at] =
                if by > 17 { input[at].wrapping_add(by - 17) } else { input[at].wrapping_sub(by) };
        }
        3 => {
            input.drain(at..at + length);
        }
        4 => {
            let piece = input[at..at + length].to_vec();
            let to = dice.roll(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 => {
            let word = WORDS[dice.roll(WORDS.len())];
            let gone =
                if dice.roll(2) == 0 { at..at } else { at..(at + word.len()).min(input.len()) };
            input.splice(gone, word.iter().copied());
        }
        6 => {
            let number = EDGES[dice.roll(EDGES.len())].to_le_bytes();
            let width = 1 << dice.roll(3);
            let mut number = number[..width].to_vec();
            if dice.roll(2) == 0 {
                number.reverse();
            }
            input.splice(at..(at + width).min(input.len()), number);
        }
        7 => input.truncate(at),
        _ => {
            let piece: Vec<u8> = (0..dice.roll(9)).map(|_| dice.roll(256) as u8).collect();
            input.splice(at..at, piece);
        }
    }
}
