//! `sluice schema`, `completions`, `man`, `token`: what a machine needs to know of Sluice before any proxy runs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::failure::Failure;
use super::schema;
use super::screen::Screen;

/// Of `sluice schema`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For an editor that knows Even Better TOML, taplo or the like: put `#:schema sluice.schema.json` on the first line of the configuration.\n\nExample: sluice schema"
)]
pub struct SchemaArgs {
    /// Write it on one line
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Of `sluice completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash: sluice completions bash > ~/.local/share/bash-completion/completions/sluice\nzsh: sluice completions zsh > a file `_sluice` in a folder of $fpath\nfish: sluice completions fish > ~/.config/fish/completions/sluice.fish\n\nExample: sluice completions bash"
)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(env = "SLUICE_COMPLETIONS_SHELL")]
    pub shell: Shell,
}

/// Of `sluice man`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a folder: the page of `sluice` itself, to standard output. With one: a page for each verb too.\n\nExample: sluice man /usr/local/share/man/man1"
)]
pub struct ManArgs {
    /// Folder for the pages; it must be there
    #[arg(env = "SLUICE_MAN_DIR")]
    pub dir: Option<PathBuf>,
}

/// Of `sluice token`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token is shown once and kept nowhere. Requests to `admin.http` show it: `Authorization: Bearer sluice_…`. The configuration holds its hash, which is no secret.\n\nExample: sluice token ci --role operator"
)]
pub struct TokenArgs {
    /// How the audit log shall call whoever has it
    #[arg(env = "SLUICE_TOKEN_NAME")]
    pub name: String,
    /// What they may do
    #[arg(long, env = "SLUICE_TOKEN_ROLE", value_enum, default_value = "read")]
    pub role: TokenRole,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenRole {
    /// Look.
    Read,
    /// Look, and whatever a verb can do.
    Operator,
}

/// Makes a token.
pub fn token(args: &TokenArgs, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if args.name.is_empty() || !args.name.chars().all(plain) {
        return Err(Failure::usage("a name has letters, digits, `-`, `_` and `.`"));
    }
    let (token, hash) = crate::admin::new_token().map_err(Failure::internal)?;
    let role = match args.role {
        TokenRole::Read => "read",
        TokenRole::Operator => "operator",
    };
    if args.json {
        let made = serde_json::json!({"schema": 1, "name": args.name, "role": role, "token": token, "hash": hash});
        screen.line(&made.to_string());
        return Ok(0);
    }
    screen.line(&token);
    screen.complain(&format!(
        "Keep it; it is not shown again. For the configuration, then restart the proxy:\n\n[[admin.token]]\nname = \"{}\"\nhash = \"{hash}\"\nrole = \"{role}\"",
        args.name
    ));
    Ok(0)
}

/// Writes the schema.
pub fn schema(args: &SchemaArgs, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let schema = schema::schema();
    let text = if args.json { serde_json::to_string(&schema) } else { serde_json::to_string_pretty(&schema) };
    screen.line(&text.map_err(Failure::internal)?);
    Ok(0)
}

/// Writes the completions.
pub fn completions(args: &CompletionsArgs, screen: &mut Screen<'_>) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sluice", &mut text);
    screen.line(String::from_utf8_lossy(&text).trim_end());
    0
}

/// Writes the pages.
pub fn man(args: &ManArgs, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let mut command = Cli::command();
    command.build();
    let page = |command: clap::Command| -> Result<Vec<u8>, Failure> {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(Failure::internal)?;
        Ok(page)
    };
    let Some(folder) = &args.dir else {
        screen.line(String::from_utf8_lossy(&page(command)?).trim_end());
        return Ok(0);
    };
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").cloned();
    let pages: Vec<_> = verbs
        .map(|verb| {
            let name = format!("sluice-{}", verb.get_name());
            (format!("{name}.1"), verb.display_name(name))
        })
        .chain([("sluice.1".to_owned(), command.clone())])
        .collect();
    let count = pages.len();
    for (name, command) in pages {
        write(&folder.join(name), &page(command)?)?;
    }
    screen.line(&format!("{count} pages in {}", folder.display()));
    Ok(0)
}

fn write(path: &Path, page: &[u8]) -> Result<(), Failure> {
    fs::write(path, page).map_err(|error| {
        Failure::usage(format!("{}: {error}; name a folder that is there and that you may write to", path.display()))
    })
}
