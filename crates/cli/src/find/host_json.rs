//! host.json: where the section of Durable Functions is, and what it says (L22, L25, L40, L54).

use std::path::Path;

use serde_json::{Map, Value};

use super::jsonc::{self, member};
use super::settings::Settings;
use crate::stop::{Result, Stop};
use crate::world::World;

/// Said behind every message about settings that cannot be used.
const FAILED: &str = "The command failed due to a configuration issue. See previous error messages for details.";
/// Said when host.json cannot be read.
const UNREADABLE: &str = "Exception thrown while attempting to parse task hub configuration from 'host.json':";
/// Environment variables with this beginning override settings of the section (L54).
const OVERRIDE: &str = "AzureFunctionsJobHost__extensions__durableTask__";

/// The section of Durable Functions in host.json. A missing file is an empty section.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    section: Map<String, Value>,
    /// Overrides: dotted names in lower case.
    overrides: Vec<(String, String)>,
    /// Values of the form `%NAME%`, looked up.
    settings: Settings,
}

impl Host {
    /// Reads the file of a project.
    pub(crate) fn read(_world: &World, project: Option<&Path>, settings: &Settings) -> Result<Self> {
        let overrides = settings.environment().filter_map(|(name, value)| {
            let name = name.replace(':', "__");
            let head = name
                .get(..OVERRIDE.len())
                .filter(|head| head.eq_ignore_ascii_case(OVERRIDE))?;
            let rest = name.get(head.len()..)?.to_ascii_lowercase();
            Some((rest.replace("__", "."), value.to_owned()))
        });
        let mut host = Self {
            section: Map::new(),
            overrides: overrides.filter(|(_, value)| !value.is_empty()).collect(),
            settings: settings.clone(),
        };
        if let Some(path) = project
            .map(|folder| folder.join("host.json"))
            .filter(|path| path.is_file())
        {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error.to_string()))?;
            let value = jsonc::parse(&text).map_err(|error| unreadable(&error.to_string()))?;
            let Value::Object(object) = value else {
                return Err(unreadable("it is no object"));
            };
            host.section = section(&object)?;
        }
        if member(&host.section, "storageProvider").is_some_and(|value| !value.is_object()) {
            return Err(unreadable(
                "The host.json file contains an invalid storageProvider schema in the durableTask section.",
            ));
        }
        Ok(host)
    }

    /// A setting by its dotted name; the environment overrides it, `%NAME%` stands for a setting (L54).
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let lower = name.to_ascii_lowercase();
        let overridden = self.overrides.iter().find(|(key, _)| *key == lower);
        let value = match overridden {
            Some((_, value)) => Some(value.clone()),
            None => self.stored(name),
        };
        value.map(|value| self.resolve(name, value)).transpose()
    }

    /// A setting that is yes or no.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.text(name).ok().flatten();
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn stored(&self, name: &str) -> Option<String> {
        let mut parts = name.split('.');
        let mut value = member(&self.section, parts.next()?)?;
        for part in parts {
            value = member(value.as_object()?, part)?;
        }
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn resolve(&self, name: &str, value: String) -> Result<String> {
        let Some(setting) = value
            .strip_prefix('%')
            .and_then(|rest| rest.strip_suffix('%'))
            .filter(|name| !name.is_empty())
        else {
            return Ok(value);
        };
        self.settings.value(setting)?.ok_or_else(|| {
            let message = format!("host.json: {name} is '%{setting}%', and there is no setting '{setting}'");
            Stop::error(crate::stop::exit::FAILED, "configuration", message)
        })
    }

    fn provider(&self) -> Option<String> {
        let kind = self.text("storageProvider.type").ok().flatten()?;
        Some(kind.to_ascii_lowercase())
    }

    /// Refuses stores of which Core Tools says that it does not know them (L22).
    pub(crate) fn refuse_other_providers(&self) -> Result<()> {
        let shown = match self.provider().as_deref() {
            None | Some("" | "embedded" | "azurestorage" | "azuremanaged") => return Ok(()),
            Some("postgres") => {
                return Err(Stop::configuration("PostgreSQL is not supported by this build"));
            }
            Some("mssql") => "MSSQL".to_owned(),
            Some("netherite") => "Netherite".to_owned(),
            Some(_) => self.text("storageProvider.type")?.unwrap_or_default(),
        };
        Err(other_provider(&shown))
    }

    /// Whether the store is a hosted scheduler (L22).
    pub(crate) fn is_hosted_scheduler(&self) -> bool {
        self.provider().as_deref() == Some("azuremanaged")
    }

    /// Whether the store is Azure Storage and nothing else (L20).
    pub(crate) fn wants_azure(&self) -> bool {
        self.provider().as_deref() == Some("azurestorage")
    }

    /// Name of the setting with the connection; the nested form wins (L18, L40).
    pub(crate) fn setting_name(&self) -> Option<String> {
        const NAMES: [&str; 3] = [
            "storageProvider.connectionName",
            "storageProvider.connectionStringName",
            "azureStorageConnectionStringName",
        ];
        let found = NAMES.iter().find_map(|name| self.text(name).ok().flatten());
        found.filter(|name| !name.is_empty())
    }

    /// Folder of the embedded store, as the file has it.
    pub(crate) fn data_path(&self) -> Option<String> {
        self.text("storageProvider.dataPath")
            .ok()
            .flatten()
            .filter(|path| !path.is_empty())
    }
}

/// Says that a storage provider is one that Core Tools does not know either (L22).
pub(crate) fn other_provider(shown: &str) -> Stop {
    Stop::configuration(format!(
        "The {shown} storage provider for Durable Functions is not yet supported by this command. However, it may be \
         supported by an SDK API or an HTTP API. To learn about alternate ways issue commands for Durable Functions, see \
         https://aka.ms/durable-functions-instance-management."
    ))
}

/// Where the section is: in a file of version 2.0 under `extensions`, else at the top; if it is not there,
/// then at the other place (L25).
fn section(object: &Map<String, Value>) -> Result<Map<String, Value>> {
    let nested = member(object, "extensions")
        .and_then(Value::as_object)
        .and_then(|extensions| member(extensions, "durableTask"));
    let flat = member(object, "durableTask");
    let is_second = member(object, "version").and_then(Value::as_str) == Some("2.0");
    let found = if is_second { nested.or(flat) } else { flat.or(nested) };
    match found {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(section)) => Ok(section.clone()),
        Some(_) => Err(unreadable("durableTask is no object")),
    }
}

/// The two warning lines and the last word of L25, on a line each.
fn unreadable(reason: &str) -> Stop {
    Stop::configuration(format!("{UNREADABLE}\n{reason}\n{FAILED}"))
}
