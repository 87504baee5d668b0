//! Settings by name: the environment, then local.settings.json (L19, L55).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::jsonc::{self, member};
use crate::screen::Screen;
use crate::stop::{Result, Stop};
use crate::world::World;

/// Where settings are looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    environment: Vec<(String, String)>,
    file: Option<PathBuf>,
    is_encrypted: bool,
    local_port: Option<u16>,
    values: Map<String, Value>,
    connections: Map<String, Value>,
}

impl Settings {
    /// Reads the file of a project, if there is one. One that cannot be read is as if absent, with a warning.
    pub(crate) fn read(world: &World, project: Option<&Path>, screen: &mut Screen) -> Self {
        let environment = world
            .vars()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut settings = Self {
            environment,
            ..Self::default()
        };
        let Some(path) = project
            .map(|folder| folder.join("local.settings.json"))
            .filter(|path| path.is_file())
        else {
            return settings;
        };
        let parsed = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| jsonc::parse(&text).map_err(|error| error.to_string()));
        let object = parsed.and_then(|value| match value {
            Value::Object(object) => Ok(object),
            _ => Err("it is no object".to_owned()),
        });
        match object {
            Ok(object) => {
                let part = |name| {
                    member(&object, name)
                        .and_then(Value::as_object)
                        .cloned()
                        .unwrap_or_default()
                };
                settings.values = part("Values");
                settings.connections = part("ConnectionStrings");
                settings.is_encrypted = member(&object, "IsEncrypted").and_then(Value::as_bool).unwrap_or(false);
                let number = part("Host").get("LocalHttpPort").and_then(Value::as_u64);
                settings.local_port = number.and_then(|number| u16::try_from(number).ok());
                settings.file = Some(path);
            }
            Err(reason) => screen.warn(&format!(
                "Failed to read app settings file at '{}'. Ensure it is a valid JSON file. {reason}",
                path.display()
            )),
        }
        settings
    }

    /// The value of a setting. The environment always wins; names in the file compare without case.
    pub(crate) fn value(&self, name: &str) -> Result<Option<String>> {
        let from_environment = self
            .environment
            .iter()
            .find(|(key, value)| key == name && !value.is_empty());
        if let Some((_, value)) = from_environment {
            return Ok(Some(value.clone()));
        }
        if self.file.is_none() {
            return Ok(None);
        }
        if self.is_encrypted {
            return Err(Stop::configuration(
                "local.settings.json is encrypted and can only be read by Core Tools; run `func settings decrypt`",
            ));
        }
        let of_values = member(&self.values, name).and_then(text);
        let of_connections = member(&self.connections, name).and_then(|value| match value {
            Value::Object(parts) => member(parts, "ConnectionString").and_then(text),
            other => text(other),
        });
        Ok(of_values.or(of_connections).filter(|value| !value.is_empty()))
    }

    /// Port of a server for this project.
    pub(crate) fn local_port(&self) -> Option<u16> {
        self.local_port
    }

    /// Whether there are settings of an identity-based connection of this name (L21).
    pub(crate) fn has_identity(&self, name: &str) -> bool {
        const PARTS: [&str; 5] = [
            "accountName",
            "blobServiceUri",
            "queueServiceUri",
            "tableServiceUri",
            "credential",
        ];
        PARTS.iter().any(|part| {
            let name = format!("{name}__{part}");
            let is_set = self.environment.iter().any(|(key, _)| key.eq_ignore_ascii_case(&name));
            is_set || member(&self.values, &name).is_some()
        })
    }

    /// The environment variables, for settings of the host that they override (L54).
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
