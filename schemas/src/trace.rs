//! Which trace a message belongs to: the header `traceparent` of W3C Trace Context.
//!
//! A header that does not hold to that recommendation is no error: there is no trace then. So says the
//! recommendation itself, and no job is worth less for it.

use std::fmt;
use std::str::FromStr;

/// The header's name, as it is written; case does not matter where it is read.
pub const TRACEPARENT: &str = "traceparent";

/// A span of a trace: the one that published a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    text: String,
}

/// A `traceparent` that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of W3C Trace Context")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The trace's id: 32 lower-case hexadecimal digits, not all zero.
    pub fn trace_id(&self) -> &str {
        &self.text[3..35]
    }

    /// The id of the span that published the message: 16 lower-case hexadecimal digits, not all zero.
    pub fn span_id(&self) -> &str {
        &self.text[36..52]
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Reads `<version>-<trace id>-<span id>-<flags>`. A version that is newer than this program is read
    /// as far as it is known, if what follows begins with another dash; version `ff` is forbidden.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_matches([' ', '\t']);
        let (known, rest) = text.split_at_checked(55).ok_or(InvalidTraceParent)?;
        let mut parts = known.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.bytes().all(is_hex).then_some(part)
        };
        let (version, trace, span, flags) = (part(2), part(32), part(16), part(2));
        let is_some_id =
            |id: Option<&str>| id.is_some_and(|id| id.bytes().any(|byte| byte != b'0'));
        let version_fits = match version {
            None | Some("ff") => false,
            Some("00") => rest.is_empty(),
            Some(_) => rest.is_empty() || rest.starts_with('-'),
        };
        if version_fits && flags.is_some() && is_some_id(trace) && is_some_id(span) {
            Ok(Self {
                text: known.to_owned(),
            })
        } else {
            Err(InvalidTraceParent)
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn the_recommendations_example_is_read() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let read: TraceParent = text.parse().unwrap();
        assert_eq!((read.trace_id(), read.span_id()), (TRACE, SPAN));
        assert_eq!(read.to_string(), text);
        assert_eq!(format!(" {text}\t").parse(), Ok(read));
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        for text in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"),
        ] {
            let read: TraceParent = text.parse().unwrap();
            assert_eq!((read.trace_id(), read.span_id()), (TRACE, SPAN));
        }
    }

    #[test]
    fn everything_else_is_none() {
        for text in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("0-0{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}{SPAN}--01"),
            format!("00_{TRACE}_{SPAN}_01"),
            "é".repeat(40),
        ] {
            assert_eq!(
                text.parse::<TraceParent>(),
                Err(InvalidTraceParent),
                "{text}"
            );
        }
    }
}
