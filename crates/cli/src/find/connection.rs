//! What the value of a connection setting stands for (L20). Values are never shown (L81).

use std::path::{Path, PathBuf};

use super::host_json;
use super::running::Running;
use crate::stop::{Result, Stop, exit};
use crate::world::{World, plain};

/// Where a hub is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An embedded store; a server may hold it.
    Embedded { folder: PathBuf },
    /// A running server.
    Server {
        /// Its address, without a slash at the end.
        url: String,
        /// The hub that the connection names.
        hub: Option<String>,
        /// Its local administrator's token, if it left one.
        token: Option<String>,
    },
}

impl Place {
    /// The folder of the store, for what needs one.
    pub(crate) fn folder(&self) -> Result<&Path> {
        match self {
            Self::Embedded { folder } => Ok(folder),
            Self::Server { url, .. } => {
                let message = format!("the settings name the server at {url}, and this command needs a store");
                Err(Stop::error(exit::FAILED, "configuration", message).hint("name one with `--store DIR`"))
            }
        }
    }

    /// An embedded store.
    pub(crate) fn embedded(folder: PathBuf) -> Self {
        Self::Embedded { folder }
    }

    /// A server by its URL.
    pub(crate) fn server(url: &str) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(str::is_empty) {
            return Err(Stop::usage("`--server` takes a URL such as http://localhost:7071"));
        }
        Ok(Self::Server {
            url: url.to_owned(),
            hub: None,
            token: None,
        })
    }

    /// A server that left word of itself.
    pub(crate) fn of_running(running: &Running) -> Self {
        Self::Server {
            url: running.url(),
            hub: Some(running.hub.clone()),
            token: running.token.clone(),
        }
    }

    /// The hub that the connection names.
    pub(crate) fn hub(&self) -> Option<&str> {
        match self {
            Self::Embedded { .. } => None,
            Self::Server { hub, .. } => hub.as_deref(),
        }
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Embedded { folder } => format!("in the store {}", folder.display()),
            Self::Server { url, .. } => format!("at the server {url}"),
        }
    }
}

/// Whether a connection asks for the development store (A12).
pub(crate) fn is_development(value: &str) -> bool {
    member(value, "UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What `--store` names: a folder, or a connection written out.
pub(crate) fn of_store_option(value: &str, world: &World) -> Result<Place> {
    let read = Reading {
        name: "--store",
        project: &world.folder,
        own_folder: world.folder.join(super::STORE_FOLDER),
        wants_azure: false,
    };
    match read.known(value)? {
        Some(place) => Ok(place),
        None => Ok(Place::embedded(world.path(value))),
    }
}

/// How the value of a setting is read.
pub(crate) struct Reading<'a> {
    /// Name of the setting.
    pub(crate) name: &'a str,
    /// Where paths begin.
    pub(crate) project: &'a Path,
    /// Folder of the project's own store.
    pub(crate) own_folder: PathBuf,
    /// Whether host.json insists on Azure Storage.
    pub(crate) wants_azure: bool,
}

impl Reading<'_> {
    /// The store a value stands for.
    pub(crate) fn place(&self, value: &str) -> Result<Place> {
        if let Some(place) = self.known(value)? {
            return Ok(place);
        }
        let is_path = !value.contains([';', '=']) && (value.contains(['/', '\\']) || value.starts_with('.'));
        if is_path {
            return Ok(Place::embedded(plain(&self.project.join(value))));
        }
        let message = format!("setting '{}' holds a connection this program does not know", self.name);
        Err(Stop::error(exit::FAILED, "configuration", message))
    }

    /// What has a form of its own.
    fn known(&self, value: &str) -> Result<Option<Place>> {
        let value = value.trim();
        let lower = value.to_ascii_lowercase();
        let begins = |heads: &[&str]| heads.iter().any(|head| lower.starts_with(head));
        if begins(&["file:"]) {
            let path = value.get(5..).unwrap_or_default();
            // `file:///DIR` has an empty host.
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Some(Place::embedded(plain(&self.project.join(path)))));
        }
        if begins(&["memory:"]) {
            let message = format!(
                "{} names a store in memory, which would be lost when the command ends",
                self.name
            );
            return Err(Stop::error(exit::FAILED, "configuration", message));
        }
        if begins(&["postgres://", "postgresql://"])
            || (member(value, "Host").is_some() && member(value, "Database").is_some())
        {
            return Err(Stop::error(
                exit::FAILED,
                "configuration",
                "PostgreSQL is not supported by this build",
            ));
        }
        if begins(&["http://", "https://"]) {
            return Place::server(value).map(Some);
        }
        if let Some(endpoint) = member(value, "Endpoint").filter(|url| url.to_ascii_lowercase().starts_with("http")) {
            let Place::Server { url, .. } = Place::server(endpoint)? else {
                unreachable!("a URL is a server")
            };
            return Ok(Some(Place::Server {
                url,
                hub: member(value, "TaskHub").map(str::to_owned),
                token: None,
            }));
        }
        if is_development(value) && !self.wants_azure {
            return Ok(Some(Place::embedded(self.own_folder.clone())));
        }
        let names = [
            "DefaultEndpointsProtocol",
            "AccountName",
            "BlobEndpoint",
            "UseDevelopmentStorage",
        ];
        if names.iter().any(|name| member(value, name).is_some()) {
            return Err(Stop::error(
                exit::FAILED,
                "configuration",
                "Azure Storage is not supported by this build",
            ));
        }
        if ["Server", "Data Source"]
            .iter()
            .any(|name| member(value, name).is_some())
        {
            return Err(host_json::other_provider("MSSQL"));
        }
        Ok(None)
    }
}

/// A member of a connection of the form `Name=value;Name=value`, by its name without regard to case.
fn member<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    value.split(';').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> std::result::Result<Place, String> {
        let reading = Reading {
            name: "S",
            project: Path::new("/app"),
            own_folder: PathBuf::from("/app/.taskhub"),
            wants_azure: false,
        };
        reading.place(value).map_err(|stop| stop.message)
    }

    #[test]
    fn each_form_of_a_connection_has_its_store() {
        let folder = |path: &str| Ok(Place::embedded(PathBuf::from(path)));
        assert_eq!(of("file:data"), folder("/app/data"));
        assert_eq!(of("file:///var/hub"), folder("/var/hub"));
        assert_eq!(of("./data"), folder("/app/data"));
        assert_eq!(of("/var/hub"), folder("/var/hub"));
        assert_eq!(of("UseDevelopmentStorage=true"), folder("/app/.taskhub"));
        assert_eq!(of("usedevelopmentstorage=True;"), folder("/app/.taskhub"));
        let server = |hub: Option<&str>| {
            Ok(Place::Server {
                url: "http://localhost:7071".to_owned(),
                hub: hub.map(str::to_owned),
                token: None,
            })
        };
        assert_eq!(of("http://localhost:7071/"), server(None));
        assert_eq!(of("Endpoint=http://localhost:7071;Authentication=None"), server(None));
        assert_eq!(
            of("Endpoint=http://localhost:7071;Authentication=None;TaskHub=Mine"),
            server(Some("Mine"))
        );
    }

    #[test]
    fn what_this_program_has_no_store_for_is_said_without_the_value() {
        for (value, said) in [
            ("postgres://u:secret@h/db", "PostgreSQL is not supported by this build"),
            (
                "Host=h;Database=d;Password=secret",
                "PostgreSQL is not supported by this build",
            ),
            (
                "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=secret",
                "Azure Storage is not supported by this build",
            ),
            (
                "BlobEndpoint=https://secret",
                "Azure Storage is not supported by this build",
            ),
            (
                "memory:",
                "S names a store in memory, which would be lost when the command ends",
            ),
            ("secret", "setting 'S' holds a connection this program does not know"),
            (
                "Key=secret",
                "setting 'S' holds a connection this program does not know",
            ),
        ] {
            assert_eq!(of(value), Err(said.to_owned()), "{value}");
        }
        assert!(
            of("Server=secret;Database=d")
                .unwrap_err()
                .starts_with("The MSSQL storage provider")
        );
        assert!(
            of("Data Source=secret")
                .unwrap_err()
                .starts_with("The MSSQL storage provider")
        );
    }
}
