//! As much of Python's pickle format as the CIFAR archives use: protocols 0x80 0x02 to 0x05 with
//! numbers, texts, lists, dictionaries, and NumPy arrays of bytes.
//!
//! Source: `Lib/pickletools.py` of CPython, which documents the machine and its opcodes. Nothing is
//! ever called: what a pickle would build by a call is an [`Node::Object`] that remembers the state
//! it was given. Values stand in one list and name each other by place, so that a deep or
//! cross-linked pickle costs no more than its bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::limits::PICKLE_VALUES;

/// A value; the numbers are places in [`Pickle::nodes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// None, a boolean, a float, a global: nothing that CIFAR needs.
    Other,
    Int(i64),
    /// Bytes or text, as a part of the pickle.
    Bytes(Range<usize>),
    /// A list or a tuple.
    List(Vec<usize>),
    /// Keys and values in turn.
    Dict(Vec<usize>),
    /// Something that a call would have built, and the state given to it.
    Object(Option<usize>),
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    root: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle, or says in words what is wrong.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            nodes: vec![Node::Other],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        };
        let root = machine.run()?;
        Ok(Self { bytes, nodes: machine.nodes, root })
    }

    /// The value of a key of the dictionary that the pickle is.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Node::Dict(entries) = &self.nodes[self.root] else { return None };
        let is = |entry: &&[usize]| self.text(entry[0]) == Some(key.as_bytes());
        entries.chunks_exact(2).find(is).map(|entry| &self.nodes[entry[1]])
    }

    /// The numbers of a list of small whole numbers.
    pub(super) fn ints(&self, node: &Node) -> Option<Vec<i64>> {
        let Node::List(items) = node else { return None };
        let int = |&item: &usize| match self.nodes[item] {
            Node::Int(value) => Some(value),
            _ => None,
        };
        items.iter().map(int).collect()
    }

    /// Rows, columns and bytes of a NumPy array: its state is (version, shape, dtype,
    /// column-major?, bytes).
    pub(super) fn array(&self, node: &Node) -> Option<(Vec<i64>, &'a [u8])> {
        let Node::Object(Some(state)) = *node else { return None };
        let Node::List(state) = &self.nodes[state] else { return None };
        let &[_, shape, _, _, data] = &state[..] else { return None };
        Some((self.ints(&self.nodes[shape])?, self.text(data)?))
    }

    fn text(&self, node: usize) -> Option<&'a [u8]> {
        match &self.nodes[node] {
            Node::Bytes(range) => self.bytes.get(range.clone()),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<usize, usize>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let start = self.at;
            let kept = self.nodes.len() + self.stack.len() + self.marks.len() + self.memo.len();
            if kept > PICKLE_VALUES {
                return Err(format!("more than {PICKLE_VALUES} values at byte {start}"));
            }
            let code = self.number(1)? as u8;
            match code {
                b'.' => return self.pop(),
                0x80 => self.skip(1)?, // the protocol
                0x95 => self.skip(8)?, // a frame
                b'(' => self.marks.push(self.stack.len()),
                b'N' | 0x88 | 0x89 => self.push(Node::Other),
                b'G' => {
                    self.skip(8)?;
                    self.push(Node::Other);
                }
                b'K' | b'M' | b'J' => self.int(code)?,
                0x8a => {
                    let size = self.number(1)?;
                    self.long(size)?;
                }
                b'U' | b'C' | 0x8c => self.text(1)?,
                b'T' | b'B' | b'X' => self.text(4)?,
                0x8d | 0x8e => self.text(8)?,
                b']' | b')' => self.push(Node::List(Vec::new())),
                b'}' => self.push(Node::Dict(Vec::new())),
                b't' | b'l' => {
                    let items = self.since_mark()?;
                    self.push(Node::List(items));
                }
                0x85..=0x87 => {
                    let items = self.last(usize::from(code - 0x84))?;
                    self.push(Node::List(items));
                }
                b'a' | b'e' | b's' | b'u' => self.extend(code)?,
                b'q' | b'r' | 0x94 => self.remember(code)?,
                b'h' | b'j' => self.recall(code)?,
                b'c' => self.global()?,
                0x93 | b'R' | 0x81 => {
                    self.last(2)?;
                    self.push(Node::Object(None));
                }
                b'b' => self.build()?,
                _ => return Err(format!("opcode {code:#04x} at byte {start}")),
            }
        }
    }

    fn int(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b'K' => self.number(1)? as i64,
            b'M' => self.number(2)? as i64,
            _ => i64::from(self.number(4)? as u32 as i32),
        };
        self.push(Node::Int(value));
        Ok(())
    }

    /// A little-endian number in two's complement.
    fn long(&mut self, size: u64) -> Result<(), String> {
        if size > 8 {
            return Err(format!("a number of {size} bytes at byte {}", self.at));
        }
        let unused = 64 - 8 * size as u32;
        let bits = self.number(size as usize)?;
        let value = if size == 0 { 0 } else { (bits << unused) as i64 >> unused };
        self.push(Node::Int(value));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let size = self.number(width)?;
        let size = usize::try_from(size).map_err(|e| e.to_string())?;
        let range = self.take(size)?;
        self.push(Node::Bytes(range));
        Ok(())
    }

    /// Appends to the list, or sets in the dictionary, that is on the stack.
    fn extend(&mut self, code: u8) -> Result<(), String> {
        let more = match code {
            b'a' => self.last(1)?,
            b's' => self.last(2)?,
            _ => self.since_mark()?,
        };
        let at = self.at;
        let &to = self.stack.last().ok_or("an empty stack")?;
        match (&mut self.nodes[to], code) {
            (Node::List(items), b'a' | b'e') => items.extend(more),
            (Node::Dict(items), b's' | b'u') if more.len().is_multiple_of(2) => items.extend(more),
            _ => return Err(format!("items for something that takes none at byte {at}")),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'q' => self.number(1)? as usize,
            b'r' => self.number(4)? as usize,
            _ => self.memo.len(),
        };
        let &top = self.stack.last().ok_or("an empty stack")?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), String> {
        let place = self.number(if code == b'h' { 1 } else { 4 })? as usize;
        let &node = self.memo.get(&place).ok_or_else(|| format!("memo place {place}, unset"))?;
        self.stack.push(node);
        Ok(())
    }

    /// Two lines, module and name.
    fn global(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let rest = &self.bytes[self.at..];
            let end = rest.iter().position(|&b| b == b'\n').ok_or("a name without end")?;
            self.at += end + 1;
        }
        self.push(Node::Other);
        Ok(())
    }

    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let &object = self.stack.last().ok_or("an empty stack")?;
        let Node::Object(of) = &mut self.nodes[object] else {
            return Err(format!("state for something that has none at byte {}", self.at));
        };
        *of = Some(state);
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<usize, String> {
        Ok(self.last(1)?[0])
    }

    /// Takes the last `count` values off the stack, none of them from below the last mark.
    fn last(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= floor);
        let from = from.ok_or_else(|| format!("too few values at byte {}", self.at))?;
        Ok(self.stack.split_off(from))
    }

    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let from = self.marks.pop().ok_or_else(|| format!("no mark at byte {}", self.at))?;
        Ok(self.stack.split_off(from))
    }

    /// A little-endian number of at most eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        let range = self.take(width)?;
        let bytes = &self.bytes[range];
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(|_| ())
    }

    fn take(&mut self, count: usize) -> Result<Range<usize>, String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!("{} bytes where {count} more are announced", self.bytes.len() - self.at)
        })?;
        Ok(std::mem::replace(&mut self.at, end)..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_3_pickles_of_protocol_4_are_read_too() {
        // pickletools.optimize(pickle.dumps({"labels": [6, 300, -1, 2**40]}, 4))
        let bytes = b"\x80\x04\x95\x1f\0\0\0\0\0\0\0}\x8c\x06labels](K\x06M,\x01\
            J\xff\xff\xff\xff\x8a\x06\0\0\0\0\0\x01es.";
        let pickle = Pickle::parse(bytes).unwrap();
        let labels = pickle.get("labels").unwrap();
        assert_eq!(pickle.ints(labels).unwrap(), [6, 300, -1, 1 << 40]);
        assert!(pickle.get("data").is_none());
    }

    #[test]
    fn depth_and_repetition_cost_no_more_than_their_bytes() {
        // A list in a list, a million deep; and one list a million times.
        let deep = [b"]".repeat(1_000_000), b"a".repeat(999_999), b".".to_vec()].concat();
        assert_eq!(Pickle::parse(&deep).unwrap().nodes.len(), 1_000_001);
        let wide = [b"(]q\0".to_vec(), b"h\0".repeat(1_000_000), b"l.".to_vec()].concat();
        assert_eq!(Pickle::parse(&wide).unwrap().nodes.len(), 3);
        // A list in itself.
        assert!(Pickle::parse(b"]q\0h\0a.").is_ok());
    }

    #[test]
    fn faults_are_said_in_words() {
        for (bytes, said) in [
            (&b""[..], "0 bytes where 1 more are announced"),
            (b"B\xff\xff\xff\xbfabc", "3 bytes where 3221225471 more are announced"),
            (b"(K\x01\x86.", "too few values at byte 4"),
            (b"K\x01l.", "no mark at byte 3"),
            (b"h\x05.", "memo place 5, unset"),
            (b"K\x01K\x02b.", "state for something that has none at byte 5"),
            (b"\x8a\x09aaaaaaaaa.", "a number of 9 bytes at byte 2"),
            (b"cos\nsystem\n(S'ls'\ntR.", "opcode 0x53 at byte 12"),
        ] {
            assert_eq!(Pickle::parse(bytes).unwrap_err(), said, "{bytes:?}");
        }
    }
}
