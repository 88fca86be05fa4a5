//! `sluice schema`, `completions`, `man`: what a machine needs to know of Sluice before any proxy runs.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use super::failure::{Failure, PROXY};
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

/// Writes the schema.
pub fn schema(args: &SchemaArgs, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let schema = schema::schema();
    let text = if args.json { serde_json::to_string(&schema) } else { serde_json::to_string_pretty(&schema) };
    screen.line(&text.map_err(|error| Failure::new(PROXY, "internal", error.to_string()))?);
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
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| Failure::new(PROXY, "internal", error.to_string()))?;
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
