//! Which APIs and versions are served.
//!
//! Produce is advertised from version 0, although only version 3 and later is
//! served: older librdkafka otherwise turns compression off (KAFKA-18659).

use super::messages::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use super::{ApiKey, Request};

/// The versions of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API.
    pub key: ApiKey,
    /// Lowest version served.
    pub min: i16,
    /// Highest version served and advertised.
    pub max: i16,
    /// Lowest version advertised.
    pub advertised_min: i16,
    /// First flexible version (KIP-482).
    pub flexible_from: i16,
}

impl ApiRange {
    /// Whether `version` is served.
    #[must_use]
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    const fn of<R: Request>() -> Self {
        let min = *R::VERSIONS.start();
        Self {
            key: R::KEY,
            min,
            max: *R::VERSIONS.end(),
            advertised_min: min,
            flexible_from: R::FLEXIBLE_FROM,
        }
    }
}

static SUPPORTED: [ApiRange; 29] = [
    ApiRange { advertised_min: 0, ..ApiRange::of::<ProduceRequest>() },
    ApiRange::of::<FetchRequest>(),
    ApiRange::of::<ListOffsetsRequest>(),
    ApiRange::of::<MetadataRequest>(),
    ApiRange::of::<OffsetCommitRequest>(),
    ApiRange::of::<OffsetFetchRequest>(),
    ApiRange::of::<FindCoordinatorRequest>(),
    ApiRange::of::<JoinGroupRequest>(),
    ApiRange::of::<HeartbeatRequest>(),
    ApiRange::of::<LeaveGroupRequest>(),
    ApiRange::of::<SyncGroupRequest>(),
    ApiRange::of::<DescribeGroupsRequest>(),
    ApiRange::of::<ListGroupsRequest>(),
    ApiRange::of::<ApiVersionsRequest>(),
    ApiRange::of::<CreateTopicsRequest>(),
    ApiRange::of::<DeleteTopicsRequest>(),
    ApiRange::of::<DeleteRecordsRequest>(),
    ApiRange::of::<InitProducerIdRequest>(),
    ApiRange::of::<OffsetForLeaderEpochRequest>(),
    ApiRange::of::<DescribeConfigsRequest>(),
    ApiRange::of::<AlterConfigsRequest>(),
    ApiRange::of::<DescribeLogDirsRequest>(),
    ApiRange::of::<CreatePartitionsRequest>(),
    ApiRange::of::<DeleteGroupsRequest>(),
    ApiRange::of::<IncrementalAlterConfigsRequest>(),
    ApiRange::of::<OffsetDeleteRequest>(),
    ApiRange::of::<DescribeClusterRequest>(),
    ApiRange::of::<DescribeProducersRequest>(),
    ApiRange::of::<DescribeTopicPartitionsRequest>(),
];

/// The supported APIs, by key.
#[must_use]
pub fn supported_apis() -> &'static [ApiRange] {
    &SUPPORTED
}

/// The versions of `key`, if it is supported.
#[must_use]
pub fn range_of(key: ApiKey) -> Option<&'static ApiRange> {
    SUPPORTED.iter().find(|range| range.key == key)
}
