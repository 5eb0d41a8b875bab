//! The stream of records, as the probe opens it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use palisade_world::{Loss, RecordBatch, RecordSource, RecordSourceError};

use super::{Kernel, State};
use crate::{
    event::{Event, Teller, lock},
    world::mutation::Mutation,
};

/// See the module.
pub struct SimRecords {
    kernel: Arc<Mutex<State>>,
    teller: Teller,
}

impl SimRecords {
    /// Opens the rings, which stand whoever reads them.
    #[must_use]
    pub fn open(kernel: &Kernel) -> Self {
        kernel.teller.tell(&Event::RecordsOpened);
        Self { kernel: Arc::clone(&kernel.state), teller: kernel.teller.clone() }
    }
}

impl RecordSource for SimRecords {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        let breaks = {
            let mut state = lock(&self.kernel);
            let chance = state.faults.broken_reads_permyriad;
            state.random.permyriad(chance)
        };
        if breaks {
            self.teller.tell(&Event::PanicInjected("record source"));
            let source = io::Error::other("injected: the ring is broken");
            return Err(RecordSourceError { what: "read", source });
        }
        let (decided, more) = {
            let mut state = lock(&self.kernel);
            let read = state.rings.read(batch);
            if state.mutation == Some(Mutation::SwallowsBatches) && !read.0.is_empty() && state.random.percent(20) {
                batch.clear();
            }
            read
        };
        if batch.records > 0 || !decided.is_empty() {
            self.teller.tell(&Event::RecordsRead { records: batch.records, decided });
        }
        Ok(more)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        Ok(lock(&self.kernel).rings.loss())
    }
}
