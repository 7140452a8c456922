//! README's section on Kubernetes, word by word: each command as it stands there, in the order in which they stand there.

use crate::command::output;
use crate::environment::Environment;
use crate::timeline::Timeline;
use anyhow::{Context, ensure};
use std::fs;

/// The heading of the section.
const SECTION: &str = "## On Kubernetes\n";
/// The one command that is not run here: what it makes is what is tested.
const BUILD: &str = "cargo xtask image";

pub(super) fn run(environment: &Environment, timeline: &Timeline) -> anyhow::Result<()> {
    let readme = fs::read_to_string(environment.root.join("README.md"))?;
    let commands = commands(&readme)?;
    ensure!(commands.iter().any(|command| command.starts_with(BUILD)), "README does not say how to build the image");
    ensure!(environment.image() == "chronik:dev", "README is about chronik:dev, and not about {}", environment.image());
    output(&mut environment.helm(&["uninstall", "chronik", "--wait"]))?;
    let mut said = String::new();
    for command in commands.iter().filter(|command| !command.starts_with(BUILD)) {
        said = output(&mut environment.shell(command)).with_context(|| format!("in README: {command}"))? + &said;
        timeline.say(command);
    }
    ensure!(said.lines().any(|line| line == "hello"), "the record that was written was not read: {said}");
    let kubectl = environment.kubectl.within("default");
    kubectl.run(&["delete", "chronikcluster", "demo"])?;
    let claims = ["delete", "persistentvolumeclaims", "--selector=chronik.io/cluster=demo", "--wait=false"];
    kubectl.run(&claims).map(|_| ())
}

/// The commands of the section, without their comments.
fn commands(readme: &str) -> anyhow::Result<Vec<String>> {
    let section = readme.split_once(SECTION).context("README has no section on Kubernetes")?.1;
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>());
    let words = lines.map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned());
    Ok(words.filter(|command| !command.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_those_of_the_section_alone() {
        let readme = "```sh\nno\n```\n## On Kubernetes\n\n```sh\none    # the first\ntwo \\\n  --more\n```\ntext `three`\n\
                      ```sh\nfour | five\n```\n\n## Next\n```sh\nno\n```\n";
        assert_eq!(commands(readme).unwrap(), ["one", "two    --more", "four | five"]);
    }
}
