//! What a route may say about this module. Checks it; applies nothing.

use ringback_module::message::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where to listen for keys. Everything may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whose keys: `caller`, `agent` or both. Default `["caller"]`.
    pub tracks: Vec<Role>,
}

impl Default for Config {
    fn default() -> Self {
        Self { tracks: vec![Role::Caller] }
    }
}

impl Config {
    /// Reads a module's `config`, where `null` is all defaults.
    ///
    /// # Errors
    /// Says which key is unknown or has a value that cannot be used.
    pub fn read(value: &Value) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let config = Self::deserialize(value).map_err(|error| format!("dtmf config: {error}"))?;
        if config.tracks.is_empty() {
            return Err("dtmf config: tracks is empty; name caller, agent or both".into());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tracks_are_read_and_mistakes_are_named() {
        assert_eq!(Config::read(&Value::Null), Ok(Config::default()));
        assert_eq!(Config::read(&json!({})), Ok(Config::default()));
        let both = json!({"tracks": ["caller", "agent"]});
        let roles = Config::read(&both).unwrap().tracks;
        assert_eq!(roles, [Role::Caller, Role::Agent]);
        for (config, complaint) in [
            (json!({"track": ["caller"]}), "unknown field `track`"),
            (json!({"tracks": []}), "tracks is empty"),
            (json!({"tracks": ["nobody"]}), "nobody"),
        ] {
            let error = Config::read(&config).unwrap_err();
            assert!(error.starts_with("dtmf config: ") && error.contains(complaint), "{error}");
        }
    }
}
