//! Where things live if nobody says: the order of places, in one file. Pure: the environment is an argument.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where `sluice run` and `sluice check` look for a configuration, first match first.
pub const CONFIG: [&str; 2] = ["config/sluice.toml", "/etc/sluice/sluice.toml"];

/// Looks up one environment variable.
pub type Variable = Box<dyn Fn(&str) -> Option<OsString>>;

/// What the places depend on.
pub struct Environment {
    /// An environment variable.
    pub variable: Variable,
    /// Whether the process runs as root.
    pub root: bool,
    /// Whether a file exists.
    pub exists: Box<dyn Fn(&Path) -> bool>,
}

impl Environment {
    /// The process's own.
    pub fn real() -> Self {
        Self {
            variable: Box::new(|name| std::env::var_os(name)),
            root: rustix::process::geteuid().is_root(),
            exists: Box::new(|path| path.try_exists().unwrap_or(false)),
        }
    }

    /// A folder from a variable. systemd lists several folders with `:`; the first is ours.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        let value = (self.variable)(name)?;
        let first = match value.to_str() {
            Some(text) => PathBuf::from(text.split(':').next()?),
            None => PathBuf::from(value),
        };
        // A relative path in these variables is to be ignored (XDG Base Directory Specification).
        first.is_absolute().then_some(first)
    }
}

/// The configuration file: the one named, else the first of [`CONFIG`] that exists.
pub fn config(named: Option<PathBuf>, environment: &Environment) -> Result<PathBuf, String> {
    named.or_else(|| CONFIG.iter().map(PathBuf::from).find(|path| (environment.exists)(path))).ok_or_else(|| {
        format!(
            "there is no configuration: neither {} nor {} exists; name one with --config (or SLUICE_CONFIG)",
            CONFIG[0], CONFIG[1]
        )
    })
}

/// The admin socket that `sluice run` opens: the one named, else `admin.socket`, else the first place there is.
pub fn socket(
    named: Option<PathBuf>,
    configured: Option<PathBuf>,
    environment: &Environment,
) -> Result<PathBuf, String> {
    named
        .or(configured)
        .or_else(|| socket_places(environment).into_iter().next())
        .ok_or_else(|| {
            "there is no place for the admin socket: neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set; name one with --socket (or SLUICE_SOCKET, or `admin.socket` in the configuration)".into()
        })
}

/// The admin socket that a verb asks: as for `sluice run`, but among the places the first that exists, because the proxy may run as
/// another user. `configured` is read only if it is needed.
pub fn socket_to_ask(
    named: Option<PathBuf>,
    configured: impl FnOnce() -> Option<PathBuf>,
    environment: &Environment,
) -> PathBuf {
    named.or_else(configured).unwrap_or_else(|| {
        let mut places = socket_places(environment);
        let everybody = PathBuf::from("/run/sluice/sluice.sock");
        if !places.contains(&everybody) {
            places.push(everybody);
        }
        let found = places.iter().position(|path| (environment.exists)(path));
        places.swap_remove(found.unwrap_or(0))
    })
}

fn socket_places(environment: &Environment) -> Vec<PathBuf> {
    let runtime = environment.folder("RUNTIME_DIRECTORY");
    let mine =
        if environment.root { Some(PathBuf::from("/run/sluice")) } else { environment.folder("XDG_RUNTIME_DIR") };
    runtime.into_iter().chain(mine).map(|folder| folder.join("sluice.sock")).collect()
}

/// The folder for journal and history: the one named, else `state_dir`, else the first place there is.
pub fn state_dir(
    named: Option<PathBuf>,
    configured: Option<PathBuf>,
    environment: &Environment,
) -> Result<PathBuf, String> {
    named
        .or(configured)
        .or_else(|| environment.folder("STATE_DIRECTORY"))
        .or_else(|| environment.root.then(|| PathBuf::from("/var/lib/sluice")))
        .or_else(|| Some(environment.folder("XDG_STATE_HOME")?.join("sluice")))
        .or_else(|| Some(environment.folder("HOME")?.join(".local/state/sluice")))
        .ok_or_else(|| {
            "there is no place for state: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; name one with --state-dir (or SLUICE_STATE_DIR, or `state_dir` in the configuration)".into()
        })
}

/// `admin.socket` in a configuration text. A verb needs no more of it, and must work beside a file that is half edited; so
/// anything wrong is as good as nothing written.
pub fn configured_socket(text: &str) -> Option<PathBuf> {
    let document = toml_edit::Document::parse(text).ok()?;
    let socket = document.get("admin")?.get("socket")?.as_str()?;
    Some(PathBuf::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(root: bool, variables: &[(&str, &str)], files: &[&str]) -> Environment {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let files = own(files);
        Environment {
            variable: Box::new(move |wanted| {
                let mut all = variables.iter();
                all.find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            }),
            root,
            exists: Box::new(move |path| files.iter().any(|file| path == Path::new(file))),
        }
    }

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    #[test]
    fn the_socket_is_found_in_the_documented_order() {
        let user = &[("XDG_RUNTIME_DIR", "/run/user/7")];
        let unit = &[("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let get = |named: Option<&str>, configured: Option<&str>, root, variables| {
            let environment = environment(root, variables, &[]);
            socket(named.map(path), configured.map(path), &environment)
        };
        assert_eq!(get(Some("f"), Some("c"), true, unit), Ok(path("f")));
        assert_eq!(get(None, Some("c"), true, unit), Ok(path("c")));
        assert_eq!(get(None, None, true, unit), Ok(path("/run/a/sluice.sock")));
        assert_eq!(get(None, None, true, user), Ok(path("/run/sluice/sluice.sock")));
        assert_eq!(get(None, None, false, user), Ok(path("/run/user/7/sluice.sock")));
        let none = get(None, None, false, &[("XDG_RUNTIME_DIR", "relative")]).unwrap_err();
        assert!(none.contains("--socket"), "{none}");
    }

    #[test]
    fn a_verb_asks_the_place_that_exists() {
        let user = &[("XDG_RUNTIME_DIR", "/run/user/7")];
        let ask = |files: &[&str]| socket_to_ask(None, || None, &environment(false, user, files));
        let (mine, everybody) = ("/run/user/7/sluice.sock", "/run/sluice/sluice.sock");
        assert_eq!(ask(&[]), path(mine));
        assert_eq!(ask(&[everybody]), path(everybody));
        assert_eq!(ask(&[mine, everybody]), path(mine));
        let configured = socket_to_ask(None, || Some(path("/c")), &environment(false, user, &[mine]));
        assert_eq!(configured, path("/c"));
    }

    #[test]
    fn state_is_found_in_the_documented_order() {
        let get = |named: Option<&str>, configured: Option<&str>, root, variables| {
            let environment = environment(root, variables, &[]);
            state_dir(named.map(path), configured.map(path), &environment)
        };
        let all = &[("STATE_DIRECTORY", "/s"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(get(Some("f"), Some("c"), true, all), Ok(path("f")));
        assert_eq!(get(None, Some("c"), true, all), Ok(path("c")));
        assert_eq!(get(None, None, true, all), Ok(path("/s")));
        assert_eq!(get(None, None, true, &all[1..]), Ok(path("/var/lib/sluice")));
        assert_eq!(get(None, None, false, &all[1..]), Ok(path("/x/sluice")));
        assert_eq!(get(None, None, false, &all[2..]), Ok(path("/h/.local/state/sluice")));
        assert!(get(None, None, false, &[]).is_err());
    }

    #[test]
    fn the_configuration_is_the_first_that_exists() {
        let get = |files: &[&str]| config(None, &environment(false, &[], files));
        assert_eq!(get(&CONFIG), Ok(path(CONFIG[0])));
        assert_eq!(get(&CONFIG[1..]), Ok(path(CONFIG[1])));
        assert!(get(&[]).unwrap_err().contains("--config"));
        let named = config(Some(path("x")), &environment(false, &[], &CONFIG));
        assert_eq!(named, Ok(path("x")));
    }

    #[test]
    fn a_broken_file_configures_no_socket() {
        assert_eq!(configured_socket("[admin]\nsocket = '/a'\n"), Some(path("/a")));
        assert_eq!(configured_socket("[admin]\nsocket = 3\n"), None);
        assert_eq!(configured_socket("[admin\n"), None);
        assert_eq!(configured_socket(""), None);
    }
}
