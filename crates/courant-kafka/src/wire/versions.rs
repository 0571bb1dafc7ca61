//! Which APIs and versions are served.
//!
//! Produce is advertised from version 0, although only version 3 and later is
//! served: older librdkafka otherwise turns compression off (KAFKA-18659).

use super::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
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

static SUPPORTED: [ApiRange; 9] = [
    ApiRange { advertised_min: 0, ..ApiRange::of::<ProduceRequest>() },
    ApiRange::of::<FetchRequest>(),
    ApiRange::of::<ListOffsetsRequest>(),
    ApiRange::of::<MetadataRequest>(),
    ApiRange::of::<FindCoordinatorRequest>(),
    ApiRange::of::<ApiVersionsRequest>(),
    ApiRange::of::<CreateTopicsRequest>(),
    ApiRange::of::<DeleteTopicsRequest>(),
    ApiRange::of::<InitProducerIdRequest>(),
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
