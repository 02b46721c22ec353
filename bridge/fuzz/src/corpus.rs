//! The corpus: what was found to be worth keeping, a text file for each target with one input a line, in base64. Chooses nothing.
//!
//! One file, because a folder of thousands of tiny ones is hard on everybody but a fuzzer; [`unpack`] makes one of those.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Target, seeds};

/// Where a target's corpus is.
#[must_use]
pub fn path(target: &Target) -> PathBuf {
    seeds::root().join("bridge/fuzz/corpus").join(format!("{}.txt", target.name))
}

/// The inputs that are kept for a target; none if there is no file.
///
/// # Errors
/// If the file cannot be read, or a line of it is not base64.
pub fn read(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let text = match std::fs::read_to_string(path(target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let inputs = text.lines().map(|line| {
        let decoded = base64_simd::STANDARD.decode_to_vec(line);
        decoded.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not base64"))
    });
    inputs.collect()
}

/// Keeps these inputs for a target, each once, the shortest first.
///
/// # Errors
/// If the file cannot be written.
pub fn write(target: &Target, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let lines = inputs.iter().map(|input| base64_simd::STANDARD.encode_to_string(input) + "\n");
    std::fs::write(path(target), lines.collect::<String>())
}

/// Seeds and corpus of a target as the folder of files that libFuzzer wants.
///
/// # Errors
/// If a file cannot be read or written.
pub fn unpack(target: &Target, folder: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    let inputs = [target.seeds(), read(target)?].concat();
    for (index, input) in inputs.iter().enumerate() {
        std::fs::write(folder.join(format!("{index:05}")), input)?;
    }
    Ok(inputs.len())
}

/// Adds the files of a folder to what is kept for a target, but for its seeds and what is longer than `longest`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn pack(target: &Target, folder: &Path, longest: usize) -> io::Result<usize> {
    let mut inputs = read(target)?;
    let before = inputs.len();
    let seeds = target.seeds();
    for entry in std::fs::read_dir(folder)? {
        let input = std::fs::read(entry?.path())?;
        if input.len() <= longest && !seeds.contains(&input) && !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let added = inputs.len() - before;
    write(target, inputs)?;
    Ok(added)
}
