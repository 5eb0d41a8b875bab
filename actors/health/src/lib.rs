//! Folds what every actor reports into the health of the node.
#![forbid(unsafe_code)]
