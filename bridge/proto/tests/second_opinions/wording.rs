//! Whether two messages say the same, and where we and others are known to say it otherwise. Sends nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::call::Said;

/// Something that a package writes otherwise than our bridge.
struct Disagreement {
    provider: &'static str,
    package: &'static str,
    /// The member of the message that we leave out, or fill otherwise.
    member: &'static str,
    /// Whether the provider's end that we act out heeds what they write.
    heeded: bool,
    why: &'static str,
}

const DISAGREEMENTS: &[Disagreement] = &[
    Disagreement {
        provider: "genesys-connector",
        package: "pipecat-ai",
        member: "position",
        heeded: true,
        why: "in AudioHook only Genesys tells a position; a server's is not read",
    },
    Disagreement {
        provider: "genesys-connector",
        package: "pipecat-ai",
        member: "parameters.outputVariables",
        heeded: true,
        why: "asks Genesys' flow to transfer the call, which is the flow's own affair unless a module says otherwise",
    },
    Disagreement {
        provider: "genesys-audiohook",
        package: "pipecat-ai",
        member: "position",
        heeded: true,
        why: "as of the Connector",
    },
    Disagreement {
        provider: "genesys-audiohook",
        package: "pipecat-ai",
        member: "parameters.outputVariables",
        heeded: true,
        why: "there is no flow behind a Monitor to have them",
    },
    Disagreement {
        provider: "jambonz",
        package: "jambonz-python-sdk",
        member: "name",
        heeded: false,
        why: "jambonz' documentation and its feature server have the name of a mark within `data`, and this SDK calls itself experimental",
    },
];

#[derive(Default)]
pub(crate) struct Wording {
    met: BTreeSet<usize>,
}

impl Wording {
    /// Whether the provider's end must heed a message that differs in these members; a difference that is not known of is a failure.
    pub(crate) fn heeds(
        &mut self,
        provider: &str,
        package: &str,
        members: &[String],
    ) -> Result<bool, String> {
        let mut heeded = true;
        for member in members {
            let is = |known: &Disagreement| {
                (known.provider, known.package, known.member) == (provider, package, member)
            };
            let index = DISAGREEMENTS.iter().position(is).ok_or_else(|| member.clone())?;
            self.met.insert(index);
            heeded &= DISAGREEMENTS[index].heeded;
        }
        Ok(heeded)
    }

    /// A disagreement that is none any more is not to be told of.
    pub(crate) fn all_were_met(&self) {
        for (index, Disagreement { provider, package, member, why, .. }) in
            DISAGREEMENTS.iter().enumerate()
        {
            assert!(self.met.contains(&index), "{provider}: {package} says {member} as we do");
            println!("{provider}: {package} has {member:?} otherwise: {why}");
        }
    }
}

/// The members of their message that ours has not or has otherwise; the whole is called "". Ours may say more.
pub(crate) fn differences(ours: Option<&Said>, theirs: Option<&Said>) -> Vec<String> {
    let mut found = Vec::new();
    match (ours, theirs) {
        _ if ours == theirs => {}
        (Some(Said::Text(ours)), Some(Said::Text(theirs))) => {
            let json =
                |text| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
            compare(&json(ours), &json(theirs), "", &mut found);
        }
        _ => found.push(String::new()),
    }
    found
}

fn compare(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, theirs) in theirs {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(ours.get(name).unwrap_or(&Value::Null), theirs, &path, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push(path.to_owned()),
    }
}
