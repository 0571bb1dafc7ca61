//! Why a server does not start, in sentences for whoever typed the command.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use courant_kafka::client::InvalidAddress;
use courant_log::OpenError;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address that names nothing.
    #[error("{flag} {address}: {source}; write HOST:PORT, for example 127.0.0.1:9092")]
    Address {
        /// The flag that set it.
        flag: &'static str,
        /// What it was set to.
        address: String,
        /// Why it names nothing.
        source: io::Error,
    },
    /// An address that other machines reach, without the word that allows it.
    #[error(
        "{flag} {address} can be reached from other machines, and nobody is asked to log in: \
         use 127.0.0.1, or add --insecure if the network around it is yours"
    )]
    Exposed {
        /// The flag that set it.
        flag: &'static str,
        /// The address it stands for.
        address: SocketAddr,
    },
    /// An address that another program has.
    #[error("{flag} {address} is in use by another program; choose another port with {flag}")]
    InUse {
        /// The flag that set it.
        flag: &'static str,
        /// The address it stands for.
        address: SocketAddr,
    },
    /// One address for both ports.
    #[error("--kafka and --http cannot both have {address}; choose another port with one of them")]
    OneAddress {
        /// The address.
        address: SocketAddr,
    },
    /// An address that cannot be listened on.
    #[error("{flag} {address} cannot be listened on: {source}")]
    Bind {
        /// The flag that set it.
        flag: &'static str,
        /// The address it stands for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// An advertised address that is none.
    #[error("--advertise: {0}")]
    Advertise(#[from] InvalidAddress),
    /// A default number of partitions that no topic can have.
    #[error("--partitions {got}: a topic has 1 to {max} partitions")]
    Partitions {
        /// The number that was asked for.
        got: u32,
        /// The largest one.
        max: u32,
    },
    /// More names of the server than are compared with each request.
    #[error("--api-hosts: {got} names are given; there can be {max}")]
    Hosts {
        /// How many were given.
        got: usize,
        /// The most.
        max: usize,
    },
    /// A budget of memory in which a large batch has no room.
    #[error(
        "--memory {got}: a server needs at the least {least} bytes, for a batch of any size that topics take to \
         be sent, read and unpacked, and for one look of the HTTP API and the index of traces at it; name more, or \
         nothing for the bounds of each part alone"
    )]
    Memory {
        /// The bytes that were named.
        got: usize,
        /// The fewest.
        least: usize,
    },
    /// A process that may have hardly any files open.
    #[error(
        "this process may have {limit} files open, and a server needs {least} at the least: allow more, \
         with `ulimit -Hn`, LimitNOFILE= in systemd or --ulimit in Docker"
    )]
    Files {
        /// How many it may.
        limit: usize,
        /// How many it must.
        least: usize,
    },
    /// A data directory that cannot be used.
    #[error("{}: cannot be used as the data directory: {source}{}", .data.display(), advice(.source.kind()))]
    Data {
        /// The directory.
        data: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A data directory whose log does not open.
    #[error("{}: {source}{}", .data.display(), .source.kind().map_or("", advice))]
    Open {
        /// The directory.
        data: PathBuf,
        /// What is in the way.
        source: OpenError,
    },
    /// A defect.
    #[error("opening the log ended in a panic, which is a defect; please report it: {0}")]
    Panic(String),
}

/// What to do about a directory that the system does not let the server use. There are no flags in it: programs
/// start a server, too.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "; let the user of the server read and write everything there (`chown -R`), or name another directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; let its file system be written, or name another directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there, or name another directory"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; a file is in its place: name another directory"
        }
        _ => "",
    }
}

impl StartError {
    /// The data directory, where somebody else has it open.
    #[must_use]
    pub fn directory_in_use(&self) -> Option<&Path> {
        match self {
            Self::Open { data, source: OpenError::Locked } => Some(data),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_allow_has_a_remedy() {
        for (kind, remedy) in [
            (io::ErrorKind::PermissionDenied, "chown -R"),
            (io::ErrorKind::ReadOnlyFilesystem, "let its file system be written"),
            (io::ErrorKind::StorageFull, "make room"),
            (io::ErrorKind::AlreadyExists, "a file is in its place"),
        ] {
            let said = StartError::Data { data: "data".into(), source: kind.into() }.to_string();
            assert!(said.contains(remedy) && said.ends_with("name another directory"), "{said}");
        }
        let open = |source| StartError::Open { data: "data".into(), source }.to_string();
        assert_eq!(open(OpenError::Locked), format!("data: {}", OpenError::Locked));
    }
}
