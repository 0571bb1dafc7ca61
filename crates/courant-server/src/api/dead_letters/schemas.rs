//! What is asked and answered about services and dead letters, for the OpenAPI document.

use super::services::{REQUESTS, STALL};
use crate::api::records::RECORD;
use crate::api::route::{Field, Kind, Schema, field, optional};

const TEXT_OR_NULL: Kind = Kind::OrNull(&Kind::Text);
const NUMBER_OR_NULL: Kind = Kind::OrNull(&Kind::Integer);

/// The words for where letters stand that can be asked for.
pub(super) static STANDING: [&str; 6] = ["dead", "redriving", "redriven", "discarded", "archived", "any"];

const RUNNING: Kind = Kind::Words(&["running", "silent"]);
const NOT_OPERABLE: Kind = Kind::OrNull(&Kind::Words(&["no_key", "takes_no_requests", "silent"]));
const NEXT: Field = field("next", TEXT_OR_NULL, "`after` of the next page; null: this is the last one");
const OPERABLE: Field = field("operable", Kind::Flag, "Whether this server can send it requests");
const WHY_NOT: Field = field("not_operable", NOT_OPERABLE, "Why it cannot; null: it can");

pub(super) static SERVICES: Schema = Schema {
    name: "services",
    fields: &[
        field("services", Kind::Many(&Kind::Of(&SERVICE)), ""),
        NEXT,
        field("total", Kind::Integer, "Services on all pages"),
        field("unreadable", Kind::Integer, "Instances whose state is not understood by this server"),
    ],
};

pub(super) static SERVICE: Schema = Schema {
    name: "service",
    fields: &[
        field("service", Kind::Text, "Its name"),
        field("state", RUNNING, "silent: no instance was heard of for three heartbeats"),
        OPERABLE,
        WHY_NOT,
        field("lag_events", NUMBER_OR_NULL, "Events that its consumers have not done with; null: unknown"),
        field("lag_seconds", NUMBER_OR_NULL, "Age of the oldest of them; null: unknown"),
        field("parked_keys", NUMBER_OR_NULL, "Keys that are set aside; null: unknown, or without a store"),
        field("parked_events", NUMBER_OR_NULL, "Events that wait for another of their key, or another try"),
        field("dead_letters", NUMBER_OR_NULL, "Letters that nobody has decided about; null: unknown"),
        field("outbox", NUMBER_OR_NULL, "Events that wait to be published; null: unknown"),
        field("seen_ms", Kind::Integer, "When it was heard of last"),
        field("instances_running", Kind::Integer, ""),
        field("instances_total", Kind::Integer, ""),
        field("instances", Kind::Many(&Kind::Of(&INSTANCE)), "Those that run first; at most 100"),
    ],
};

static INSTANCE: Schema = Schema {
    name: "service_instance",
    fields: &[
        field("instance", Kind::Text, "Its id"),
        field("state", RUNNING, ""),
        field("code_version", Kind::Text, "The version of the service"),
        field("courant_version", Kind::Text, "The version of Courant in it"),
        field("engine", Kind::Text, "The kind of engine that it runs on"),
        field("store", TEXT_OR_NULL, "The kind of store; null: it has none"),
        field("operations", Kind::Flag, "Whether it takes requests"),
        field("started_ms", Kind::Integer, ""),
        field("seen_ms", Kind::Integer, ""),
        field("heartbeat_ms", Kind::Integer, "How long it takes at most until it says something again"),
        field("outbox", NUMBER_OR_NULL, ""),
        field("requests", Kind::Of(&REQUESTS), "Requests since it has started"),
        field("subscriptions", Kind::Many(&Kind::Of(&SUBSCRIPTION)), ""),
        field("stalls", Kind::Many(&Kind::Of(&STALL)), "What does not go on and is tried again, at most 100"),
    ],
};

static SUBSCRIPTION: Schema = Schema {
    name: "service_subscription",
    fields: &[
        field("consumer", Kind::Text, ""),
        field("generation", Kind::Integer, ""),
        field("topics", Kind::Many(&Kind::Text), "Topics that it reads"),
        field("event_types", Kind::Many(&Kind::Text), "Types of events that it handles"),
        field("policy", Kind::Of(&POLICY), ""),
        field("passed", Kind::Integer, "Events of other types, since the instance has started"),
        field("parked", Kind::OrNull(&Kind::Of(&PARKED)), "For all instances; null: unknown, or no store"),
        field("full", Kind::Flag, "As much is parked as may be, so the instance reads nothing more"),
        field("dead", Kind::OrNull(&Kind::Of(&DEAD)), "For all instances; null: unknown, or no store"),
        field("partitions", Kind::Many(&Kind::Of(&PARTITION)), "Those that the instance has"),
    ],
};

static POLICY: Schema = Schema {
    name: "service_policy",
    fields: &[
        field("effects", Kind::Text, "once or at_least_once"),
        field("concurrency", Kind::Integer, ""),
        field("attempts", Kind::Integer, ""),
        field("exhausted", Kind::Text, "park_key, dead_letter, block or skip"),
        field("timeout_ms", Kind::Integer, ""),
        field("parked_max", Kind::Integer, "Events that may be parked; 0: unknown, or no store"),
    ],
};

static PARKED: Schema = Schema {
    name: "parked",
    fields: &[
        field("keys", Kind::Integer, "Keys that are set aside"),
        field("events", Kind::Integer, "Events that wait"),
        field("held", Kind::Integer, "Keys that wait for a decision about a dead letter"),
        field("next_due_ms", NUMBER_OR_NULL, "The next attempt of all"),
    ],
};

static DEAD: Schema = Schema {
    name: "service_dead",
    fields: &[
        field("letters", Kind::Integer, ""),
        field("failures", Kind::Many(&Kind::Of(&FAILURE)), "The largest first, at most 100"),
    ],
};

static FAILURE: Schema = Schema {
    name: "service_failure",
    fields: &[
        field("group", Kind::Text, "Its short name"),
        field("error", Kind::Text, "The error's type"),
        field("place", Kind::Text, "Where it came from"),
        field("letters", Kind::Integer, ""),
        field("oldest_ms", Kind::Integer, ""),
        field("newest_ms", Kind::Integer, ""),
    ],
};

static PARTITION: Schema = Schema {
    name: "service_partition",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("next", Kind::Integer, "The first offset that is not done with"),
        field("missed", Kind::Integer, "Events before it that were lost before they were handled"),
        field("end", NUMBER_OR_NULL, ""),
        field("lag_events", NUMBER_OR_NULL, "null: unknown"),
        field("lag_seconds", NUMBER_OR_NULL, "null: unknown"),
    ],
};

pub(super) static GROUPS: Schema = Schema {
    name: "failures",
    fields: &[
        field("groups", Kind::Many(&Kind::Of(&GROUP)), ""),
        field("letters", Kind::Integer, "Letters of all failures that are known"),
        field("unknown", Kind::Many(&Kind::Text), "Services that do not say what is dead"),
        NEXT,
        field("total", Kind::Integer, "Failures on all pages"),
    ],
};

pub(super) static GROUP: Schema = Schema {
    name: "failure",
    fields: &[
        field("service", Kind::Text, ""),
        field("group", Kind::Text, "Its short name"),
        field("consumer", Kind::Text, "The consumer that has given up"),
        field("error", Kind::Text, "The error's type"),
        field("place", Kind::Text, "Where it came from"),
        field("letters", Kind::Integer, ""),
        field("oldest_ms", Kind::Integer, "Last failure of the letter that has waited longest"),
        field("newest_ms", Kind::Integer, ""),
        field("topics", Kind::Many(&Kind::Text), "Topics that the consumer reads"),
        field("parked", Kind::OrNull(&Kind::Of(&PARKED)), "What is parked of the consumer; null: unknown"),
        field("seen_ms", Kind::Integer, "When the service has said so"),
        field("service_state", RUNNING, ""),
        OPERABLE,
        WHY_NOT,
    ],
};

pub(super) static LETTERS: Schema = Schema {
    name: "dead_letters",
    fields: &[
        field("service", Kind::Text, ""),
        field("letters", Kind::Many(&Kind::Of(&LETTER)), "By number"),
        NEXT,
    ],
};

static LETTER: Schema = Schema {
    name: "dead_letter",
    fields: &[
        field("letter", Kind::Integer, "Its number"),
        field("consumer", Kind::Text, ""),
        field("generation", Kind::Integer, ""),
        field("topic", Kind::Text, "Where its event is"),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
        field("event_id", Kind::Text, ""),
        field("state", Kind::Text, "dead, redriving, redriven, discarded or archived"),
        field("reason", Kind::Text, "exhausted, undecodable or refused"),
        field("blocks_key", Kind::Flag, "Whether later events of its key wait for it"),
        field("edited", Kind::OrNull(&Kind::Flag), "Whether it says something else now; null: not looked at"),
        field("attempts", Kind::Integer, "How often it was tried, redrives included"),
        field("first_failed_ms", Kind::Integer, ""),
        field("last_failed_ms", Kind::Integer, ""),
        field("group", Kind::Text, "The short name of its failure"),
        field("error", Kind::Text, "The error's type"),
        field("place", Kind::Text, "Where it came from"),
        field("code_version", Kind::Text, "The version of the service that gave up"),
    ],
};

pub(super) static EXPORTED: Schema = Schema {
    name: "exported_dead_letters",
    fields: &[
        field("service", Kind::Text, ""),
        field("letters", Kind::Many(&Kind::Of(&WHOLE)), "By number"),
        NEXT,
    ],
};

pub(super) static WHOLE: Schema = Schema {
    name: "whole_dead_letter",
    fields: &[
        field("service", Kind::Text, ""),
        field("letter", Kind::Of(&LETTER), ""),
        field("notes", Kind::Many(&Kind::Of(&NOTE)), "What people have done with it"),
        field("record", Kind::OrNull(&Kind::Of(&RECORD)), "The event as it came; else its published copy"),
        field("record_missing", TEXT_OR_NULL, "Why the event is not where it was; null: it is"),
        field("message", TEXT_OR_NULL, "The text of the error, as the copy has it; null: unknown"),
        field("copy", Kind::OrNull(&Kind::Of(&PLACE)), "Where the published copy is; null: not found"),
    ],
};

static NOTE: Schema = Schema {
    name: "dead_letter_note",
    fields: &[
        field("action", Kind::Text, "edited, discarded, archived or restored"),
        field("by", Kind::Text, ""),
        field("reason", Kind::Text, ""),
        field("at_ms", Kind::Integer, ""),
    ],
};

static PLACE: Schema = Schema {
    name: "place",
    fields: &[
        field("topic", Kind::Text, ""),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
    ],
};

static WHICH: Schema = Schema {
    name: "which_dead_letters",
    fields: &[
        optional(
            "all",
            Kind::Flag,
            "Every one that nobody has decided about, of a restore every archived one; then nothing else is said",
        ),
        optional("letters", Kind::Many(&Kind::Integer), "Numbers, at most 1000"),
        optional("consumer", Kind::Text, ""),
        optional("group", Kind::Text, "The short name of a failure"),
        optional("topic", Kind::Text, ""),
        optional("key", Kind::Text, ""),
        optional("since_ms", Kind::Integer, "Last failure then or later"),
        optional("until_ms", Kind::Integer, "Last failure before"),
    ],
};

pub(super) const BY: Field = optional("by", Kind::Text, "Who does it, where no credential says so");
pub(super) const EXECUTE: Field = optional("execute", Kind::Flag, "Without `true` nothing is changed");
pub(super) const REASON: Field = field("reason", Kind::Text, "Why; it is kept with each letter");

pub(super) static REDRIVE_ASKED: Schema = Schema {
    name: "redrive_request",
    fields: &[
        field("which", Kind::Of(&WHICH), ""),
        optional("rate", NUMBER_OR_NULL, "So many in a second at most"),
        optional("id", TEXT_OR_NULL, "Under one id it is done once; a new one where it is missing"),
        BY,
        EXECUTE,
    ],
};

pub(super) static REDRIVE_BEGUN: Schema = Schema {
    name: "redrive_answer",
    fields: &[
        field("service", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("letters", Kind::Integer, "How many letters"),
        field("planned", Kind::Many(&Kind::Of(&PLANNED)), "What would be sent back, in a dry run"),
        field("redrive", Kind::OrNull(&Kind::Of(&REDRIVE)), "null in a dry run"),
        field("was_known", Kind::Flag, "Whether it was there before, and nothing more was asked for"),
    ],
};

static PLANNED: Schema = Schema {
    name: "planned_redrive",
    fields: &[
        field("consumer", Kind::Text, ""),
        field("topic", Kind::Text, ""),
        field("error", Kind::Text, ""),
        field("place", Kind::Text, ""),
        field("letters", Kind::Integer, ""),
        field("attempts", Kind::Integer, "How often their handlers were called"),
        field("repeats", Kind::Words(&["nothing", "calls to other systems"]), "What may happen again"),
    ],
};

pub(super) static REDRIVE: Schema = Schema {
    name: "redrive",
    fields: &[
        field("id", Kind::Text, ""),
        field("state", Kind::Words(&["running", "done", "cancelled", "unknown"]), ""),
        field("requested_by", Kind::Text, ""),
        field("requested_ms", Kind::Integer, ""),
        field("finished_ms", NUMBER_OR_NULL, ""),
        field("filter", Kind::Text, "What was asked for"),
        field("letters", Kind::Integer, "All of them"),
        field("pending", Kind::Integer, "Those that nobody has taken yet"),
        field("delivering", Kind::Integer, ""),
        field("handled", Kind::Integer, ""),
        field("failed", Kind::Integer, "Those that are dead again"),
        field("cancelled", Kind::Integer, ""),
    ],
};

pub(super) static RESULTS: Schema = Schema {
    name: "redrive_results",
    fields: &[
        field("redrive", Kind::Text, "Its id"),
        field("results", Kind::Many(&Kind::Of(&RESULT)), "By letter"),
        NEXT,
        field("total", Kind::Integer, ""),
    ],
};

static RESULT: Schema = Schema {
    name: "redrive_result",
    fields: &[
        field("letter", Kind::Integer, ""),
        field("result", Kind::Text, "pending, delivering, handled, failed or cancelled"),
        field("since_ms", Kind::Integer, ""),
        field("state", Kind::Text, "Where the letter stands now"),
    ],
};

pub(super) static CANCEL: Schema = Schema { name: "redrive_cancel", fields: &[BY] };

pub(super) static CLOSE: Schema = Schema {
    name: "dead_letters_decision",
    fields: &[field("which", Kind::Of(&WHICH), ""), REASON, BY, EXECUTE],
};

pub(super) static CLOSED: Schema = Schema {
    name: "dead_letters_decided",
    fields: &[
        field("service", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("action", Kind::Words(&["discard", "archive", "restore"]), ""),
        field("count", Kind::Integer, "How many letters"),
        field("letters", Kind::Many(&Kind::Of(&DECIDED)), "The first 1000 of them"),
        field("others", Kind::Many(&Kind::Text), "Sentences about letters that were named and stay"),
    ],
};

static DECIDED: Schema = Schema {
    name: "decided_letter",
    fields: &[
        field("letter", Kind::Integer, ""),
        field("position", Kind::Text, "TOPIC/PARTITION@OFFSET of its event"),
    ],
};

pub(super) static EDIT: Schema = Schema {
    name: "dead_letter_edit",
    fields: &[
        optional("value", Kind::Text, "What it says from now on; missing: what it said"),
        optional("value_encoding", Kind::OrNull(&Kind::Words(&["base64"])), "How bytes are written"),
        optional("headers", Kind::Many(&Kind::Of(&HEADER)), "In place of those of their names"),
        optional("deleted_headers", Kind::Many(&Kind::Text), "Headers that go"),
        optional(
            "force",
            Kind::Flag,
            "Also a value that is not what its content-type says, or that no handler reads",
        ),
        REASON,
        BY,
        EXECUTE,
    ],
};

static HEADER: Schema =
    Schema { name: "edited_header", fields: &[field("key", Kind::Text, ""), field("value", Kind::Text, "")] };

pub(super) static EDITED: Schema = Schema {
    name: "edited_dead_letter",
    fields: &[
        field("service", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("letter", Kind::Integer, ""),
        field("event_id", TEXT_OR_NULL, "The id that its event has now; null in a dry run"),
        field("original_event_id", TEXT_OR_NULL, "The id that it had"),
    ],
};

pub(super) static FOREIGN_TOPICS: Schema = Schema {
    name: "foreign_topics",
    fields: &[field("topics", Kind::Many(&Kind::Of(&FOREIGN_TOPIC)), "By name")],
};

static FOREIGN_TOPIC: Schema = Schema {
    name: "foreign_topic",
    fields: &[field("topic", Kind::Text, ""), field("records", Kind::Integer, "Offsets that are kept")],
};

const FRAMEWORK: Field =
    field("framework", Kind::Words(&["spring-kafka", "kafka-connect", "courant", "unknown"]), "");

pub(super) static FOREIGN_GROUPS: Schema = Schema {
    name: "foreign_failures",
    fields: &[
        field("topic", Kind::Text, ""),
        field("groups", Kind::Many(&Kind::Of(&FOREIGN_GROUP)), ""),
        field("records", Kind::Integer, "Offsets that are kept"),
        field("scanned", Kind::Integer, "Letters that were looked at, the newest ones"),
        field("is_complete", Kind::Flag, "Whether that is all of them"),
    ],
};

static FOREIGN_GROUP: Schema = Schema {
    name: "foreign_failure",
    fields: &[
        field("group", Kind::Text, "Its short name"),
        FRAMEWORK,
        field("original", TEXT_OR_NULL, "The topic that they come from"),
        field("consumer", TEXT_OR_NULL, "The group or the connector that has given up"),
        field("error", TEXT_OR_NULL, "Class of the error"),
        field("letters", Kind::Integer, ""),
        field("oldest_ms", Kind::Integer, ""),
        field("newest_ms", Kind::Integer, ""),
        field("newest", Kind::Of(&FOREIGN_PLACE), "The newest of them"),
    ],
};

static FOREIGN_PLACE: Schema = Schema {
    name: "foreign_place",
    fields: &[field("partition", Kind::Integer, ""), field("offset", Kind::Integer, "")],
};

pub(super) static FOREIGN_LETTERS: Schema = Schema {
    name: "foreign_dead_letters",
    fields: &[
        field("topic", Kind::Text, ""),
        field("letters", Kind::Many(&Kind::Of(&FOREIGN_LETTER)), ""),
        NEXT,
    ],
};

pub(super) static FOREIGN_DISCARD: Schema = Schema {
    name: "foreign_dead_letters_decision",
    fields: &[field("which", Kind::Of(&FOREIGN_WHICH), "One of its fields"), REASON, BY, EXECUTE],
};

static FOREIGN_WHICH: Schema = Schema {
    name: "foreign_dead_letters_meant",
    fields: &[
        optional("letters", Kind::Many(&Kind::Text), "PARTITION@OFFSET, at most 1000"),
        optional("group", Kind::Text, "All of this failure"),
        optional("all", Kind::Flag, "All of the topic"),
    ],
};

pub(super) static FOREIGN_DISCARDED: Schema = Schema {
    name: "foreign_dead_letters_decided",
    fields: &[
        field("topic", Kind::Text, ""),
        field("dry_run", Kind::Flag, ""),
        field("count", Kind::Integer, "How many letters, at most 10000"),
        field("letters", Kind::Many(&Kind::Text), "The first 1000 of them"),
        field("others", Kind::Many(&Kind::Text), "Sentences about letters that stay"),
    ],
};

static FOREIGN_LETTER: Schema = Schema {
    name: "foreign_dead_letter",
    fields: &[
        field("letter", Kind::Text, "PARTITION@OFFSET"),
        field("partition", Kind::Integer, ""),
        field("offset", Kind::Integer, ""),
        FRAMEWORK,
        field("original", TEXT_OR_NULL, "The topic that it comes from"),
        field("original_partition", NUMBER_OR_NULL, ""),
        field("original_offset", NUMBER_OR_NULL, ""),
        field("original_timestamp_ms", NUMBER_OR_NULL, ""),
        field("consumer", TEXT_OR_NULL, ""),
        field("timestamp_ms", Kind::Integer, "When it was written"),
        field("group", Kind::Text, ""),
        field("error", TEXT_OR_NULL, ""),
        field("wrapped_in", TEXT_OR_NULL, ""),
        field("message", TEXT_OR_NULL, "Texts are cut off behind 2 KiB; the record has all of them"),
        field("state", Kind::Words(&["dead"]), "Those that somebody has decided about are left out"),
    ],
};
