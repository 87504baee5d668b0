//! Settings by name: the environment, then local.settings.json (L19, L55).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::jsonc;
use crate::stop::{Result, Stop};
use crate::world::World;

/// Where settings are looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    environment: Vec<(String, String)>,
    file: File,
}

/// local.settings.json.
#[derive(Clone, Debug, Default)]
enum File {
    /// There is none.
    #[default]
    Absent,
    /// The file cannot be read, for this reason. Only commands that need a setting from it report that.
    Broken {
        path: PathBuf,
        reason: String,
    },
    Read(Content),
}

/// What local.settings.json holds; names compare without case.
#[derive(Clone, Debug, Default)]
struct Content {
    is_encrypted: bool,
    local_port: Option<u16>,
    values: BTreeMap<String, Single>,
    connections: BTreeMap<String, Connection>,
}

/// A setting: a text, or a number or a boolean as a text.
#[derive(Clone, Debug, Default)]
struct Single(Option<String>);

/// A connection string, alone or in an object that also names its provider.
#[derive(Clone, Debug)]
struct Connection(Option<String>);

impl Settings {
    /// Reads the file of a project, if there is one.
    pub(crate) fn read(world: &World, project: Option<&Path>) -> Self {
        let environment = world
            .vars()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let path = project
            .filter(|folder| super::counts(folder, "local.settings.json", &world.folder))
            .map(|folder| folder.join("local.settings.json"));
        let file = match path {
            None => File::Absent,
            Some(path) => match jsonc::read(&path) {
                Ok(content) => File::Read(content),
                Err(reason) => File::Broken { path, reason },
            },
        };
        Self { environment, file }
    }

    /// What is in the file, if there is one.
    fn content(&self) -> Result<Option<&Content>> {
        match &self.file {
            File::Absent => Ok(None),
            File::Read(content) => Ok(Some(content)),
            File::Broken { path, reason } => Err(Stop::configuration(format!(
                "Failed to read app settings file at '{}'. Ensure it is a valid JSON file. {reason}",
                path.display()
            ))),
        }
    }

    /// The value of a setting. The environment always wins; names in the file compare without case.
    pub(crate) fn value(&self, name: &str) -> Result<Option<String>> {
        match self.of_environment(|variable| variable == name) {
            Some(value) => Ok(Some(value)),
            None => self.of_file(name),
        }
    }

    /// What `%name%` stands for. It is looked up as the Functions host looks up everything: in the environment without
    /// regard to case as well, and with `__` there for each `:`.
    pub(crate) fn named(&self, name: &str) -> Result<Option<String>> {
        let flat = name.replace(':', "__");
        let exact = self.of_environment(|variable| variable == name || variable == flat);
        let found = exact.or_else(|| self.of_environment(|variable| variable.eq_ignore_ascii_case(&flat)));
        match found {
            Some(value) => Ok(Some(value)),
            None => self.of_file(name),
        }
    }

    fn of_environment(&self, is_meant: impl Fn(&str) -> bool) -> Option<String> {
        let mut filled = self.environment.iter().filter(|(_, value)| !value.is_empty());
        let found = filled.find(|(variable, _)| is_meant(variable));
        found.map(|(_, value)| value.clone())
    }

    fn of_file(&self, name: &str) -> Result<Option<String>> {
        let Some(content) = self.content()? else {
            return Ok(None);
        };
        if content.is_encrypted {
            return Err(Stop::configuration(
                "local.settings.json is encrypted and can only be read by Core Tools; run `func settings decrypt`",
            ));
        }
        let of_values = member(&content.values, name).and_then(|value| value.0.clone());
        let of_connections = || member(&content.connections, name).and_then(|value| value.0.clone());
        let found = of_values.or_else(of_connections);
        Ok(found.filter(|value| !value.is_empty()))
    }

    /// Whether a setting that has no value is there all the same, and empty.
    pub(crate) fn is_blank(&self, name: &str) -> bool {
        let flat = name.replace(':', "__");
        let content = self.content().ok().flatten();
        self.environment
            .iter()
            .any(|(variable, _)| variable.eq_ignore_ascii_case(&flat))
            || content.is_some_and(|content| {
                member(&content.values, name).is_some() || member(&content.connections, name).is_some()
            })
    }

    /// Port of a server for this project.
    pub(crate) fn local_port(&self) -> Result<Option<u16>> {
        Ok(self.content()?.and_then(|content| content.local_port))
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
        let content = self.content().ok().flatten();
        PARTS.iter().any(|part| {
            let name = format!("{name}__{part}");
            let is_set = self.environment.iter().any(|(key, _)| key.eq_ignore_ascii_case(&name));
            is_set || content.is_some_and(|content| member(&content.values, &name).is_some())
        })
    }

    /// The environment variables, for settings of the host that they override (L54).
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A member of a group, by its name without regard to case.
fn member<'v, T>(group: &'v BTreeMap<String, T>, name: &str) -> Option<&'v T> {
    group.get(name).or_else(|| {
        let found = group.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    })
}

fn text<E: serde::de::Error>(value: Value) -> std::result::Result<Option<String>, E> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(value) => Ok(Some(value.to_string())),
        // Not treated as absent, because the user wrote it for a reason.
        Value::Array(_) => Err(E::custom("a list stands where a text is expected")),
        Value::Object(_) => Err(E::custom("an object stands where a text is expected")),
    }
}

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(value: D) -> std::result::Result<Self, D::Error> {
        text(Value::deserialize(value)?).map(Self)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(value: D) -> std::result::Result<Self, D::Error> {
        match Value::deserialize(value)? {
            Value::Object(parts) => {
                let found = jsonc::member(&parts, "ConnectionString").cloned();
                text(found.unwrap_or_default()).map(Self)
            }
            other => text(other).map(Self),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(file: D) -> std::result::Result<Self, D::Error> {
        file.deserialize_map(Reader)
    }
}

/// Reads the parts of the file one by one, so that an error names its place.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut file: A) -> std::result::Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(name) = file.next_key::<String>()? {
            match name.to_ascii_lowercase().as_str() {
                "values" => content.values = file.next_value::<Option<_>>()?.unwrap_or_default(),
                "connectionstrings" => content.connections = file.next_value::<Option<_>>()?.unwrap_or_default(),
                "isencrypted" => {
                    let Single(said) = file.next_value()?;
                    let said = said.map(|said| said.to_ascii_lowercase().parse());
                    let wrong = |_| A::Error::custom("IsEncrypted is neither true nor false");
                    content.is_encrypted = said.transpose().map_err(wrong)?.unwrap_or_default();
                }
                "host" => {
                    let host: Map<String, Value> = file.next_value::<Option<_>>()?.unwrap_or_default();
                    let said = jsonc::member(&host, "LocalHttpPort").cloned();
                    let port = text::<A::Error>(said.unwrap_or_default())?.map(|said| said.parse());
                    let wrong = |_| A::Error::custom("LocalHttpPort is not a port number");
                    content.local_port = port.transpose().map_err(wrong)?;
                }
                _ => {
                    file.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(content)
    }
}
