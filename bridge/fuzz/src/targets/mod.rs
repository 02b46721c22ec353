//! The table of targets: one for each thing that reads what strangers send. Each is a function of octets that returns, or panics.

mod bridge_end;
mod modules;
mod phone_end;
mod requests;
#[cfg(feature = "server")]
mod server;
mod sound;
mod texts;

use ringback_codecs::Encoding;
use ringback_proto::provider::{PROVIDERS, Provider};

#[cfg(feature = "server")]
use ringback::socket::wire::Role;

/// Something that must hold for all octets.
pub struct Target {
    /// Name in commands, and of its corpus: what it is, and of which provider.
    pub name: String,
    what: What,
}

type Run = fn(&[u8]);
type Seeds = fn() -> Vec<Vec<u8>>;
type OfProvider = fn(&'static dyn Provider, &[u8]);
type SeedsOfProvider = fn(&'static dyn Provider) -> Vec<Vec<u8>>;

enum What {
    Plain(Run, Seeds),
    Provider(&'static dyn Provider, OfProvider, SeedsOfProvider),
    Codec(Encoding),
    #[cfg(feature = "server")]
    Frames(Role),
}

impl Target {
    /// Runs it once.
    ///
    /// # Panics
    /// If what it promises does not hold: that is what it is for.
    pub fn run(&self, octets: &[u8]) {
        match &self.what {
            What::Plain(run, _) => run(octets),
            What::Provider(provider, run, _) => run(*provider, octets),
            What::Codec(encoding) => sound::codec(*encoding, octets),
            #[cfg(feature = "server")]
            What::Frames(role) => server::frames(*role, octets),
        }
    }

    /// What fuzzing it begins with, made of what is in the repository.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        match &self.what {
            What::Plain(_, seeds) => seeds(),
            What::Provider(provider, _, seeds) => seeds(*provider),
            What::Codec(encoding) => sound::codec_seeds(*encoding),
            #[cfg(feature = "server")]
            What::Frames(role) => server::frame_seeds(*role),
        }
    }
}

/// All targets, in the order of their names' first words.
#[must_use]
pub fn all() -> Vec<Target> {
    let mut all = Vec::new();
    let mut of_providers =
        |kind: &str, run: OfProvider, seeds: SeedsOfProvider, has: fn(&dyn Provider) -> bool| {
            for provider in PROVIDERS.iter().copied().filter(|provider| has(*provider)) {
                let name = format!("{kind}-{}", provider.name());
                all.push(Target { name, what: What::Provider(provider, run, seeds) });
            }
        };
    of_providers("bridge", bridge_end::run, bridge_end::seeds, |_| true);
    of_providers("phone", phone_end::run, phone_end::seeds, |_| true);
    of_providers("redaction", texts::redaction, texts::redaction_seeds, |_| true);
    of_providers("webhook", requests::webhook, requests::webhook_seeds, requests::asks);
    let codecs = sound::ENCODINGS.into_iter();
    all.extend(
        codecs.map(|(name, encoding)| Target { name: name.into(), what: What::Codec(encoding) }),
    );
    let plain: [(&str, Run, Seeds); 9] = [
        ("wav", sound::wav_file, sound::wav_seeds),
        ("resampler", sound::resampler, sound::resampler_seeds),
        ("ring", sound::ring, sound::ring_seeds),
        ("module-stdio", modules::stdio, modules::stdio_seeds),
        ("module-messages", modules::session, modules::session_seeds),
        ("credentials", requests::credentials, requests::credential_seeds),
        ("keys", requests::keys, requests::key_seeds),
        ("capture", texts::capture, texts::capture_seeds),
        ("rules", texts::rules, texts::rule_seeds),
    ];
    let plain = plain.into_iter();
    #[cfg(feature = "server")]
    let plain = plain.chain([
        ("answer", server::answer as Run, server::answer_seeds as Seeds),
        ("config", server::configuration, server::configuration_seeds),
    ]);
    all.extend(
        plain.map(|(name, run, seeds)| Target { name: name.into(), what: What::Plain(run, seeds) }),
    );
    #[cfg(feature = "server")]
    for (name, role) in
        [("server", Role::Server), ("client", Role::Client), ("records", Role::Records)]
    {
        all.push(Target { name: format!("frames-{name}"), what: What::Frames(role) });
    }
    all
}

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    all().into_iter().find(|target| target.name == name)
}
