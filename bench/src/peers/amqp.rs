//! AMQP 0-9-1, as far as producers and consumers of one queue need it.

use anyhow::{Context as _, Result, bail, ensure};

use super::connection::{self, Connection};

/// How a client begins.
const HELLO: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// The user that a server has from the beginning. It may come from loopback.
const SCHEME: &str = "amqp://guest:guest@";
const LOGIN: &str = "\0guest\0guest";

/// Kinds of frames, and what ends each.
pub(super) const METHOD: u8 = 1;
const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xce;
/// Kind, channel and length, and the end.
const FRAME_HEAD_BYTES: usize = 7;
/// What a server offers by default; frames here are far below.
const FRAME_BYTES_MAX: usize = 128 * 1024;
/// The one channel that is used, and the connection itself.
const CHANNEL: u16 = 1;
const WHOLE: u16 = 0;

/// Class and number of a method.
pub(super) type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const PUBLISH: Method = (60, 40);

/// Events are of this class, and are written to disk.
const BASIC: u16 = 60;
const WITH_DELIVERY_MODE: u16 = 0x1000;
const PERSISTENT: u8 = 2;

/// Connects, logs in and opens the channel. The server's version comes with it.
pub(super) fn open(address: &str) -> Result<(Connection, String)> {
    let mut connection = Connection::open(connection::place(address, SCHEME)?)?;
    connection.send(&HELLO)?;
    let start = wait_for(&mut connection, START)?;
    let version = version_in(&start).context("the server does not say its version")?;
    let hello = Args::default().table(&[]).short_text("PLAIN").long_text(LOGIN).short_text("en_US").0;
    connection.send(&method(WHOLE, START_OK, &hello)?)?;
    let tune = wait_for(&mut connection, TUNE)?;
    // What it offers, but for heartbeats: a measurement is short.
    let mut tuned = tune.get(..6).context("the server offers nothing")?.to_vec();
    tuned.extend_from_slice(&[0, 0]);
    connection.send(&method(WHOLE, TUNE_OK, &tuned)?)?;
    let home = Args::default().short_text("/").short_text("").byte(0).0;
    connection.send(&method(WHOLE, OPEN, &home)?)?;
    wait_for(&mut connection, OPEN_OK)?;
    call(&mut connection, CHANNEL_OPEN, &Args::default().short_text("").0, CHANNEL_OPEN_OK)?;
    Ok((connection, version))
}

/// Calls a method on the channel, and waits for what answers it.
pub(super) fn call(
    connection: &mut Connection,
    called: Method,
    args: &[u8],
    answer: Method,
) -> Result<Vec<u8>> {
    connection.send(&method(CHANNEL, called, args)?)?;
    wait_for(connection, answer)
}

fn wait_for(connection: &mut Connection, wanted: Method) -> Result<Vec<u8>> {
    loop {
        let (kind, payload) = connection.next(|bytes| {
            let found = frame(bytes)?;
            Ok(found.map(|(length, frame)| (length, (frame.kind, frame.payload.to_vec()))))
        })?;
        if kind == HEARTBEAT {
            continue;
        }
        ensure!(kind == METHOD, "the server sends a frame of kind {kind}, and method {wanted:?} was awaited");
        let (found, args) = method_in(&payload)?;
        ensure!(found == wanted, "the server calls method {found:?}, and {wanted:?} was awaited");
        return Ok(args.to_vec());
    }
}

/// A call of a method on the channel.
pub(super) fn on_channel(called: Method, args: &[u8]) -> Result<Vec<u8>> {
    method(CHANNEL, called, args)
}

fn method(channel: u16, (class, number): Method, args: &[u8]) -> Result<Vec<u8>> {
    let head = Args::default().short(class).short(number).0;
    framed(METHOD, channel, &[head.as_slice(), args].concat())
}

fn framed(kind: u8, channel: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len())?;
    let mut frame = Args::default().byte(kind).short(channel).int(length).0;
    frame.extend_from_slice(payload);
    frame.push(END);
    Ok(frame)
}

/// An event for a queue: a call, a header and a body.
pub(super) fn event(queue: &str, body: &[u8]) -> Result<Vec<u8>> {
    let call = Args::default().short(0).short_text("").short_text(queue).byte(0).0;
    let header = Args::default().short(BASIC).short(0).long(body.len() as u64);
    let header = header.short(WITH_DELIVERY_MODE).byte(PERSISTENT).0;
    let frames =
        [method(CHANNEL, PUBLISH, &call)?, framed(HEADER, CHANNEL, &header)?, framed(BODY, CHANNEL, body)?];
    Ok(frames.concat())
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'bytes> {
    pub(super) kind: u8,
    pub(super) payload: &'bytes [u8],
}

/// The frame at the front, and its length.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<(usize, Frame<'_>)>> {
    let [kind, _, _, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
    ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let end = FRAME_HEAD_BYTES + length;
    let Some(last) = bytes.get(end) else { return Ok(None) };
    ensure!(*last == END, "a frame does not end where it says");
    let payload = bytes.get(FRAME_HEAD_BYTES..end).unwrap_or_default();
    Ok(Some((end + 1, Frame { kind, payload })))
}

/// The method that a frame calls, and what it is called with. An end of the connection is an error.
pub(super) fn method_in(payload: &[u8]) -> Result<(Method, &[u8])> {
    let [a, b, c, d, args @ ..] = payload else { bail!("a method without a number") };
    let called = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    if called == CLOSE || called == CHANNEL_CLOSE {
        let reason = args.get(3..).unwrap_or_default();
        bail!("the server closes: {}", String::from_utf8_lossy(reason));
    }
    Ok((called, args))
}

/// The version among the properties of a server, all of which have names and texts.
fn version_in(start: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = start.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let (length, rest) = start.get(at..)?.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    Some(String::from_utf8_lossy(rest.get(..length)?).into_owned())
}

/// Arguments of a method. Numbers are big-endian.
#[derive(Debug, Default)]
pub(super) struct Args(pub(super) Vec<u8>);

impl Args {
    pub(super) fn byte(mut self, value: u8) -> Args {
        self.0.push(value);
        self
    }

    pub(super) fn short(mut self, value: u16) -> Args {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn int(mut self, value: u32) -> Args {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn long(mut self, value: u64) -> Args {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Names here are short.
    pub(super) fn short_text(self, value: &str) -> Args {
        let mut args = self.byte(u8::try_from(value.len()).unwrap_or(u8::MAX));
        args.0.extend_from_slice(value.as_bytes());
        args
    }

    pub(super) fn long_text(self, value: &str) -> Args {
        let mut args = self.int(u32::try_from(value.len()).unwrap_or(u32::MAX));
        args.0.extend_from_slice(value.as_bytes());
        args
    }

    /// Names with texts.
    pub(super) fn table(self, entries: &[(&str, &str)]) -> Args {
        let mut table = Args::default();
        for (name, value) in entries {
            table = table.short_text(name).byte(b'S').long_text(value);
        }
        let mut args = self.int(u32::try_from(table.0.len()).unwrap_or(u32::MAX));
        args.0.extend_from_slice(&table.0);
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_or_none() {
        let bytes = method(CHANNEL, (60, 80), &[7]).unwrap();
        assert_eq!(bytes, [1, 0, 1, 0, 0, 0, 5, 0, 60, 0, 80, 7, END]);
        let (length, found) = frame(&bytes).unwrap().unwrap();
        assert_eq!((length, found.kind), (bytes.len(), METHOD));
        assert_eq!(method_in(found.payload).unwrap(), ((60, 80), [7].as_slice()));
        for length in 0..bytes.len() {
            assert_eq!(frame(&bytes[..length]).unwrap(), None, "{length}");
        }
        assert!(frame(&[1, 0, 1, 0, 0, 0, 0, 0]).is_err());
        assert!(frame(&[1, 0, 1, 0xff, 0, 0, 0]).is_err());
    }

    #[test]
    fn an_event_is_three_frames() {
        let event = event("q", b"hi").unwrap();
        let (first, call) = frame(&event).unwrap().unwrap();
        assert_eq!(method_in(call.payload).unwrap(), (PUBLISH, [0, 0, 0, 1, b'q', 0].as_slice()));
        let (second, header) = frame(&event[first..]).unwrap().unwrap();
        assert_eq!(header.payload, [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0, 2]);
        let (third, body) = frame(&event[first + second..]).unwrap().unwrap();
        assert_eq!((body.kind, body.payload), (BODY, b"hi".as_slice()));
        assert_eq!(first + second + third, event.len());
    }

    #[test]
    fn the_end_of_a_channel_is_an_error_with_its_reason() {
        let args = Args::default().short(406).short_text("PRECONDITION_FAILED").0;
        let closed = method(CHANNEL, CHANNEL_CLOSE, &args).unwrap();
        let (_, found) = frame(&closed).unwrap().unwrap();
        let error = method_in(found.payload).unwrap_err();
        assert!(error.to_string().contains("PRECONDITION_FAILED"), "{error}");
    }

    #[test]
    fn the_version_is_one_of_the_properties() {
        let start = Args::default().byte(0).byte(9).table(&[("product", "RabbitMQ"), ("version", "3.10.8")]);
        assert_eq!(version_in(&start.0).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"\x07versionS\0\0\0\x09short"), None);
    }
}
