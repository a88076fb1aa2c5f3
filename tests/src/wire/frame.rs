//! The client protocol of NATS, taken apart just enough to tell messages from the rest.

use bytes::{Bytes, BytesMut};

/// One line of the protocol, with its payload where it has one.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// As it was read.
    pub(super) bytes: Bytes,
    /// What it carries, where it is a message in either direction.
    pub(super) message: Option<Message>,
}

/// What a `PUB`, `HPUB`, `MSG` or `HMSG` carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    /// Without the headers.
    pub(super) payload: Bytes,
}

/// Takes the first frame out of what was read; `None` while it is not all there.
pub(super) fn take(read: &mut BytesMut) -> Option<Frame> {
    let line_end = read.windows(2).position(|two| two == b"\r\n")? + 2;
    let line = String::from_utf8_lossy(&read[..line_end]).into_owned();
    let Some(shape) = Shape::of(&line) else {
        let bytes = read.split_to(line_end).freeze();
        return Some(Frame {
            bytes,
            message: None,
        });
    };
    let whole = line_end + shape.total + 2;
    if read.len() < whole {
        return None;
    }
    let bytes = read.split_to(whole).freeze();
    let payload = bytes.slice(line_end + shape.headers..whole - 2);
    Some(Frame {
        bytes,
        message: Some(Message {
            subject: shape.subject,
            reply: shape.reply,
            payload,
        }),
    })
}

/// What the line of a message says.
struct Shape {
    subject: String,
    reply: Option<String>,
    /// Bytes of headers.
    headers: usize,
    /// Bytes of headers and payload.
    total: usize,
}

impl Shape {
    /// `None` for a line that carries no message.
    fn of(line: &str) -> Option<Self> {
        let mut words: Vec<_> = line.split_ascii_whitespace().collect();
        // Between subject and sizes there is the subscription's number in what a server sends, and in
        // either direction perhaps a reply subject.
        let (numbered, sizes) = match words.first()?.to_ascii_uppercase().as_str() {
            "PUB" => (false, 1),
            "HPUB" => (false, 2),
            "MSG" => (true, 1),
            "HMSG" => (true, 2),
            _ => return None,
        };
        let total = words.pop()?.parse().ok()?;
        let headers = match sizes {
            2 => words.pop()?.parse().ok()?,
            _ => 0,
        };
        let mut words = words.into_iter().skip(1);
        let subject = words.next()?.to_owned();
        if numbered {
            words.next()?;
        }
        let reply = words.next().map(str::to_owned);
        Some(Self {
            subject,
            reply,
            headers,
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Vec<Frame>, usize) {
        let mut read = BytesMut::from(text);
        let mut frames = Vec::new();
        while let Some(frame) = take(&mut read) {
            frames.push(frame);
        }
        (frames, read.len())
    }

    fn message(subject: &str, reply: Option<&str>, payload: &'static str) -> Option<Message> {
        Some(Message {
            subject: subject.to_owned(),
            reply: reply.map(str::to_owned),
            payload: Bytes::from(payload),
        })
    }

    #[test]
    fn messages_of_both_directions_are_taken_apart() {
        let (frames, rest) = all("PING\r\n\
             PUB a.b 2\r\nhi\r\n\
             PUB a.b r.1 0\r\n\r\n\
             HPUB a.b r.1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
             MSG a.b 7 2\r\nhi\r\n\
             HMSG a.b 7 r.1 12 14\r\nNATS/1.0\r\n\r\n\r\n\r\n");
        let messages: Vec<_> = frames.into_iter().map(|frame| frame.message).collect();
        let expected = [
            None,
            message("a.b", None, "hi"),
            message("a.b", Some("r.1"), ""),
            message("a.b", Some("r.1"), "hi"),
            message("a.b", None, "hi"),
            message("a.b", Some("r.1"), "\r\n"),
        ];
        assert_eq!(messages, expected);
        assert_eq!(rest, 0);
    }

    #[test]
    fn what_is_not_all_there_is_waited_for() {
        for partial in ["PUB a", "PUB a 5\r\nhell", "PUB a 5\r\nhello\r", "PIN"] {
            let (frames, rest) = all(partial);
            assert!(frames.is_empty(), "{partial:?}: {frames:?}");
            assert_eq!(rest, partial.len());
        }
    }
}
