//! Second opinions: code of the providers and of others reads what our ends of the wires write, and writes what they read. What
//! each has to be asked with is in `opinions.py`, which runs in an environment of its own; what they say is compared here.
//!
//! Where they see it otherwise than we do, `DISAGREEMENTS` says so and who is believed; each must still be there to stand there.
#![allow(clippy::unwrap_used, reason = "a test whose ground gives way has failed")]
#![allow(clippy::print_stdout, reason = "who was asked what is what one looks for in the output")]

mod call;
mod credentials;
mod python;
mod wording;

use ringback_codecs::{Encoding, Endian, MediaFormat, SampleRate};
use ringback_proto::provider::{PROVIDERS, Provider, Status, find};
use serde_json::Value;

use call::{Call, Client};
use python::{Opinions, list};
use wording::Wording;

/// A package that is asked about a provider.
struct Package {
    role: String,
    provider: &'static dyn Provider,
    name: String,
    version: String,
    /// Whether the provider itself makes it.
    vendors_own: bool,
    /// Kinds of events it can tell, and of orders it can carry out.
    hears: Vec<String>,
    says: Vec<String>,
    /// What its encoding is called, and the format.
    formats: Vec<(String, MediaFormat)>,
}

impl Package {
    fn new(told: &Value) -> Self {
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let provider = text("provider");
        let provider = find(&provider).unwrap_or_else(|| panic!("{provider} is not in the table"));
        let formats = told["formats"].as_array().unwrap().iter().map(|format| {
            let (name, hz) = (format[0].as_str().unwrap(), format[1].as_u64().unwrap());
            let encoding = match name {
                "PCMU" => Encoding::Pcmu,
                "PCMA" => Encoding::Pcma,
                "L16" => Encoding::L16(Endian::Little),
                other => panic!("no such encoding: {other}"),
            };
            let rate = SampleRate::new(u32::try_from(hz).unwrap()).unwrap();
            let format = MediaFormat::mono(encoding, rate);
            assert!(provider.formats().contains(&format), "{} has no {format}", provider.name());
            (name.to_owned(), format)
        });
        Self {
            role: text("role"),
            provider,
            name: text("package"),
            version: text("version"),
            vendors_own: told["vendors_own"].as_bool().unwrap(),
            hears: list(&told["hears"]),
            says: list(&told["says"]),
            formats: formats.collect(),
        }
    }

    fn asked(&self, do_it: &str, format: &(String, MediaFormat)) -> Value {
        serde_json::json!({
            "do": do_it,
            "role": self.role,
            "provider": self.provider.name(),
            "package": self.name,
            "encoding": format.0,
            "rate": format.1.rate.hz(),
        })
    }
}

fn packages(opinions: &mut Opinions) -> Vec<Package> {
    let told = opinions.ask(&serde_json::json!({ "do": "introduce" }));
    told["packages"].as_array().unwrap().iter().map(Package::new).collect()
}

/// As a bridge would be: each package answers a call, and says with our end's words what our end is told to say.
#[test]
fn packages_understand_our_callers_and_say_what_our_bridge_says() {
    let Some(mut opinions) = Opinions::ask_for() else { return };
    let packages = packages(&mut opinions);
    let mut wording = Wording::default();
    println!(
        "{:20}{:32}{:28}{:>11}{:>13}",
        "provider", "format", "package", "understood", "same words"
    );
    for package in packages.iter().filter(|package| package.role == "server") {
        for format in &package.formats {
            // Asterisk's wire has two spellings.
            let targets: &[_] = match package.provider.name() {
                "asterisk" => &["/asterisk", "/asterisk?control_message_format=json"],
                _ => &["/"],
            };
            for target in targets {
                let mut call = Call::connect(&mut opinions, &mut wording, package, format, target);
                call.listen();
                call.speak();
                let (understood, said) = call.end();
                let (name, format) = (package.provider.name(), format.1.to_string());
                let of = format!("{} {}", package.name, package.version);
                println!("{name:20}{format:32}{of:28}{understood:>11}{said:>13}");
            }
        }
    }
    wording.all_were_met();
    let asked = |provider: &&dyn Provider, vendors_own: bool| {
        let of_it = packages.iter().filter(|package| package.provider.name() == provider.name());
        of_it.filter(|package| package.vendors_own || !vendors_own).count() > 0
    };
    for provider in PROVIDERS.iter().filter(|provider| provider.status() == Status::VendorSdk) {
        assert!(asked(provider, true), "{} was verified against nobody's SDK", provider.name());
    }
    let unasked = PROVIDERS.iter().filter(|provider| !asked(provider, false));
    let unasked: Vec<_> = unasked.map(|provider| provider.name()).collect();
    println!("nobody to ask: {}", unasked.join(", "));
}

/// As a provider: what a vendor's own types write, our bridge understands.
#[test]
fn our_bridge_understands_what_vendors_types_write() {
    let Some(mut opinions) = Opinions::ask_for() else { return };
    for package in packages(&mut opinions).iter().filter(|package| package.role == "client") {
        for format in &package.formats {
            let messages = Client::new(&mut opinions, package, format).act();
            let (name, format) = (package.provider.name(), format.1.to_string());
            println!("{name:20}{format:32}{} {}: {messages}", package.name, package.version);
        }
    }
}
