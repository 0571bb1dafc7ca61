//! What a group's coordinator keeps over a restart. On disk: the numbers are fixed;
//! `docs/formats/groups.md` draws the bytes.
//!
//! The log keeps these bytes with the group's committed offsets and does not read them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::machine::{Member, Protocol};

const VERSION: u16 = 1;

/// Bytes of a member of which every text and list is empty.
const MEMBER_BYTES_MIN: usize = 2 + 1 + 2 + 2 + 4 + 4 + 4 + 4;

/// Bytes of a protocol with an empty name.
const PROTOCOL_BYTES_MIN: usize = 2 + 4;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredState {
    pub(crate) protocol_type: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    /// Since when there is no member, in milliseconds since 1970. Of no meaning while there are some.
    pub(crate) empty_since_ms: i64,
    pub(crate) members: Vec<StoredMember>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_ms: i32,
    pub(crate) rebalance_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
}

/// Why bytes are no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAGroup {
    #[error("the bytes end before the group does, or a length in them is wrong")]
    Damaged,
    #[error("they were written by a newer release (group format {0}); this one reads format {VERSION}")]
    Newer(u16),
}

impl From<bytes::TryGetError> for NotAGroup {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Damaged
    }
}

impl StoredMember {
    pub(crate) fn of(member_id: &str, member: &Member) -> Self {
        let milliseconds = |ms: i64| i32::try_from(ms).unwrap_or(i32::MAX);
        Self {
            member_id: member_id.to_owned(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_ms: milliseconds(member.session_ms),
            rebalance_ms: milliseconds(member.rebalance_ms),
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        }
    }
}

impl StoredState {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u16_le(VERSION);
        put_option(&mut out, self.protocol_type.as_deref());
        out.put_i32_le(self.generation);
        put_option(&mut out, self.protocol.as_deref());
        put_option(&mut out, self.leader.as_deref());
        out.put_i64_le(self.empty_since_ms);
        put_count(&mut out, self.members.len());
        for member in &self.members {
            put_string(&mut out, &member.member_id);
            put_option(&mut out, member.instance_id.as_deref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            out.put_i32_le(member.session_ms);
            out.put_i32_le(member.rebalance_ms);
            put_count(&mut out, member.protocols.len());
            for protocol in &member.protocols {
                put_string(&mut out, &protocol.name);
                put_bytes(&mut out, &protocol.metadata);
            }
            put_bytes(&mut out, &member.assignment);
        }
        out.freeze()
    }

    /// # Errors
    /// See [`NotAGroup`].
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, NotAGroup> {
        let from = &mut bytes;
        let version = from.try_get_u16_le()?;
        if version != VERSION {
            return Err(NotAGroup::Newer(version));
        }
        let protocol_type = option(from)?;
        let generation = from.try_get_i32_le()?;
        let protocol = option(from)?;
        let leader = option(from)?;
        let empty_since_ms = from.try_get_i64_le()?;
        let members =
            (0..count(from, MEMBER_BYTES_MIN)?).map(|_| member(from)).collect::<Result<Vec<_>, _>>()?;
        if from.has_remaining() {
            return Err(NotAGroup::Damaged);
        }
        Ok(Self { protocol_type, generation, protocol, leader, empty_since_ms, members })
    }
}

fn member(from: &mut Bytes) -> Result<StoredMember, NotAGroup> {
    Ok(StoredMember {
        member_id: string(from)?,
        instance_id: option(from)?,
        client_id: string(from)?,
        client_host: string(from)?,
        session_ms: from.try_get_i32_le()?,
        rebalance_ms: from.try_get_i32_le()?,
        protocols: (0..count(from, PROTOCOL_BYTES_MIN)?)
            .map(|_| Ok(Protocol { name: string(from)?, metadata: blob(from)? }))
            .collect::<Result<_, NotAGroup>>()?,
        assignment: blob(from)?,
    })
}

/// Names and ids are bounded far below 64 KiB where they come in.
fn put_string(out: &mut BytesMut, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.put_u16_le(length);
    out.put_slice(&text.as_bytes()[..usize::from(length)]);
}

fn put_option(out: &mut BytesMut, text: Option<&str>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_string(out, text);
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// A count of things that take at least `each_min` bytes: refused when they cannot be there.
fn count(from: &mut Bytes, each_min: usize) -> Result<usize, NotAGroup> {
    let count = usize::try_from(from.try_get_u32_le()?).map_err(|_| NotAGroup::Damaged)?;
    match count.checked_mul(each_min) {
        Some(bytes) if bytes <= from.remaining() => Ok(count),
        _ => Err(NotAGroup::Damaged),
    }
}

fn string(from: &mut Bytes) -> Result<String, NotAGroup> {
    let length = usize::from(from.try_get_u16_le()?);
    if length > from.remaining() {
        return Err(NotAGroup::Damaged);
    }
    String::from_utf8(from.split_to(length).to_vec()).map_err(|_| NotAGroup::Damaged)
}

fn option(from: &mut Bytes) -> Result<Option<String>, NotAGroup> {
    match from.try_get_u8()? {
        0 => Ok(None),
        1 => string(from).map(Some),
        _ => Err(NotAGroup::Damaged),
    }
}

fn blob(from: &mut Bytes) -> Result<Bytes, NotAGroup> {
    let length = count(from, 1)?;
    // A copy: the bytes of one member must not keep those of the whole group alive.
    Ok(Bytes::copy_from_slice(&from.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StoredState {
        let protocol = |name: &str| Protocol { name: name.into(), metadata: Bytes::from_static(b"orders") };
        let member = StoredMember {
            member_id: "billing-1".into(),
            instance_id: Some("one".into()),
            client_id: "größer".into(),
            client_host: "/127.0.0.1".into(),
            session_ms: 45_000,
            rebalance_ms: 300_000,
            protocols: vec![protocol("range"), protocol("roundrobin")],
            assignment: Bytes::from_static(b"0,1,2"),
        };
        StoredState {
            protocol_type: Some("consumer".into()),
            generation: 7,
            protocol: Some("range".into()),
            leader: Some("billing-1".into()),
            empty_since_ms: 1_700_000_000_000,
            members: vec![member.clone(), StoredMember { instance_id: None, ..member }],
        }
    }

    #[test]
    fn a_group_comes_back_as_it_was() {
        assert_eq!(StoredState::decode(state().encode()), Ok(state()));
        let empty = StoredState { members: Vec::new(), protocol: None, leader: None, ..state() };
        assert_eq!(StoredState::decode(empty.encode()), Ok(empty));
    }

    #[test]
    fn what_is_cut_off_or_too_long_or_newer_is_refused() {
        let bytes = state().encode();
        for end in 0..bytes.len() {
            assert_eq!(StoredState::decode(bytes.slice(..end)), Err(NotAGroup::Damaged), "{end} bytes");
        }
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(StoredState::decode(long.into()), Err(NotAGroup::Damaged));
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert_eq!(StoredState::decode(newer.into()), Err(NotAGroup::Newer(2)));
    }

    #[test]
    fn a_count_that_cannot_be_there_costs_nothing() {
        let mut bytes = StoredState { members: Vec::new(), ..state() }.encode().to_vec();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(StoredState::decode(bytes.into()), Err(NotAGroup::Damaged));
    }
}
