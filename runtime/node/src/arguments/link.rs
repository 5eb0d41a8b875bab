//! What links to other nodes are told, and the commands around them.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use palisade_domain::NodeName;
use palisade_link::CredentialFiles;

use super::{Output, ask::AdminArguments};

/// Where certificates are unless told otherwise.
const DIRECTORY: &str = "/etc/palisade/link";

/// Links of a node; there are none unless it listens or dials.
#[derive(Debug, Clone, Args)]
pub struct LinkArguments {
    /// Take up links of other nodes at this address (UDP).
    #[arg(long, env = "PALISADE_LINK_LISTEN", value_parser = address, value_name = "ADDRESS:PORT")]
    pub link_listen: Option<SocketAddr>,
    /// Link to this node: NAME=ADDRESS:PORT, the name being its certificate's; may be given more than once.
    /// A node that has links takes other peers over while it runs.
    #[arg(long = "link-peer", value_parser = peer, value_name = "NAME=ADDRESS:PORT")]
    pub link_peers: Vec<(String, String)>,
    /// This node's certificate (PEM), those between it and the authority behind it; looked at each second.
    #[arg(long, env = "PALISADE_LINK_CERTIFICATE", value_name = "FILE", default_value = "/etc/palisade/link/node.pem")]
    pub link_certificate: PathBuf,
    /// Its key (PEM).
    #[arg(long, env = "PALISADE_LINK_KEY", value_name = "FILE", default_value = "/etc/palisade/link/node.key")]
    pub link_key: PathBuf,
    /// Certificates of the authorities that are believed (PEM), more than one while they change.
    #[arg(long, env = "PALISADE_LINK_CA", value_name = "FILE", default_value = "/etc/palisade/link/ca.pem")]
    pub link_ca: PathBuf,
    /// Revocation lists (PEM): whose certificate is on one is refused, also while it is linked.
    #[arg(long, env = "PALISADE_LINK_REVOKED", value_name = "FILE")]
    pub link_revoked: Option<PathBuf>,
}

impl LinkArguments {
    /// Where certificates are.
    #[must_use]
    pub fn files(&self) -> CredentialFiles {
        CredentialFiles {
            certificate: self.link_certificate.clone(),
            key: self.link_key.clone(),
            authorities: self.link_ca.clone(),
            revoked: self.link_revoked.clone(),
        }
    }

    /// Whom to dial.
    ///
    /// # Errors
    /// One that the command line's own parser would not have taken.
    pub fn peers(&self) -> anyhow::Result<Vec<(NodeName, SocketAddr)>> {
        self.link_peers.iter().map(|(name, address)| Ok((name.parse()?, address.parse()?))).collect()
    }
}

/// Whose tree or alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodesArgument {
    /// Of the node that is asked.
    Own,
    /// Of all nodes that it is linked to, too: as each last said, where one is out.
    All,
}

/// `palisade nodes`.
#[derive(Debug, Args)]
pub struct NodesArguments {
    /// Where the node is.
    #[command(flatten)]
    pub admin: AdminArguments,
}

/// `palisade certificate`.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Make an authority of your own: ca.pem, ca.key and an empty revocation list, revoked.pem.
    Authority {
        /// Where it is written; what is there is never overwritten.
        #[arg(long, default_value = DIRECTORY)]
        directory: PathBuf,
        /// What it is called in certificates; eight random digits are added.
        #[arg(long, default_value = "Palisade links")]
        name: String,
        /// Days for which it holds.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a certificate and key for a node: NAME.pem and NAME.key.
    Issue {
        /// The node's name, by which others link to it.
        name: NodeName,
        /// Where the authority is.
        #[arg(long, default_value = DIRECTORY)]
        directory: PathBuf,
        /// Where they are written, if not beside the authority.
        #[arg(long, value_name = "DIRECTORY")]
        into: Option<PathBuf>,
        /// Days for which it holds.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(0..=3650))]
        days: u32,
        /// In place of those that are there: a node that runs with them takes the new ones without dropping a link.
        #[arg(long)]
        replace: bool,
    },
    /// Take a certificate back: put it on the revocation list, which is then to be given to every node.
    Revoke {
        /// The certificate.
        certificate: PathBuf,
        /// Where the authority is.
        #[arg(long, default_value = DIRECTORY)]
        directory: PathBuf,
    },
    /// Make the revocation list anew with what is on it, for a date further on.
    RenewList {
        /// Where the authority is.
        #[arg(long, default_value = DIRECTORY)]
        directory: PathBuf,
    },
    /// Print what certificates and revocation lists say.
    Show {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port, such as 10.0.0.1:7117 or [fd00::1]:7117".to_owned())
}

fn peer(text: &str) -> Result<(String, String), String> {
    let (name, at) = text.split_once('=').ok_or("NAME=ADDRESS:PORT, such as worker-2=10.0.0.2:7117")?;
    name.parse::<NodeName>().map_err(|error| error.to_string())?;
    let at = address(at)?;
    if at.port() == 0 || at.ip().is_unspecified() {
        return Err("an address and a port at which the node listens".into());
    }
    Ok((name.to_owned(), at.to_string()))
}
