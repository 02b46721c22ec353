//! Secrets: named in the file by where they are kept, and read once. Hides none itself; their type does.

use ringback_proto::provider::Secret;

/// Reads the secret that `reference` names. The error says what is wrong and never what was found: somebody who wrote the
/// secret itself there must not find it in the log.
pub(crate) fn resolve(
    reference: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, String> {
    let value = if let Some(name) = reference.strip_prefix("env:") {
        variable(name).ok_or_else(|| format!("environment variable {name} is not set"))?
    } else if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?
    } else {
        return Err("a secret is not written here: use \"env:NAME\" or \"file:/path\"".into());
    };
    let value = value.trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(format!("{reference} is empty"));
    }
    Ok(Secret::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_by_reference_and_never_printed() {
        let variable = |name: &str| match name {
            "TOKEN" => Some("s3cret".to_owned()),
            "EMPTY" => Some("\n".to_owned()),
            _ => None,
        };
        let secret = resolve("env:TOKEN", &variable).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(resolve("env:EMPTY", &variable).unwrap_err(), "env:EMPTY is empty");
        assert!(resolve("env:OTHER", &variable).unwrap_err().contains("OTHER is not set"));
        assert!(resolve("file:/does/not/exist", &variable).unwrap_err().contains("cannot read"));
        let literal = resolve("s3cret", &variable).unwrap_err();
        assert!(!literal.contains("s3cret") && literal.contains("env:"), "{literal}");
    }

    #[test]
    fn a_file_may_end_in_a_newline() {
        let path = std::env::temp_dir().join(format!("ringback-secret-{}", std::process::id()));
        std::fs::write(&path, "line\r\n").unwrap();
        let secret = resolve(&format!("file:{}", path.display()), &|_| None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.unwrap().expose(), "line");
    }
}
