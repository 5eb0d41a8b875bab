//! The little YAML that a list of differences is.

use std::collections::VecDeque;

use saphyr_parser::{Event, Parser};

use crate::DifferencesError;

/// A document of text, lists and mappings.
#[derive(Debug)]
pub(crate) enum Tree {
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A mapping whose keys are taken one after the other, so that an unknown one is left over.
#[derive(Debug)]
pub(crate) struct Entries(Vec<(String, Tree)>);

impl Tree {
    pub(crate) fn parse(text: &str) -> Result<Self, DifferencesError> {
        let mut events = VecDeque::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| DifferencesError(error.to_string()))?;
            match event {
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                other => events.push_back((other, span.start.line())),
            }
        }
        read(&mut events)
    }

    pub(crate) fn text(self, what: &str) -> Result<String, DifferencesError> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(DifferencesError(format!("{what} is no text: {other:?}"))),
        }
    }

    pub(crate) fn list(self, what: &str) -> Result<Vec<Self>, DifferencesError> {
        match self {
            Self::List(list) => Ok(list),
            other => Err(DifferencesError(format!("{what} is no list: {other:?}"))),
        }
    }

    pub(crate) fn map(self, what: &str) -> Result<Entries, DifferencesError> {
        match self {
            Self::Map(entries) => Ok(Entries(entries)),
            other => Err(DifferencesError(format!("{what} is no mapping: {other:?}"))),
        }
    }
}

impl Entries {
    pub(crate) fn take(&mut self, key: &str) -> Result<Tree, DifferencesError> {
        let at = self.0.iter().position(|(known, _)| known == key);
        at.map(|at| self.0.remove(at).1).ok_or_else(|| DifferencesError(format!("`{key}` is missing in {:?}", self.0)))
    }

    pub(crate) fn take_if_there(&mut self, key: &str) -> Option<Tree> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn end(self) -> Result<(), DifferencesError> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(DifferencesError(format!("`{key}` means nothing here, or is there twice"))),
        }
    }
}

fn read(events: &mut VecDeque<(Event<'_>, usize)>) -> Result<Tree, DifferencesError> {
    match events.pop_front() {
        Some((Event::Scalar(text, ..), _)) => Ok(Tree::Text(text.into_owned())),
        Some((Event::SequenceStart(..), _)) => {
            let mut list = Vec::new();
            while !matches!(events.front(), Some((Event::SequenceEnd, _)) | None) {
                list.push(read(events)?);
            }
            events.pop_front();
            Ok(Tree::List(list))
        }
        Some((Event::MappingStart(..), _)) => {
            let mut entries = Vec::new();
            while !matches!(events.front(), Some((Event::MappingEnd, _)) | None) {
                let key = read(events)?.text("a key")?;
                entries.push((key, read(events)?));
            }
            events.pop_front();
            Ok(Tree::Map(entries))
        }
        Some((other, line)) => Err(DifferencesError(format!("line {line}: {other:?}"))),
        None => Err(DifferencesError("it ends too early".to_owned())),
    }
}
