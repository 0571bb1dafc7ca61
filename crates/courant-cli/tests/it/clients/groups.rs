//! Consumer groups with clients that nobody here wrote, each with its defaults.

use std::collections::BTreeSet;
use std::iter;
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use super::member::{Member, Place, listen_until};
use super::program::Program;
use super::{compatibility, keyed, rdkafka_client};
use crate::example;
use crate::server::{Launch, Server, fixed_port};

const PARTITIONS: i32 = 6;
const TOPIC: &str = "orders";
const GROUP: &str = "billing";

/// Records of one step.
const RECORDS: usize = 120;

/// What makes a library join again, with its defaults, though nobody has asked it to.
struct Habit {
    why: &'static str,
    /// Options of its program that make it rarer, or leave it out.
    without: &'static [&'static str],
}

/// A leader that finds its coordinator before its topics takes that for topics without partitions, and has
/// them assigned anew.
const FORGETS_TOPICS: Habit = Habit {
    why: "it forgets its topics while no server answers, and may then assign them anew of itself; not with \
          metadata.recovery.strategy=none",
    without: &["--recovery", "none"],
};

/// Three refused connections, or four, end the session of a member for it, and take less than a second.
const GIVES_UP: Habit = Habit {
    why: "a heartbeat that finds no server ends its session, long before the server does, and it joins again",
    without: &["--session-ms", "90000"],
};

/// How often a library with a habit is tried without it: a server that forgets its members does so each time.
const TRIES: usize = 5;

/// A library whose consumers are members of groups.
struct Client {
    name: &'static str,
}

impl Client {
    /// The program that becomes a member; rdkafka's is built with the tests.
    fn command(&self) -> Option<Command> {
        if self.name == "rdkafka" {
            return Some(Command::new(example("rdkafka_client")));
        }
        Program::find(self.name).map(|program| program.command())
    }

    fn join(&self, server: &Server) -> Member {
        self.join_with(server, &[])
    }

    fn join_with(&self, server: &Server, options: &[&str]) -> Member {
        let command = self.command().expect("it was there before");
        Member::start_with(command, self.name, &server.bootstrap(), TOPIC, GROUP, options)
    }

    fn habit(&self) -> Option<Habit> {
        match self.name {
            "kafka-clients-4" => Some(FORGETS_TOPICS),
            "franz-go" | "sarama" => Some(GIVES_UP),
            _ => None,
        }
    }

    /// Says what came of restarts of the server.
    fn tell_of_restarts(&self) {
        compatibility::passed(self.name, compatibility::RESTART);
        match self.habit() {
            None => compatibility::passed(self.name, compatibility::CALM),
            Some(habit) => compatibility::unsupported(self.name, compatibility::CALM, habit.why),
        }
    }

    /// Whether the program is there; says so if not.
    fn is_here(&self, test: &str) -> bool {
        let test = format!("clients::groups::{}::{test}", self.name.replace(['-', '.'], "_"));
        self.command().is_some() || Program::find_or_skip(self.name, &test).is_some()
    }
}

fn start(data: &Path, port: u16) -> Server {
    Launch::on(data).port(port).start()
}

/// Writes keyed records and returns how many the topic then has.
fn write(server: &Server, written: &mut usize) -> usize {
    let reports = rdkafka_client::produce(&server.bootstrap(), TOPIC, &[], &keyed(RECORDS, "rdkafka"));
    assert!(reports.iter().all(Result::is_ok), "{reports:?}");
    *written += RECORDS;
    *written
}

fn all() -> BTreeSet<i32> {
    (0..PARTITIONS).collect()
}

/// Whether these members hold all partitions, each of them once, and everyone has some.
fn share(members: &[&mut Member]) -> bool {
    let held: Vec<i32> = members.iter().flat_map(|member| member.held.iter().copied()).collect();
    held.len() == all().len()
        && held.into_iter().collect::<BTreeSet<_>>() == all()
        && members.iter().all(|member| !member.held.is_empty())
}

fn handed_out(members: &[&mut Member]) -> usize {
    members.iter().map(|member| member.records.len()).sum()
}

/// Every record was handed out, and none of them twice.
fn assert_each_once(written: usize, members: &[&Member]) {
    let mut places: Vec<Place> = members.iter().flat_map(|member| member.records.iter().copied()).collect();
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!((places.len(), count), (written, written), "records handed out: different, all");
}

/// Two members share the topic, a third comes, the first goes: every record is handled once.
fn members_come_and_go(client: &Client) {
    let data = tempdir().unwrap();
    let server = start(data.path(), 0);
    server.create_topic(TOPIC, PARTITIONS);
    let mut written = 0;
    let now = write(&server, &mut written);
    let (mut a, mut b) = (client.join(&server), client.join(&server));
    listen_until("two share", &mut [&mut a, &mut b], |both| share(both) && handed_out(both) == now);
    let now = write(&server, &mut written);
    let mut c = client.join(&server);
    listen_until("three share", &mut [&mut a, &mut b, &mut c], |three| {
        share(three) && handed_out(three) == now
    });
    let now = write(&server, &mut written);
    listen_until("three have all", &mut [&mut a, &mut b, &mut c], |three| handed_out(three) == now);
    a.stop();
    let of_a = a.records.len();
    let now = write(&server, &mut written);
    listen_until("the two that are left share", &mut [&mut b, &mut c], |two| {
        share(two) && of_a + handed_out(two) == now
    });
    b.stop();
    c.stop();
    assert_each_once(written, &[&a, &b, &c]);
}

/// What was committed is not handed out again, and nothing is left out.
fn a_member_goes_on_where_it_committed(client: &Client) {
    let data = tempdir().unwrap();
    let server = start(data.path(), 0);
    server.create_topic(TOPIC, PARTITIONS);
    let mut written = 0;
    let now = write(&server, &mut written);
    let mut first = client.join(&server);
    listen_until("it has all", &mut [&mut first], |one| handed_out(one) == now);
    first.stop();
    let then = write(&server, &mut written);
    let mut second = client.join(&server);
    listen_until("it has the rest", &mut [&mut second], |one| handed_out(one) == then - now);
    second.stop();
    assert_each_once(written, &[&first, &second]);
}

/// The server is killed and comes back: nothing is lost, nothing comes twice, nobody has to join again.
fn a_member_outlives_the_server(client: &Client) {
    let defaults: &[&str] = &[];
    let without = client.habit().map(|habit| habit.without);
    let again = without.into_iter().flat_map(|options| iter::repeat_n(options, TRIES));
    let mut tries = iter::once(defaults).chain(again);
    assert!(tries.any(|options| changes_over_a_restart(client, options) == 1), "a restart is no rebalance");
}

/// How often the partitions of a member change while the server is killed and comes back. It is handed
/// every record once, and what it commits as the member that it was is taken.
fn changes_over_a_restart(client: &Client, options: &[&str]) -> usize {
    let data = tempdir().unwrap();
    // Nobody else is given it while the server is away.
    let port = fixed_port();
    let server = start(data.path(), port);
    server.create_topic(TOPIC, PARTITIONS);
    let mut written = 0;
    let now = write(&server, &mut written);
    let mut member = client.join_with(&server, options);
    listen_until("it has all", &mut [&mut member], |one| handed_out(one) == now);
    member.ask("commit", "committed");
    server.kill();
    let server = start(data.path(), port);
    let now = write(&server, &mut written);
    listen_until("it goes on", &mut [&mut member], |one| handed_out(one) == now);
    let changes = member.changes;
    member.stop();
    assert_each_once(written, &[&member]);
    assert!(!server.log().contains("panicked"));
    changes
}

/// A paused member is handed nothing, and one that seeks what it asked for.
fn a_member_pauses_and_seeks(client: &Client) {
    let data = tempdir().unwrap();
    let server = start(data.path(), 0);
    server.create_topic(TOPIC, PARTITIONS);
    let mut written = 0;
    let now = write(&server, &mut written);
    let mut member = client.join(&server);
    listen_until("it has all", &mut [&mut member], |one| handed_out(one) == now);
    member.ask("pause", "paused");
    let then = write(&server, &mut written);
    // A commit is an answer of the server: until then it could have been handed something.
    member.ask("commit", "committed");
    assert_eq!(member.records.len(), now, "it was paused");
    member.ask("resume", "resumed");
    listen_until("it goes on", &mut [&mut member], |one| handed_out(one) == then);
    let again = member.records.iter().filter(|(partition, _)| *partition == 2).count();
    member.ask("seek 2 0", "sought");
    listen_until("it begins anew", &mut [&mut member], |one| handed_out(one) == then + again);
    assert_eq!(member.records[then], (2, 0));
    member.stop();
}

macro_rules! clients {
    ($($module:ident $name:literal;)*) => {
        $(
            mod $module {
                use super::{Client, compatibility};

                const CLIENT: Client = Client { name: $name };

                #[test]
                fn members_come_and_go() {
                    if CLIENT.is_here("members_come_and_go") {
                        super::members_come_and_go(&CLIENT);
                        compatibility::passed(CLIENT.name, compatibility::COME_AND_GO);
                    }
                }

                #[test]
                fn a_member_goes_on_where_it_committed() {
                    if CLIENT.is_here("a_member_goes_on_where_it_committed") {
                        super::a_member_goes_on_where_it_committed(&CLIENT);
                        compatibility::passed(CLIENT.name, compatibility::RESUME);
                    }
                }

                #[test]
                fn a_member_outlives_the_server() {
                    if CLIENT.is_here("a_member_outlives_the_server") {
                        super::a_member_outlives_the_server(&CLIENT);
                        CLIENT.tell_of_restarts();
                    }
                }

                #[test]
                fn a_member_pauses_and_seeks() {
                    if CLIENT.is_here("a_member_pauses_and_seeks") {
                        super::a_member_pauses_and_seeks(&CLIENT);
                        compatibility::passed(CLIENT.name, compatibility::SEEK);
                    }
                }
            }
        )*
    };
}

clients! {
    rdkafka "rdkafka";
    confluent_kafka "confluent-kafka";
    kafka_python "kafka-python";
    aiokafka "aiokafka";
    kafka_clients_3_9 "kafka-clients-3.9";
    kafka_clients_4 "kafka-clients-4";
    franz_go "franz-go";
    sarama "sarama";
    kafkajs "kafkajs";
    platformatic_kafka "platformatic-kafka";
}
