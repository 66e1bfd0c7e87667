//! The wire format of protocol buffers: fields read in place, every length checked against what is there.

use std::ops::Range;

use crate::{Error, Result};

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// An integer, enumeration or boolean.
    Varint(u64),
    /// A string, message or packed list.
    Bytes(&'a [u8]),
    /// 32 or 64 bits, which ONNX uses for floats only.
    Fixed,
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Field<'a> {
    /// Its number in the schema.
    pub number: u32,
    /// What it holds.
    pub content: Content<'a>,
    /// Where it lies in the file, tag included.
    pub range: Range<usize>,
}

impl<'a> Field<'a> {
    /// The message, string or packed list in it.
    ///
    /// # Errors
    /// The field is a number.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(broken(
                self.range.start,
                format!("field {} is a number where a message or text belongs", self.number),
            )),
        }
    }

    /// Where the content lies in the file.
    pub fn payload(&self) -> Range<usize> {
        match self.content {
            Content::Bytes(bytes) => self.range.end - bytes.len()..self.range.end,
            _ => self.range.clone(),
        }
    }

    /// The fields of the message in it.
    ///
    /// # Errors
    /// The field is a number.
    pub fn message(&self) -> Result<Reader<'a>> {
        let bytes = self.bytes()?;
        Ok(Reader { bytes, at: 0, origin: self.range.end - bytes.len() })
    }

    /// The text in it.
    ///
    /// # Errors
    /// The field is a number or not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|_| broken(self.range.start, format!("field {} is not UTF-8 text", self.number)))
    }

    /// The integer in it.
    ///
    /// # Errors
    /// The field is not an integer.
    pub fn integer(&self) -> Result<i64> {
        match self.content {
            Content::Varint(value) => Ok(value as i64), // two's complement, as the format has it
            _ => Err(broken(self.range.start, format!("field {} is not an integer", self.number))),
        }
    }

    /// The integers of a repeated field, which may be packed or one by one; at most `limit` of them are read.
    ///
    /// # Errors
    /// It is cut off, not made of integers, or `into` would grow past `limit`.
    pub fn integers(&self, into: &mut Vec<i64>, limit: usize) -> Result<()> {
        if let Content::Varint(value) = self.content {
            into.push(value as i64);
        } else {
            let mut reader = self.message()?;
            while !reader.is_empty() {
                into.push(reader.varint()? as i64);
                if into.len() > limit {
                    break;
                }
            }
        }
        if into.len() > limit {
            return Err(broken(self.range.start, format!("field {} lists more than {limit} values", self.number)));
        }
        Ok(())
    }
}

/// Reads a message field by field.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begin in the file, for error messages.
    origin: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a whole file.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, origin: 0 }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn here(&self) -> usize {
        self.origin + self.at
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.here();
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let &byte = self.bytes.get(self.at).ok_or_else(|| broken(start, "an integer is cut off"))?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(broken(start, "an integer is longer than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= left)
            .ok_or_else(|| broken(self.here(), format!("a field announces {length} bytes where {left} are left")))?;
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// The next field, `None` at the end of the message.
    ///
    /// # Errors
    /// The message is cut off or not a protocol buffer; the error has the byte.
    pub fn field(&mut self) -> Result<Option<Field<'a>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let start = self.here();
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        if number == 0 {
            return Err(broken(start, "a field has no valid number"));
        }
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            other => return Err(broken(start, format!("field {number} has the unknown wire type {other}"))),
        };
        Ok(Some(Field { number, content, range: start..self.here() }))
    }
}

fn broken(at: usize, what: impl std::fmt::Display) -> Error {
    Error::failed(format!("broken at byte {at}: {what}"))
}

/// A message under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// The encoded bytes.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// Adds an integer.
    #[must_use]
    pub fn integer(mut self, number: u32, value: i64) -> Self {
        push_varint(&mut self.0, u64::from(number) << 3);
        push_varint(&mut self.0, value as u64);
        self
    }

    /// Adds text or other bytes.
    #[must_use]
    pub fn bytes(mut self, number: u32, value: &[u8]) -> Self {
        push_length(&mut self.0, number, value.len());
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, number: u32, value: &Self) -> Self {
        self.bytes(number, &value.0)
    }
}

/// Writes the tag and the length of a field whose content follows.
pub fn push_length(into: &mut Vec<u8>, number: u32, length: usize) {
    push_varint(into, u64::from(number) << 3 | 2);
    push_varint(into, length as u64);
}

fn push_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<Field<'_>>> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        while let Some(field) = reader.field()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let message =
            Message::default().integer(1, -5).bytes(2, b"name").message(16, &Message::default().integer(3, 300));
        let read = fields(message.encoded()).unwrap();
        assert_eq!(read[0].integer().unwrap(), -5);
        assert_eq!(read[1].text().unwrap(), "name");
        let inner = read[2].message().unwrap().field().unwrap().unwrap();
        assert_eq!((inner.number, inner.integer().unwrap()), (3, 300));
        assert_eq!(read[2].range.end, message.encoded().len());
    }

    #[test]
    fn broken_messages_are_errors_with_the_byte() {
        for (bytes, words) in [
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], "byte 6: a field announces 4294967295 bytes where 0"),
            (&[0x08], "byte 1: an integer is cut off"),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "longer than 64 bits"),
            (&[0x0b], "wire type 3"),
            (&[0x00], "no valid number"),
            (&[0x0d, 1, 2], "announces 4 bytes where 2"),
        ] {
            let error = fields(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn lists_of_integers_packed_or_not() {
        let mut values = Vec::new();
        for field in fields(&[0x0a, 3, 1, 0xac, 0x02, 0x08, 7]).unwrap() {
            field.integers(&mut values, 10).unwrap();
        }
        assert_eq!(values, [1, 300, 7]);
        assert!(fields(&[0x0a, 3, 1, 2, 3]).unwrap()[0].integers(&mut Vec::new(), 2).is_err());
    }
}
