//! DescribeCluster (key 60): this broker, which is the whole cluster (KIP-700).
//!
//! Versions: from 1 on a client says whether it wants brokers or controllers (KIP-919).

use std::sync::Arc;

use super::{Answered, operations};
use crate::broker::Caller;
use crate::budget::Grant;
use crate::wire::ErrorCode;
use crate::wire::messages::describe_cluster::DescribeClusterBroker;
use crate::wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster. The answer is short, and takes no memory worth counting.
pub(super) async fn answer(
    caller: Arc<Caller>,
    request: DescribeClusterRequest,
) -> Answered<DescribeClusterResponse> {
    Ok((describe(&caller, &request), Grant::default()))
}

fn describe(caller: &Caller, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let refuse = |code: ErrorCode, message: String| DescribeClusterResponse {
        error_code: code.0,
        error_message: Some(message),
        endpoint_type: request.endpoint_type,
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "this address is that of a broker, and no controller has another one".to_owned();
            return refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, message);
        }
        other => {
            let message = format!("there is nothing of type {other} to connect to");
            return refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, message);
        }
    }
    let advertised = caller.advertised();
    let node_id = caller.broker.config().node_id;
    let asked = request.include_cluster_authorized_operations;
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: caller.log().id().to_string(),
        controller_id: node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: node_id,
            host: advertised.host,
            port: i32::from(advertised.port),
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: if asked { operations::ON_CLUSTER } else { operations::NOT_ASKED },
        ..DescribeClusterResponse::default()
    }
}
