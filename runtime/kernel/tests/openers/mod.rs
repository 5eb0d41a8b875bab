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

    /// (slot, phase) of whoever opened it last, by the records' clock, for each CPU has a ring of its own; what was told before is gone.
    pub fn opener(&mut self, file: &str) -> Option<(u32, Phase)> {
        let (mut batch, mut last) = (RecordBatch::default(), None);
        loop {
            let more = self.records.read(&mut batch).unwrap();
            for record in RecordReader::new(&batch.bytes).map(Result::unwrap) {
                if record.kind() == Kind::Open && probe_bed::path_of(&record) == file {
                    let header = &record.header;
                    last = last.max(Some((header.boot_ns, header.slot, header.phase)));
                }
            }
            if !more {
                return last.map(|(_, slot, phase)| (slot, phase));
            }
        }
    }
}
