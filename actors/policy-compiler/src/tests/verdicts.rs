//! The documented verdicts, one by one.
