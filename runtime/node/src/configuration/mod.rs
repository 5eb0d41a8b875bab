//! Configuration: flag over environment over file over default.
//!
//! Decision: what can be set is read off the node's command line ([`definition`]), names, types, defaults and checks alike, not off a second
//! structure beside it, because two would part ways. A file's values go in as the defaults of their flags, so that clap itself keeps the
//! order, and each value is checked by the parser of its flag.
//!
//! Invariant: a file counts as a whole: a node does not start with, nor change to, a file of which one line is wrong.

pub mod command_line;
pub mod definition;
pub mod file;
pub mod schema;
