//! A log lives, loses power or is damaged, and is opened: it keeps all it promised or refuses and changes nothing, and what
//! opened once goes on and opens again with the same frames.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tally_fuzz::Input;
use tally_testkit::{Fault, MemStorage};
use tally_wal::{Durability, Frame, Keep, Log, Options, Reader, repair};

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let options = options(input.byte());
    let storage = MemStorage::new();
    let life = Life::live(&storage, &options, &mut input);
    // A crash is never corruption; damage may be.
    let kind = input.byte();
    let after = if kind & 1 == 0 { storage.crash(input.u64()) } else { storage.duplicate() };
    let damaged = kind & 2 != 0 && damage(&after, &mut input);
    check(&life, &after, &options, damaged);
});

fn options(byte: u8) -> Options {
    let durability = match byte % 3 {
        0 => Durability::Fsync,
        1 => Durability::Interval(Duration::from_millis(100)),
        _ => Durability::Os,
    };
    Options {
        segment_bytes: 8192,
        spare_segments: 0,
        max_frame_bytes: 1 << 16,
        salt: Some(u64::from(byte)),
        durability,
        ..Options::default()
    }
}

/// What was written, and what was promised of it.
struct Life {
    /// Frame n stands at n - 1; the last ones may not have been acknowledged.
    frames: Vec<Frame>,
    durable: u64,
    deletable_before: u64,
}

impl Life {
    fn live(storage: &MemStorage, options: &Options, input: &mut Input<'_>) -> Self {
        let mut life = Self { frames: Vec::new(), durable: 0, deletable_before: 0 };
        let Ok((mut log, _)) = Log::open(storage.clone(), options.clone()) else { panic!("an empty directory opens") };
        let fault = input.u16();
        if fault != 0 {
            let kind = [Fault::Broken, Fault::NoSpace, Fault::ShortWrite, Fault::PowerLoss][usize::from(fault & 3)];
            storage.inject(storage.operations() + u64::from(fault >> 2), kind);
        }
        for _ in 0..input.byte() % 16 {
            let step = input.byte();
            let done = match step % 8 {
                0 => life.write(&mut log, None, step),
                1 => log.sync().is_ok(),
                2 => {
                    let before = log.next_frame().saturating_sub(u64::from(step >> 3));
                    life.deletable_before = life.deletable_before.max(before);
                    let _ = log.delete_before(before);
                    true
                }
                _ => life.write(&mut log, Some(u32::from(step >> 3)), input.byte()),
            };
            life.durable = life.durable.max(log.durable_frame());
            if !done {
                break;
            }
        }
        life
    }

    /// Writes a frame, an opening where no count is given or there is no room; false when the log stopped.
    fn write(&mut self, log: &mut Log<MemStorage>, count: Option<u32>, length: u8) -> bool {
        let body = vec![length; usize::from(length) * 16];
        if count.is_some() && log.needs_roll(body.len()) && !self.write(log, None, 2) {
            return false;
        }
        let (number, first_sequence) = (log.next_frame(), log.next_sequence());
        self.frames.truncate(number as usize - 1);
        let count_or_none = count.unwrap_or_default();
        let opening = count.is_none();
        self.frames.push(Frame { number, first_sequence, count: count_or_none, opening, body: body.clone() });
        match count {
            None => log.roll(&body).is_ok(),
            Some(count) => log.append(count, &body).is_ok(),
        }
    }
}

/// Changes files behind the log's back; whether it changed any.
fn damage(storage: &MemStorage, input: &mut Input<'_>) -> bool {
    let mut damaged = false;
    while !input.is_empty() {
        let names = storage.names();
        let how = input.byte();
        let Some(name) = names.get(usize::from(how >> 3) % names.len().max(1)) else { break };
        let mut bytes = storage.contents(name).unwrap_or_default();
        match how & 7 {
            0 => bytes.truncate(input.u16().into()),
            1 => bytes = input.short().to_vec(),
            2 => bytes.extend_from_slice(input.short()),
            3 => {
                // A copy under the next number.
                storage.overwrite(&format!("wal_{:010}.seg", u64::from(input.byte())), bytes.clone());
            }
            _ => {
                let at = usize::from(input.u16());
                let with = input.short();
                let room = bytes.len().saturating_sub(at).min(with.len());
                if room > 0 {
                    bytes[at..at + room].copy_from_slice(&with[..room]);
                }
            }
        }
        storage.overwrite(name, bytes);
        damaged = true;
    }
    damaged
}

fn check(life: &Life, storage: &MemStorage, options: &Options, damaged: bool) {
    let before = files(storage);
    let seen = Reader::open_read_only(storage.clone()).map(|mut reader| read(&mut reader));
    assert_eq!(files(storage), before, "reading changes nothing");
    let (mut log, recovered) = match Log::open(storage.clone(), options.clone()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(damaged, "a crash is no corruption: {error}");
            assert!(seen.is_err(), "readable, but it does not open: {error}");
            assert_eq!(files(storage), before, "a refused log is left as it was");
            check_repair(storage, options);
            return;
        }
    };
    let seen = seen.expect("it opens, but it is not readable");
    let (frames, whole) = read(&mut log.reader());
    assert_eq!((&frames, whole), (&seen.0, seen.1), "what is read beforehand is what is there");
    assert!(frames.windows(2).all(|pair| pair[0].number + 1 == pair[1].number), "frames are dense");
    if !damaged {
        assert!(whole, "a crash is no corruption");
        assert!(recovered.next_frame > life.durable, "lost: {recovered:?}, but {} was durable", life.durable);
        assert!(recovered.first_frame <= life.deletable_before.max(1), "deleted too much: {recovered:?}");
        assert_eq!(frames, life.frames[recovered.first_frame as usize - 1..recovered.next_frame as usize - 1]);
    }
    if !whole {
        return;
    }
    let mut expected = frames;
    for (count, length) in [(3, 100), (0, 0), (1, 9000)] {
        let body = vec![7; length];
        if log.needs_roll(length) {
            log.roll(b"again").expect("goes on");
        }
        if log.append(count, &body).is_err() {
            return;
        }
    }
    log.sync().expect("goes on");
    let (after, _) = read(&mut log.reader());
    assert_eq!(after[..expected.len()], expected[..], "what was there stays");
    expected = after;
    drop(log);
    let (log, again) = Log::open(storage.clone(), options.clone()).expect("opens again");
    assert_eq!(again.torn_bytes, 0, "a torn tail is cut once");
    assert_eq!(read(&mut log.reader()).0, expected);
}

/// A log that does not open is repaired, or that is refused too; either way nothing panics and what is repaired opens.
fn check_repair(storage: &MemStorage, options: &Options) {
    let Ok(Some(planned)) = repair(storage, Keep::Before, false) else { return };
    let done = repair(storage, Keep::Before, true).expect("as planned").expect("as planned");
    assert_eq!((planned.lost_frames, planned.lost_events), (done.lost_frames, done.lost_events));
    let (log, _) = Log::open(storage.clone(), options.clone()).expect("a repaired log opens");
    assert!(read(&mut log.reader()).1, "a repaired log is whole");
}

/// All frames up to the end or to the first that cannot be read; whether the end was reached.
fn read(reader: &mut Reader<MemStorage>) -> (Vec<Frame>, bool) {
    let mut frames = Vec::new();
    let mut frame = Frame::default();
    loop {
        match reader.next(&mut frame) {
            Ok(true) => frames.push(frame.clone()),
            Ok(false) => return (frames, true),
            Err(_) => return (frames, false),
        }
    }
}

fn files(storage: &MemStorage) -> Vec<(String, Option<Vec<u8>>)> {
    storage.names().into_iter().map(|name| (name.clone(), storage.contents(&name))).collect()
}
