//! The header: block 0.

use palisade_domain::Visibility;

use super::{
    cbor::{CborError, Items, Reading},
    fact::{read_throttle, write_throttle},
};

/// Where and how a trace was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The node's name.
    pub node: String,
    /// The cluster's name.
    pub cluster: String,
    /// The node's machine id; empty where it has none.
    pub node_id: String,
    /// `CLOCK_BOOTTIME` when the recording began, nanoseconds.
    pub boot_ns: u64,
    /// The wall clock at the same moment, nanoseconds since 1970.
    pub unix_ns: u64,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// The records' bytes are as a machine of this byte order wrote them.
    pub little_endian: bool,
    /// Version of the records' layout (`PAL_RECORD_VERSION`).
    pub record_version: u16,
    /// What is overwritten, in words; empty: nothing.
    pub redacted: Vec<String>,
    /// Bytes past which the recording ended; 0: no bound.
    pub limit_bytes: u64,
    /// Time past which it ended, nanoseconds; 0: no bound.
    pub limit_ns: u64,
    /// Only workloads of these names; empty: all.
    pub workloads: Vec<String>,
    /// What is seen of a workload of which nobody says it.
    pub visibility: Visibility,
    /// Alerts of a workload in a second past which they are held back, and for how many seconds; none: never.
    pub throttle: Option<(u32, u32)>,
    /// Number of the file where a recording goes over several, from 0.
    pub part: u32,
    /// Version of the program that recorded.
    pub program: String,
}

const PAIRS: usize = 17;

impl Header {
    pub(super) fn write(&self, out: &mut Items) {
        out.map(PAIRS);
        let texts = [&self.node, &self.cluster, &self.node_id, &self.kernel, &self.architecture, &self.program];
        let mut key = 0_u64;
        let mut next = |out: &mut Items| {
            key += 1;
            out.number(key);
        };
        for text in texts {
            next(out);
            out.text(text);
        }
        let numbers = [
            self.boot_ns,
            self.unix_ns,
            u64::from(self.little_endian),
            u64::from(self.record_version),
            self.limit_bytes,
            self.limit_ns,
            u64::from(self.part),
        ];
        for number in numbers {
            next(out);
            out.number(number);
        }
        for list in [&self.redacted, &self.workloads] {
            next(out);
            out.array(list.len());
            list.iter().for_each(|text| out.text(text));
        }
        next(out);
        out.text(&self.visibility.to_string());
        next(out);
        write_throttle(self.throttle, out);
    }

    pub(super) fn read(reading: &mut Reading<'_>) -> Result<Self, CborError> {
        if reading.map("the header")? != PAIRS {
            return Err(reading.wanted("a header of 17 fields"));
        }
        let mut key = 0;
        let mut next = |reading: &mut Reading<'_>| {
            key += 1;
            reading.key(key, "a field of the header, in order")
        };
        let mut header = Self::default();
        let texts = [
            &mut header.node,
            &mut header.cluster,
            &mut header.node_id,
            &mut header.kernel,
            &mut header.architecture,
            &mut header.program,
        ];
        for text in texts {
            next(reading)?;
            *text = reading.text("a text of the header")?.to_owned();
        }
        let mut numbers = [0_u64; 7];
        for number in &mut numbers {
            next(reading)?;
            *number = reading.number("a number of the header")?;
        }
        let [boot_ns, unix_ns, little_endian, record_version, limit_bytes, limit_ns, part] = numbers;
        (header.boot_ns, header.unix_ns, header.limit_bytes, header.limit_ns) =
            (boot_ns, unix_ns, limit_bytes, limit_ns);
        header.little_endian = little_endian != 0;
        header.record_version = u16::try_from(record_version).map_err(|_| reading.wanted("a version of records"))?;
        header.part = u32::try_from(part).map_err(|_| reading.wanted("a part's number"))?;
        for list in [&mut header.redacted, &mut header.workloads] {
            next(reading)?;
            for _ in 0..reading.array("a list of the header")? {
                list.push(reading.text("a text of the header")?.to_owned());
            }
        }
        next(reading)?;
        header.visibility = reading.text("visibility")?.parse().map_err(|_| reading.wanted("classes of visibility"))?;
        next(reading)?;
        header.throttle = read_throttle(reading)?;
        Ok(header)
    }
}
