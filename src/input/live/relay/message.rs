//! RTSP on the wire (RFC 2326, sections 4, 6, 7 and 10.12), with limits on whatever a peer announces.
//!
//! Lenient, as cameras are: line feeds alone end lines, and bytes that belong to no message are skipped.

/// Largest head of a message, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Largest body of a message: session descriptions take a few kilobytes.
const MAX_BODY: usize = 256 * 1024;
/// Limit of consecutive bytes that belong to no message.
const MAX_JUNK: usize = 1024 * 1024;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request or status line.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An item of an RTSP connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    /// An interleaved packet with its header of four bytes.
    Packet(Vec<u8>),
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Replaces all headers of this name by one.
    pub fn set_header(&mut self, name: &str, value: impl Into<String>) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    pub fn sequence(&self) -> Option<u32> {
        self.header("CSeq")?.trim().parse().ok()
    }

    /// The status code of a response; none for a request.
    pub fn status(&self) -> Option<u16> {
        let rest = self.start.strip_prefix("RTSP/")?;
        rest.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// Method and URI of a request.
    pub fn request(&self) -> Option<(&str, &str)> {
        let mut words = self.start.split_ascii_whitespace();
        let (method, uri) = (words.next()?, words.next()?);
        (!method.starts_with("RTSP/")).then_some((method, uri))
    }

    pub fn write(&self, to: &mut Vec<u8>) {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in self.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        to.extend_from_slice(head.as_bytes());
        to.extend_from_slice(b"\r\n");
        to.extend_from_slice(&self.body);
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let start = lines.next()?.trim().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match line.split_once(':') {
                // A continued line belongs to the header before it.
                _ if line.starts_with([' ', '\t']) => {
                    if let Some((_, value)) = headers.last_mut() {
                        value.push(' ');
                        value.push_str(line.trim());
                    }
                }
                Some((name, value)) => headers.push((name.trim().to_owned(), value.trim().to_owned())),
                None => {}
            }
        }
        Some(Self { start, headers, body: Vec::new() })
    }
}

/// Splits received bytes into messages and packets.
#[derive(Default)]
pub(crate) struct Splitter {
    bytes: Vec<u8>,
    /// Consecutive bytes skipped, and all.
    junk: usize,
    skipped: u64,
}

/// The interleaved channels that are expected.
pub(crate) type Channels<'a> = dyn Fn(u8) -> bool + 'a;

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of skipped bytes so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next complete item.
    ///
    /// # Errors
    /// The peer announces too much, or does not speak RTSP; as text.
    pub fn next(&mut self, expected: &Channels<'_>) -> Result<Option<Item>, String> {
        loop {
            match begin(&self.bytes, expected) {
                Begin::Packet(length) => {
                    self.junk = 0;
                    if self.bytes.len() < length {
                        return Ok(None);
                    }
                    return Ok(Some(Item::Packet(self.bytes.drain(..length).collect())));
                }
                Begin::Message => {
                    self.junk = 0;
                    return self.message();
                }
                Begin::Unknown => return Ok(None),
                Begin::Junk => {
                    let next =
                        (1..self.bytes.len()).find(|at| !matches!(begin(&self.bytes[*at..], expected), Begin::Junk));
                    let count = next.unwrap_or(self.bytes.len());
                    self.bytes.drain(..count);
                    self.skipped += count as u64;
                    self.junk += count;
                    if self.junk > MAX_JUNK {
                        return Err("it does not speak RTSP".to_owned());
                    }
                }
            }
        }
    }

    fn message(&mut self) -> Result<Option<Item>, String> {
        let Some((head, body)) = head_of(&self.bytes) else {
            if self.bytes.len() > MAX_HEAD {
                return Err(format!("the head of a message is longer than {} KB", MAX_HEAD / 1024));
            }
            return Ok(None);
        };
        if head > MAX_HEAD {
            return Err(format!("the head of a message is longer than {} KB", MAX_HEAD / 1024));
        }
        let Some(mut message) = Message::parse(&self.bytes[..head]) else { return Ok(None) };
        let length = match message.header("Content-Length") {
            Some(length) => length.parse::<usize>().map_err(|_| format!("a malformed Content-Length: {length:.20}"))?,
            None => 0,
        };
        if length > MAX_BODY {
            return Err(format!("it announces a body of {length} bytes, the limit is {} KB", MAX_BODY / 1024));
        }
        if self.bytes.len() < body + length {
            return Ok(None);
        }
        message.body = self.bytes[body..body + length].to_vec();
        self.bytes.drain(..body + length);
        Ok(Some(Item::Message(message)))
    }
}

enum Begin {
    /// An interleaved packet of so many bytes.
    Packet(usize),
    Message,
    /// Too few bytes to decide.
    Unknown,
    Junk,
}

/// The kind of item that `bytes` begin with.
fn begin(bytes: &[u8], expected: &Channels<'_>) -> Begin {
    match bytes {
        [] => Begin::Unknown,
        [b'$', channel, ..] if !expected(*channel) => Begin::Junk,
        // Packets begin with version 2 of RTP or RTCP.
        [b'$', _, high, low, version, ..] if version >> 6 == 2 => {
            Begin::Packet(4 + usize::from(u16::from_be_bytes([*high, *low])))
        }
        [b'$', _, 0, 0, ..] => Begin::Packet(4),
        [b'$'] | [b'$', _] | [b'$', _, _] | [b'$', _, _, _] => Begin::Unknown,
        _ => words(bytes),
    }
}

/// Whether `bytes` begin with a status line or a request of those that servers send.
fn words(bytes: &[u8]) -> Begin {
    const WORDS: [&[u8]; 13] = [
        b"RTSP/",
        b"OPTIONS ",
        b"DESCRIBE ",
        b"SETUP ",
        b"PLAY ",
        b"PAUSE ",
        b"TEARDOWN ",
        b"GET_PARAMETER ",
        b"SET_PARAMETER ",
        b"ANNOUNCE ",
        b"RECORD ",
        b"REDIRECT ",
        b"PLAY_NOTIFY ",
    ];
    let fits = |word: &[u8]| bytes.iter().zip(word).all(|(a, b)| a == b);
    match WORDS.iter().find(|word| fits(word)) {
        Some(word) if bytes.len() >= word.len() => Begin::Message,
        Some(_) => Begin::Unknown,
        None => Begin::Junk,
    }
}

/// The lengths of the head without and with the empty line after it.
fn head_of(bytes: &[u8]) -> Option<(usize, usize)> {
    (0..bytes.len()).find_map(|at| {
        let rest = &bytes[at..];
        if rest.starts_with(b"\r\n\r\n") {
            Some((at, at + 4))
        } else if rest.starts_with(b"\n\n") {
            Some((at, at + 2))
        } else if rest.starts_with(b"\n\r\n") {
            Some((at, at + 3))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], piece: usize) -> Result<(Vec<Item>, u64), String> {
        let (mut splitter, mut items) = (Splitter::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            splitter.push(piece);
            while let Some(item) = splitter.next(&|channel| channel < 2)? {
                items.push(item);
            }
        }
        Ok((items, splitter.skipped()))
    }

    const PACKET: &[u8] = b"$\x00\x00\x05\x80\x60\x00\x01\x02";
    const ANSWER: &[u8] = b"RTSP/1.0 200 OK\r\ncseq: 7\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn messages_and_packets_in_pieces_of_any_length() {
        let stream = [PACKET, ANSWER, PACKET, b"OPTIONS * RTSP/1.0\nCSeq: 2\n\n", PACKET].concat();
        for piece in 1..stream.len() {
            let (items, skipped) = all(&stream, piece).unwrap();
            assert_eq!((items.len(), skipped), (5, 0), "{piece}");
            assert_eq!(items[0], Item::Packet(PACKET.to_vec()));
            let Item::Message(answer) = &items[1] else { panic!("{items:?}") };
            assert_eq!((answer.status(), answer.sequence(), answer.body.as_slice()), (Some(200), Some(7), &b"abc"[..]));
            let Item::Message(request) = &items[3] else { panic!("{items:?}") };
            assert_eq!(request.request(), Some(("OPTIONS", "*")));
        }
    }

    #[test]
    fn junk_is_skipped_up_to_the_next_packet_or_message() {
        let stream = [PACKET, b"\x07jun$k$\x09\x00\x01", PACKET, b"\x00\x01\x02", ANSWER, PACKET].concat();
        for piece in [1, 3, stream.len()] {
            let (items, skipped) = all(&stream, piece).unwrap();
            assert_eq!((items.len(), skipped), (4, 13), "{piece}");
        }
        assert!(all(&vec![b'x'; MAX_JUNK + 10], 4096).unwrap_err().contains("does not speak RTSP"));
    }

    #[test]
    fn nothing_is_taken_without_a_bound() {
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: 700000000\r\n\r\n";
        assert!(all(body, 10).unwrap_err().contains("700000000"));
        let head = [b"RTSP/1.0 200 OK\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat();
        assert!(all(&head, 1000).unwrap_err().contains("32 KB"));
        assert!(all(b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", 10).is_err());
    }

    #[test]
    fn headers_are_replaced_and_the_length_is_that_of_the_body() {
        let (items, _) = all(ANSWER, 10).unwrap();
        let Item::Message(mut message) = items.into_iter().next().unwrap() else { panic!() };
        message.set_header("CSeq", "9");
        message.body = b"longer".to_vec();
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        assert_eq!(bytes, b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nContent-Length: 6\r\n\r\nlonger");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), piece in 1usize..50) {
            let _ = all(&bytes, piece);
        }
    }
}
