//! `palisade completion` and `palisade man`: both made from the command line's own definition.

use std::{fs, io::Write as _, path::Path, process::ExitCode};

use anyhow::Context as _;

use super::{Outcome, new_file::NewFile};
use crate::{
    arguments::{CompletionArguments, ManArguments, Shell},
    configuration::{command_line, file::Values},
};

const NAME: &str = "palisade";

/// Prints a completion script.
///
/// # Errors
/// Standard output cannot be written.
pub fn completion(arguments: &CompletionArguments) -> Outcome {
    super::print(&script(arguments.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line::command(&Values::new()), NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Prints the first manual page, or writes all of them.
///
/// # Errors
/// A page cannot be written.
pub fn man(arguments: &ManArguments) -> Outcome {
    let pages = pages()?;
    match &arguments.directory {
        Some(directory) => write(directory, &pages)?,
        None => drop(super::print(&pages[0].1)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, pages: &[(String, String)]) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("{}: name a directory that can be made with --directory", directory.display()))?;
    for (name, page) in pages {
        let path = directory.join(format!("{name}.1"));
        // The page of another version is replaced, and nothing is written through a link.
        let mut file = NewFile::create_public(&path, true)?;
        let written = file.write_all(page.as_bytes());
        if let Err(error) = written {
            file.discard();
            return Err(error).with_context(|| path.display().to_string());
        }
        file.finish().with_context(|| path.display().to_string())?;
    }
    super::print(&format!("{} pages in {1}: read one by `man {1}/palisade.1`\n", pages.len(), directory.display()))?;
    Ok(())
}

/// Name and text of each page, the whole command's first.
fn pages() -> anyhow::Result<Vec<(String, String)>> {
    let mut command = command_line::command(&Values::new());
    command.build();
    let mut pages = Vec::new();
    page(&command, NAME, &mut pages)?;
    Ok(pages)
}

fn page(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let called = name.to_owned();
    let page = command.clone().name(called.clone()).display_name(called);
    clap_mangen::Man::new(page).render(&mut text).context("manual page")?;
    pages.push((name.to_owned(), String::from_utf8_lossy(&text).into_owned()));
    let below = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    below.into_iter().try_for_each(|sub| self::page(sub, &format!("{name}-{}", sub.get_name()), pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_completion_knows_every_command_and_the_flags_of_the_node() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["doctor", "top", "validate", "policy-dir", "severity"] {
                assert!(script.contains(word), "{shell:?} does not know {word}");
            }
        }
    }

    #[test]
    fn unit_man_has_a_page_for_each_command_with_its_flags() {
        let pages = pages().expect("made");
        let page = |name: &str| &pages.iter().find(|(page, _)| page == name).unwrap_or_else(|| panic!("{name}")).1;
        assert!(page("palisade").contains(".TH palisade 1") && page("palisade").contains("doctor"));
        assert!(page("palisade-node").contains("policy\\-dir"));
        assert!(page("palisade-policy-validate").contains("\\-\\-output"));
    }

    #[test]
    fn unit_man_replaces_pages_and_writes_through_no_link() {
        let root = tempfile::tempdir().expect("a directory");
        let (directory, victim) = (root.path().join("man1"), root.path().join("victim"));
        let pages = [("a".to_owned(), "new".to_owned())];
        write(&directory, &pages).expect("written");
        let page = directory.join("a.1");
        fs::write(&page, "of another version").expect("written");
        write(&directory, &pages).expect("replaced");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&page).expect("there").permissions());
        assert_eq!((fs::read_to_string(&page).expect("there").as_str(), mode & 0o444), ("new", 0o444));
        fs::write(&victim, "good").expect("written");
        fs::remove_file(&page).expect("there");
        std::os::unix::fs::symlink(&victim, &page).expect("linked");
        let error = write(&directory, &pages).expect_err("a link").to_string();
        assert!(error.contains("a.1 is a link"), "{error}");
        assert_eq!(fs::read_to_string(&victim).expect("there"), "good");
        assert_eq!(fs::read_dir(&directory).expect("there").count(), 1, "nothing is left over");
    }
}
