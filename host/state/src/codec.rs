//! How values are laid out as bytes (the table in the crate's header), and the checks on the way back. Pure.

use crate::run::{RunInfo, Saved, disorder};

/// Bytes of the seal behind a payload.
const SEAL: usize = 32;
/// Bytes of one run in the list.
const RUN: usize = 8 + 8 + 1 + 8 + 32;

/// The hash that ties a payload to its place.
fn seal_of(table: &str, key: &[&[u8]], payload: &[u8]) -> [u8; SEAL] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(table.as_bytes());
    key.iter().for_each(|bytes| part(bytes));
    part(payload);
    *hasher.finalize().as_bytes()
}

/// Payload and seal.
pub(crate) fn seal(table: &str, key: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(payload.len() + SEAL);
    sealed.extend_from_slice(payload);
    sealed.extend_from_slice(&seal_of(table, key, payload));
    sealed
}

/// The payload, when the seal fits.
pub(crate) fn unseal<'a>(table: &str, key: &[&[u8]], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (payload, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL)?)?;
    (seal == seal_of(table, key, payload)).then_some(payload)
}

/// An aggregator's description and runs, as one payload.
pub(crate) fn encode_saved(meta: &[u8], runs: &[RunInfo]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + meta.len() + runs.len() * RUN);
    bytes.extend_from_slice(&length(meta.len()));
    bytes.extend_from_slice(meta);
    bytes.extend_from_slice(&length(runs.len()));
    for run in runs {
        bytes.extend_from_slice(&run.first.to_le_bytes());
        bytes.extend_from_slice(&run.last.to_le_bytes());
        bytes.push(run.level);
        bytes.extend_from_slice(&run.bytes.to_le_bytes());
        bytes.extend_from_slice(&run.hash);
    }
    bytes
}

/// Lengths are bounded far below 2^32 before they come here.
fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("lengths are checked against MAX_VALUE_BYTES before encoding").to_le_bytes()
}

/// What [`encode_saved`] wrote, or what is wrong with it.
pub(crate) fn decode_saved(payload: &[u8]) -> Result<Saved, String> {
    let mut rest = payload;
    let meta_length = take_u32(&mut rest).ok_or("its description is cut short")?;
    let meta = take(&mut rest, meta_length as usize).ok_or("its description is cut short")?.to_vec();
    let count = take_u32(&mut rest).ok_or("its list of runs is cut short")?;
    if rest.len() as u64 != u64::from(count) * RUN as u64 {
        return Err(format!("its list of {count} runs has {} bytes", rest.len()));
    }
    let runs = std::iter::from_fn(|| take_run(&mut rest)).collect::<Vec<_>>();
    match disorder(&runs) {
        Some(what) => Err(what),
        None => Ok(Saved { meta, runs }),
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take_array(rest).map(u32::from_le_bytes)
}

fn take_run(rest: &mut &[u8]) -> Option<RunInfo> {
    Some(RunInfo {
        first: u64::from_le_bytes(take_array(rest)?),
        last: u64::from_le_bytes(take_array(rest)?),
        level: take_array::<1>(rest)?[0],
        bytes: u64::from_le_bytes(take_array(rest)?),
        hash: take_array(rest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_saved_aggregator_is_format_1() {
        let run = RunInfo { first: 2, last: 3, level: 1, bytes: 5, hash: [0xab; 32] };
        let mut golden = vec![2, 0, 0, 0, b'm', b'!', 1, 0, 0, 0];
        golden.extend([2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0xab; 32]);
        assert_eq!(encode_saved(b"m!", &[run]), golden);
        assert_eq!(decode_saved(&golden), Ok(Saved { meta: b"m!".to_vec(), runs: vec![run] }));
        for cut in 0..golden.len() {
            assert!(decode_saved(&golden[..cut]).is_err(), "accepted the first {cut} bytes");
        }
        golden.push(0);
        assert!(decode_saved(&golden).is_err());
    }

    #[test]
    fn a_seal_ties_the_payload_to_its_table_and_key() {
        let sealed = seal("pendings", &[b"ab", b"c"], b"report");
        assert_eq!(
            blake3::Hash::from_slice(&sealed[6..]).unwrap().to_hex().as_str(),
            "e8d0f9169b5c4b9636aa856723335ccb5bfa1ddf5c0946bb18a434b26b4699e4"
        );
        assert_eq!(unseal("pendings", &[b"ab", b"c"], &sealed), Some(&b"report"[..]));
        assert_eq!(unseal("pendings", &[b"a", b"bc"], &sealed), None);
        assert_eq!(unseal("records", &[b"ab", b"c"], &sealed), None);
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x10;
            assert_eq!(unseal("pendings", &[b"ab", b"c"], &flipped), None, "byte {at}");
        }
        assert_eq!(unseal("pendings", &[b"ab", b"c"], b"short"), None);
    }
}
