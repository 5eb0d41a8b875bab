//! By whom a file was opened, as the kernel tells it: the measure of who a task is.

use palisade_kernel::{
    observation::Limits,
    probes::Probes,
    records::{DEFAULT_RING_BYTES, KernelRecords},
};
use palisade_kernel_abi::record::{Kind, Phase, RecordReader};
use palisade_world::{RecordBatch, RecordSource as _};

use super::{kernel_bed::Pins, probe_bed};

/// Watches opens by slots that are watched.
pub struct Openers {
    _probes: Probes,
    records: KernelRecords,
}

impl Openers {
    pub fn watch(pins: &Pins) -> Self {
        let probes = Probes::attach(&pins.0, Limits::NONE).unwrap();
        let records = KernelRecords::open(&pins.0, DEFAULT_RING_BYTES).unwrap();
        Self { _probes: probes, records }
    }

    /// (slot, phase) of whoever opened it last; what was told before is gone.
    pub fn opener(&mut self, file: &str) -> Option<(u32, Phase)> {
        let (mut batch, mut found) = (RecordBatch::default(), None);
        loop {
            let more = self.records.read(&mut batch).unwrap();
            for record in RecordReader::new(&batch.bytes).map(Result::unwrap) {
                if record.kind() == Kind::Open && probe_bed::path_of(&record) == file {
                    found = Some((record.header.slot, record.header.phase));
                }
            }
            if !more {
                return found;
            }
        }
    }
}
