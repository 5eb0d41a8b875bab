//! `palisade tree`.

use std::process::ExitCode;

use anyhow::Context as _;
use palisade_supervision::TreeNode;

use super::Outcome;
use crate::{
    admin_client,
    arguments::{AdminArguments, Output},
    render,
};

/// Prints the live tree.
///
/// # Errors
/// No node answers, or standard output cannot be written.
pub fn run(arguments: &AdminArguments) -> Outcome {
    let value = super::runtime()?.block_on(admin_client::document(&arguments.admin_socket, "/v1/tree"))?;
    let text = match arguments.output {
        Output::Json => format!("{value:#}\n"),
        Output::Text => {
            let tree: TreeNode =
                serde_json::from_value(value).context("this node's tree is of another version; try --output json")?;
            render::tree(&tree)
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
