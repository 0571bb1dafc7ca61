//! What the answers about traces look like.

use crate::api::route::{Kind, Schema, field, optional};

const TEXT_OR_NULL: Kind = Kind::OrNull(&Kind::Text);
const INTEGER_OR_NULL: Kind = Kind::OrNull(&Kind::Integer);
const JOINED_BY: Kind = Kind::Words(&["correlation", "traceparent", "header", "event"]);

pub(super) static TRACES: Schema = Schema {
    name: "traces",
    fields: &[
        field("traces", Kind::Many(&Kind::Of(&LISTED)), ""),
        field("next", TEXT_OR_NULL, "The `after` of the next page; null: this is the last one"),
        field("index", Kind::Of(&INDEX), "What the index knows"),
    ],
};

static LISTED: Schema = Schema {
    name: "trace_in_list",
    fields: &[
        field(
            "id",
            TEXT_OR_NULL,
            "What joins its events; null: the record that says it is gone, or it has more than 4096 bytes",
        ),
        field("joined_by", Kind::OrNull(&JOINED_BY), "What kind of id that is"),
        field("events", Kind::Integer, "Its indexed events, dead letters among them"),
        field("dead_letters", Kind::Integer, ""),
        field("first", TEXT_OR_NULL, "The time of the oldest one"),
        field("last", TEXT_OR_NULL, "The time of the newest one"),
        field("begins_before", Kind::Flag, "Whether older ones are forgotten"),
        field(
            "root",
            Kind::OrNull(&Kind::Of(&ROOT)),
            "The one that caused the others, else the oldest; null: it is gone",
        ),
    ],
};

static ROOT: Schema = Schema {
    name: "trace_root",
    fields: &[
        field("type", TEXT_OR_NULL, ""),
        field("source", TEXT_OR_NULL, ""),
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
        field("key", TEXT_OR_NULL, ""),
        optional("key_encoding", Kind::Words(&["base64"]), "How bytes that are no UTF-8 are written"),
    ],
};

static INDEX: Schema = Schema {
    name: "trace_index",
    fields: &[
        field(
            "state",
            Kind::Words(&["off", "building", "following", "failed"]),
            "Whether it is kept, and has gone through what was there at the start; failed: it stands still",
        ),
        field("events", Kind::Integer, "Records in it"),
        field("events_max", Kind::Integer, "Records in it at most"),
        field("seen", Kind::Integer, "Records that were looked at since the start"),
        field("without_correlation", Kind::Integer, "Those of them that nothing joins to anything"),
        field("behind", Kind::Integer, "Records that are not looked at yet"),
        field("passed_over", Kind::Integer, "Records that were never looked at"),
        field("complete_since", TEXT_OR_NULL, "Events before it may be missing; null: none is"),
    ],
};

pub(super) static TRACE: Schema = Schema {
    name: "trace",
    fields: &[
        field("id", Kind::Text, "What joins its events"),
        field("joined_by", JOINED_BY, "What kind of id that is"),
        field("asked_event", INTEGER_OR_NULL, "The number of the node whose event was asked for"),
        field("events", Kind::Integer, "Its indexed events, dead letters among them"),
        field("dead_letters", Kind::Integer, ""),
        field("first", TEXT_OR_NULL, "The time of the oldest one"),
        field("last", TEXT_OR_NULL, "The time of the newest one"),
        field("begins_before", Kind::Flag, "Whether older ones are forgotten"),
        field("left_out", Kind::Integer, "Events that no page shows"),
        field("nodes", Kind::Many(&Kind::Of(&NODE)), "Causes before their effects, effects by time"),
        field("unknown_parents", Kind::Many(&Kind::Of(&UNKNOWN)), "Causes of these that are in no index"),
        field("next", TEXT_OR_NULL, "The `after` of the next page; null: this is the last one"),
        field("index", Kind::Of(&INDEX), "What the index knows"),
    ],
};

static UNKNOWN: Schema = Schema {
    name: "trace_unknown_parent",
    fields: &[
        field("event_id", Kind::Text, "The id that they name"),
        field("children", Kind::Many(&Kind::Integer), "The numbers of the nodes that name it"),
    ],
};

static NODE: Schema = Schema {
    name: "trace_node",
    fields: &[
        field("n", Kind::Integer, "Its number, over all pages"),
        field("parent", INTEGER_OR_NULL, "The number of its cause; null: it has none, or it is unknown"),
        field("parent_state", Kind::Words(&["root", "known", "unknown"]), "Whether it names a cause"),
        field("depth", Kind::Integer, "How many causes are above it"),
        field("kind", Kind::Words(&["event", "command", "dead_letter", "gone"]), "What it is"),
        field(
            "event_id",
            TEXT_OR_NULL,
            "Where the event brings none, the one that services give it by its place",
        ),
        field("type", TEXT_OR_NULL, ""),
        field("source", TEXT_OR_NULL, "Who published it, as it says"),
        field("topic", TEXT_OR_NULL, "Null: the topic was deleted"),
        field("partition", INTEGER_OR_NULL, ""),
        field("offset", Kind::Integer, ""),
        field("time", TEXT_OR_NULL, "RFC 3339 in UTC, with milliseconds"),
        field("key", TEXT_OR_NULL, "The key's source text, up to 1 KiB"),
        optional("key_encoding", Kind::Words(&["base64"]), "How bytes that are no UTF-8 are written"),
        field("correlation_id", TEXT_OR_NULL, ""),
        field("causation_id", TEXT_OR_NULL, ""),
        field("size", INTEGER_OR_NULL, "Bytes of key, value and headers"),
        field("duplicate", Kind::Flag, "Whether a node before it has the same event"),
        field("dead_letter", Kind::OrNull(&Kind::Of(&DEAD_LETTER)), "Why it was given up"),
        field("gone", TEXT_OR_NULL, "Why nothing more is known of it"),
    ],
};

static DEAD_LETTER: Schema = Schema {
    name: "trace_dead_letter",
    fields: &[
        field("consumer", TEXT_OR_NULL, "Who has given up"),
        field("attempts", INTEGER_OR_NULL, ""),
        field("error_type", TEXT_OR_NULL, ""),
        field("error", TEXT_OR_NULL, ""),
        field("topic", TEXT_OR_NULL, "Where the event was"),
        field("partition", INTEGER_OR_NULL, ""),
        field("offset", INTEGER_OR_NULL, ""),
    ],
};
