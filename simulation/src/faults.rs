//! Which faults a run may have.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The node's process is killed, and started again.
    Crash,
    /// The machine loses its power: kernel, containers, and what was not yet on the disk.
    Power,
    /// The disk is full, slow, or does not give the policies.
    Disk,
    /// The kernel refuses calls of the enforcement port.
    Kernel,
    /// Rings are too small for a while, and records change places.
    Loss,
    /// The container runtime goes away and comes back.
    Runtime,
    /// The wall clock is off, and jumps.
    Clock,
    /// Actors panic: in calls of ports, and at marked points where the build has them.
    Panics,
    /// Threads stall.
    Stalls,
    /// What is ready at one instant runs in any order.
    Order,
    /// Datagrams between nodes are lost, doubled and late, and change places.
    Network,
    /// Nothing goes between some nodes, in one direction or both.
    Partition,
    /// Nodes get other certificates, and lose the ones they have.
    Certificates,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Crash,
        Self::Power,
        Self::Disk,
        Self::Kernel,
        Self::Loss,
        Self::Runtime,
        Self::Clock,
        Self::Panics,
        Self::Stalls,
        Self::Order,
        Self::Network,
        Self::Partition,
        Self::Certificates,
    ];

    /// As the command line has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Kernel => "kernel",
            Self::Loss => "loss",
            Self::Runtime => "runtime",
            Self::Clock => "clock",
            Self::Panics => "panics",
            Self::Stalls => "stalls",
            Self::Order => "order",
            Self::Network => "network",
            Self::Partition => "partition",
            Self::Certificates => "certificates",
        }
    }
}

/// Those that befall links.
const OF_LINKS: [Fault; 3] = [Fault::Network, Fault::Partition, Fault::Certificates];

/// A set of them: `all`, `none`, or names by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        Self(Fault::ALL.into_iter().collect())
    }

    /// Whether this kind is among them.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Those that come and go on one machine, of which its injector chooses.
    #[must_use]
    pub fn passing(&self) -> Vec<Fault> {
        self.0.iter().copied().filter(|fault| *fault != Fault::Order && !OF_LINKS.contains(fault)).collect()
    }

    /// Those that come and go between machines.
    #[must_use]
    pub fn of_links(&self) -> Vec<Fault> {
        OF_LINKS.into_iter().filter(|fault| self.has(*fault)).collect()
    }
}

/// A name that no fault has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        write!(f, "there is no fault '{}': all, none, or some of {} by commas", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::default()),
            _ => {}
        }
        let one = |name: &str| {
            Fault::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| UnknownFault(name.to_owned()))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<&str> = self.0.iter().map(|fault| fault.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults};

    #[test]
    fn unit_faults_are_read_as_they_are_written() {
        for text in ["all", "none", "crash", "crash,power,order"] {
            assert_eq!(text.parse::<Faults>().map(|faults| faults.to_string()), Ok(text.to_owned()));
        }
        let some: Faults = "loss,order".parse().expect("names of faults");
        assert!(some.has(Fault::Loss) && !some.has(Fault::Crash));
        assert_eq!((some.passing(), some.of_links()), (vec![Fault::Loss], vec![]));
        assert_eq!(Faults::all().passing().len() + Faults::all().of_links().len() + 1, Fault::ALL.len());
        let refused = "loss,rain".parse::<Faults>().expect_err("rain is none");
        assert!(refused.to_string().starts_with("there is no fault 'rain': all, none, or some of crash, power"));
    }
}
