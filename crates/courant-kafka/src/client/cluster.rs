//! What a server says of itself and of the servers beside it.

use super::{Address, AdminError, Ask, Client};
use std::collections::BTreeMap;

/// A cluster as one of its servers describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id; `None` from servers before Kafka 0.10.1.
    pub id: Option<String>,
    /// Node ids, and the addresses that clients are told to use for them.
    pub nodes: BTreeMap<i32, Address>,
}

impl Client {
    /// Asks for the cluster.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn cluster(&mut self) -> Result<Cluster, AdminError> {
        let response = self.metadata(Ask::Nodes, false).await?;
        Ok(Cluster { id: response.cluster_id, nodes: self.nodes.clone() })
    }
}
