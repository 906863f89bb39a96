//! How far the analytics files are committed, and its bytes for the state store. Pure.

use crate::error::SinkError;

/// The first byte of an encoded position.
const VERSION: u8 = 1;
const BYTES: usize = 1 + 3 * 8;

/// The end of what was written to the analytics files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the file, from 1.
    pub file: u64,
    /// Bytes in that file.
    pub length: u64,
    /// Records in that file.
    pub batches: u64,
}

impl Position {
    /// For the state store: a version byte (1), then file, length and batches as little-endian `u64`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in [self.file, self.length, self.batches] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What [`Position::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Position, SinkError> {
        let unreadable = |what| SinkError::Position { what };
        match bytes.split_first() {
            Some((&VERSION, _)) if bytes.len() == BYTES => {}
            Some((&VERSION, _)) => {
                return Err(unreadable(format!("{} bytes instead of {BYTES}", bytes.len())));
            }
            Some((version, _)) => {
                return Err(unreadable(format!("version {version} instead of {VERSION}")));
            }
            None => return Err(unreadable("no bytes".into())),
        }
        let number = |at: usize| u64::from_le_bytes(bytes[1 + 8 * at..][..8].try_into().expect("eight bytes"));
        let position = Position { file: number(0), length: number(1), batches: number(2) };
        match position {
            Position { file: 1.., length: 1.., batches: 1.. } => Ok(position),
            _ => Err(unreadable(format!("{position:?} is no end of a record"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_position_is_version_1() {
        let position = Position { file: 2, length: 0x0102_0304_0506_0708, batches: 300 };
        let bytes = [1, 2, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 44, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(position.to_bytes(), bytes);
        assert_eq!(Position::from_bytes(&bytes).unwrap(), position);
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = Position { file: 1, length: 1, batches: 1 }.to_bytes();
        let with = |at: usize, byte| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for bytes in [vec![], good[..24].to_vec(), with(0, 2), with(1, 0), with(9, 0), with(17, 0)] {
            assert!(Position::from_bytes(&bytes).is_err(), "accepted {bytes:?}");
        }
    }
}
