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
    overrides: Vec<Override>,
    /// What `%NAME%` in a value stands for.
    settings: Settings,
}

/// A setting of the section that the environment says.
#[derive(Clone, Debug)]
struct Override {
    /// Its dotted name, in lower case.
    name: String,
    variable: String,
    value: String,
}

impl Host {
    /// Reads the file of a project.
    pub(crate) fn read(world: &World, project: Option<&Path>, settings: &Settings) -> Result<Self> {
        let overrides = settings.environment().filter_map(|(variable, value)| {
            let name = variable.replace(':', "__");
            let head = name
                .get(..OVERRIDE.len())
                .filter(|head| head.eq_ignore_ascii_case(OVERRIDE))?;
            let rest = name.get(head.len()..)?.to_ascii_lowercase();
            Some(Override {
                name: rest.replace("__", "."),
                variable: variable.to_owned(),
                value: value.to_owned(),
            })
        });
        let mut host = Self {
            section: Map::new(),
            overrides: overrides.filter(|one| !one.value.is_empty()).collect(),
            settings: settings.clone(),
        };
        if let Some(path) = project
            .filter(|folder| super::counts(folder, "host.json", &world.folder))
            .map(|folder| folder.join("host.json"))
        {
            let object: Map<String, Value> = jsonc::read(&path).map_err(|reason| unreadable(&reason))?;
            host.section = section(&object)?;
        }
        if member(&host.section, "storageProvider").is_some_and(|value| !value.is_object()) {
            return Err(unreadable(
                "The host.json file contains an invalid storageProvider schema in the durableTask section.",
            ));
        }
        Ok(host)
    }

    /// A setting by its dotted name; the environment overrides it, and each `%NAME%` in it stands for a setting (L54).
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let lower = name.to_ascii_lowercase();
        if let Some(one) = self.overrides.iter().find(|one| one.name == lower) {
            return self.resolve(&one.variable, &one.value).map(Some);
        }
        let place = format!("host.json: {name}");
        self.stored(name)?.map(|value| self.resolve(&place, &value)).transpose()
    }

    /// A setting that is filled.
    fn filled(&self, name: &str) -> Result<Option<String>> {
        Ok(self.text(name)?.filter(|value| !value.is_empty()))
    }

    /// A setting that is yes or no.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        let value = self.text(name)?;
        Ok(value.is_some_and(|value| value.eq_ignore_ascii_case("true")))
    }

    fn stored(&self, name: &str) -> Result<Option<String>> {
        let mut found = None;
        let mut object = Some(&self.section);
        for part in name.split('.') {
            found = object.and_then(|object| member(object, part));
            object = found.and_then(Value::as_object);
        }
        match found {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            // Not treated as absent, because the user wrote it for a reason.
            Some(Value::Array(_) | Value::Object(_)) => Err(unreadable(&format!("{name} must be a single value"))),
        }
    }

    /// Replaces each `%NAME%` by the setting of that name, like the Functions host: replacements are not expanded
    /// again, and a literal percent sign cannot be written.
    fn resolve(&self, place: &str, value: &str) -> Result<String> {
        let wrong = |what: String| {
            let message = format!("{place} is '{value}', and {what}");
            Stop::error(crate::stop::exit::FAILED, "configuration", message)
        };
        let mut parts = value.split('%');
        let mut resolved = parts.next().unwrap_or_default().to_owned();
        while let Some(name) = parts.next() {
            let Some(behind) = parts.next() else {
                let at = value.rfind('%').unwrap_or_default();
                let at = value.get(..at).map_or(0, |before| before.chars().count()) + 1;
                return Err(wrong(format!("nothing closes the `%` at character {at}")));
            };
            if name.is_empty() {
                return Err(wrong("`%%` does not name a setting".to_owned()));
            }
            let Some(found) = self.settings.named(name)? else {
                let is_blank = self.settings.is_blank(name);
                return Err(wrong(if is_blank {
                    format!("the setting '{name}' is empty")
                } else {
                    format!("there is no setting '{name}'")
                }));
            };
            resolved += &found;
            resolved += behind;
        }
        Ok(resolved)
    }

    fn provider(&self) -> Result<Option<String>> {
        Ok(self.text("storageProvider.type")?.map(|kind| kind.to_ascii_lowercase()))
    }

    /// Refuses stores that Core Tools report as unknown (L22).
    pub(crate) fn refuse_other_providers(&self) -> Result<()> {
        let shown = match self.provider()?.as_deref() {
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
    pub(crate) fn is_hosted_scheduler(&self) -> Result<bool> {
        Ok(self.provider()?.as_deref() == Some("azuremanaged"))
    }

    /// Whether the store is Azure Storage and nothing else (L20).
    pub(crate) fn wants_azure(&self) -> Result<bool> {
        Ok(self.provider()?.as_deref() == Some("azurestorage"))
    }

    /// Name of the setting with the connection; the nested form wins (L18, L40).
    pub(crate) fn setting_name(&self) -> Result<Option<String>> {
        const NAMES: [&str; 3] = [
            "storageProvider.connectionName",
            "storageProvider.connectionStringName",
            "azureStorageConnectionStringName",
        ];
        for name in NAMES {
            if let Some(setting) = self.filled(name)? {
                return Ok(Some(setting));
            }
        }
        Ok(None)
    }

    /// Folder of the embedded store, as the file has it.
    pub(crate) fn data_path(&self) -> Result<Option<String>> {
        self.filled("storageProvider.dataPath")
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
    let nested = match member(object, "extensions") {
        None | Some(Value::Null) => None,
        Some(Value::Object(extensions)) => member(extensions, "durableTask"),
        Some(_) => return Err(unreadable("extensions must be an object")),
    };
    let flat = member(object, "durableTask");
    let is_second = member(object, "version").and_then(Value::as_str) == Some("2.0");
    let found = if is_second { nested.or(flat) } else { flat.or(nested) };
    match found {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(section)) => Ok(section.clone()),
        Some(_) => Err(unreadable("durableTask must be an object")),
    }
}

/// The two warning lines and the last word of L25, on a line each.
fn unreadable(reason: &str) -> Stop {
    Stop::configuration(format!("{UNREADABLE}\n{reason}\n{FAILED}"))
}
