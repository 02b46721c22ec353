//! What fuzzing begins with, made of what is in the repository: transcripts of wires, examples, sounds. Keeps no copy of them.

use std::path::{Path, PathBuf};

use ringback_proto::provider::Provider;
use ringback_proto::transcript::Transcript;

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files below a folder of the repository with this ending, in order.
#[must_use]
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten();
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    found.sort();
    found
}

/// The texts of a provider's transcripts.
#[must_use]
pub fn transcript_texts(provider: &dyn Provider) -> Vec<String> {
    let files = files(&format!("bridge/proto/transcripts/{}", provider.name()), "jsonl");
    files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// A provider's transcripts.
#[must_use]
pub fn transcripts(provider: &dyn Provider) -> Vec<Transcript> {
    let texts = transcript_texts(provider);
    texts.iter().filter_map(|text| Transcript::parse(text).ok()).collect()
}
