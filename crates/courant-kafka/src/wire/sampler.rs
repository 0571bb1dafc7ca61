//! Sample messages for tests: every field a version carries, none with its
//! default.

use super::field::Format;
use super::{Message, Writer};
use bytes::Bytes;
use uuid::Uuid;

/// What a sample looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Elements of every array.
    pub(crate) elements: usize,
    /// Whether everything that may be null is.
    pub(crate) null: bool,
    /// Whether booleans have their default: the one type of which two samples
    /// that are not the default cannot differ.
    pub(crate) default_bools: bool,
    /// Bytes of every string of records.
    pub(crate) record_bytes: usize,
}

impl Shape {
    /// The shapes the codec is compared with the oracle in.
    pub(crate) const ALL: [Self; 5] = [
        Self::new(0, false, 10),
        Self::new(1, false, 10),
        Self::new(3, false, 5000),
        Self::new(1, true, 10),
        Self::new(3, true, 10),
    ];

    /// One element in every array, nothing null.
    pub(crate) const ONE: Self = Self::new(1, false, 10);

    /// Three elements in every array, nothing null, small.
    pub(crate) const THREE: Self = Self::new(3, false, 10);

    const fn new(elements: usize, null: bool, record_bytes: usize) -> Self {
        Self { elements, null, default_bools: false, record_bytes }
    }
}

/// Makes values, each different from those before.
#[derive(Debug)]
pub(crate) struct Sampler {
    shape: Shape,
    next: u64,
}

impl Sampler {
    /// Makes values of `shape`, counting from `first`.
    pub(crate) fn new(shape: Shape, first: u64) -> Self {
        Self { shape, next: first }
    }

    /// One message with every field `version` carries.
    pub(crate) fn message<M: Sample + Default>(&mut self, version: i16) -> M {
        let format = Format { version, flexible: false, nullable: true };
        M::sample(self, &M::default(), format)
    }

    /// A small number above zero.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A type with samples.
pub(crate) trait Sample: Sized {
    /// A value other than `default`, or null or empty if the shape says so.
    fn sample(sampler: &mut Sampler, default: &Self, format: Format) -> Self;
}

/// `every_message!(callback(arguments))` calls the macro `callback` with the
/// arguments in parentheses and the name of every request and response.
macro_rules! every_message {
    ($callback:ident($($arguments:tt)*)) => {
        $callback! {
            ($($arguments)*)
            AlterConfigsRequest AlterConfigsResponse
            ApiVersionsRequest ApiVersionsResponse
            CreatePartitionsRequest CreatePartitionsResponse
            CreateTopicsRequest CreateTopicsResponse
            DeleteGroupsRequest DeleteGroupsResponse
            DeleteRecordsRequest DeleteRecordsResponse
            DeleteTopicsRequest DeleteTopicsResponse
            DescribeClusterRequest DescribeClusterResponse
            DescribeConfigsRequest DescribeConfigsResponse
            DescribeGroupsRequest DescribeGroupsResponse
            DescribeLogDirsRequest DescribeLogDirsResponse
            DescribeProducersRequest DescribeProducersResponse
            DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
            FetchRequest FetchResponse
            FindCoordinatorRequest FindCoordinatorResponse
            HeartbeatRequest HeartbeatResponse
            IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse
            InitProducerIdRequest InitProducerIdResponse
            JoinGroupRequest JoinGroupResponse
            LeaveGroupRequest LeaveGroupResponse
            ListGroupsRequest ListGroupsResponse
            ListOffsetsRequest ListOffsetsResponse
            MetadataRequest MetadataResponse
            OffsetCommitRequest OffsetCommitResponse
            OffsetDeleteRequest OffsetDeleteResponse
            OffsetFetchRequest OffsetFetchResponse
            OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
            ProduceRequest ProduceResponse
            SyncGroupRequest SyncGroupResponse
        }
    };
}

pub(crate) use every_message;

/// The bytes of a message, without header and length.
pub(crate) fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("encodes");
    joined(&writer.finish())
}

/// Chunks as one.
pub(crate) fn joined(chunks: &[Bytes]) -> Bytes {
    chunks.iter().flatten().copied().collect()
}

macro_rules! numbers {
    ($($ty:ty: $modulus:literal;)*) => {
        $(
            impl Sample for $ty {
                fn sample(sampler: &mut Sampler, default: &Self, _format: Format) -> Self {
                    // 1 to the modulus: never zero, never a table's default.
                    let value = sampler.number() % $modulus + 1;
                    let value = Self::try_from(value).expect("below the modulus");
                    assert_ne!(value, *default);
                    value
                }
            }
        )*
    };
}

numbers! {
    i8: 113;
    i16: 30_011;
    i32: 50_021;
    i64: 1_000_003;
}

impl Sample for bool {
    fn sample(sampler: &mut Sampler, default: &Self, _format: Format) -> Self {
        *default == sampler.shape.default_bools
    }
}

impl Sample for Uuid {
    fn sample(sampler: &mut Sampler, _default: &Self, _format: Format) -> Self {
        Uuid::from_u64_pair(sampler.number(), 0x8000_0000_0000_0001)
    }
}

impl Sample for String {
    fn sample(sampler: &mut Sampler, _default: &Self, _format: Format) -> Self {
        // Two-byte characters: a length counts bytes.
        format!("\u{e9}t\u{e9}{}", sampler.number())
    }
}

impl Sample for Bytes {
    fn sample(sampler: &mut Sampler, _default: &Self, _format: Format) -> Self {
        let mut bytes = vec![b'r'; sampler.shape.record_bytes];
        for (to, from) in bytes.iter_mut().zip(sampler.number().to_be_bytes()) {
            *to = from;
        }
        Bytes::from(bytes)
    }
}

impl<T: Sample + Default> Sample for Vec<T> {
    fn sample(sampler: &mut Sampler, _default: &Self, format: Format) -> Self {
        (0..sampler.shape.elements).map(|_| T::sample(sampler, &T::default(), format)).collect()
    }
}

impl<T: Sample + Default> Sample for Option<T> {
    fn sample(sampler: &mut Sampler, _default: &Self, format: Format) -> Self {
        if sampler.shape.null && format.nullable {
            return None;
        }
        Some(T::sample(sampler, &T::default(), format))
    }
}
