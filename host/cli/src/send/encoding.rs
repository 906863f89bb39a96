//! How events are written: JSON lines as they are, or each turned into a MessagePack map. Pure.

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::source::lines;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// Lines as they are.
    #[default]
    Json,
    /// Every line as a MessagePack map.
    Msgpack,
}

/// Appends every line as a map. On sockets each has its length in front, four bytes, the greatest first; `first_line` is
/// for messages.
pub fn write_maps(block: &[u8], first_line: u64, with_lengths: bool, to: &mut Vec<u8>) -> anyhow::Result<()> {
    for (line, number) in lines(block).zip(first_line..) {
        let begin = to.len();
        if with_lengths {
            to.extend_from_slice(&[0; 4]);
        }
        write_map(line, to).with_context(|| format!("line {number} cannot be sent as MessagePack"))?;
        if with_lengths {
            let length = u32::try_from(to.len() - begin - 4).with_context(|| format!("line {number} is too long"))?;
            to[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

fn write_map(line: &[u8], to: &mut Vec<u8>) -> anyhow::Result<()> {
    let value: Value =
        serde_json::from_slice(line).context("it is not valid JSON; send it as it is, without --encoding")?;
    if !value.is_object() {
        bail!("it is not a JSON object; send it as it is, without --encoding");
    }
    rmp_serde::encode::write(to, &value)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_mean_what_the_lines_said() {
        let block = b"{\"b\":[1,-2,0.5,null,true],\"a\":{\"c\":\"\xc3\xa9\"}}\n{}\n";
        let mut framed = Vec::new();
        write_maps(block, 1, true, &mut framed).unwrap();
        let length = u32::from_be_bytes(framed[..4].try_into().unwrap()) as usize;
        let read: Value = rmp_serde::from_slice(&framed[4..4 + length]).unwrap();
        assert_eq!(read, serde_json::json!({"a": {"c": "é"}, "b": [1, -2, 0.5, null, true]}));
        assert_eq!(framed[4 + length..], [0, 0, 0, 1, 0x80]);

        let mut bare = Vec::new();
        write_maps(block, 1, false, &mut bare).unwrap();
        assert_eq!(bare, [&framed[4..4 + length], &[0x80]].concat());
    }

    #[test]
    fn what_is_no_object_is_named_by_line() {
        let told = |block: &[u8]| format!("{:#}", write_maps(block, 7, true, &mut Vec::new()).unwrap_err());
        assert!(told(b"{}\n[]\n").starts_with("line 8 cannot be sent as MessagePack: it is not a JSON object"));
        assert!(told(b"{\n").starts_with("line 7 cannot be sent as MessagePack: it is not valid JSON"));
    }
}
