//! A body in chunks, whole and in pieces of a length that the first byte says: the same data, the same trailers, the same
//! refusal.
#![no_main]

use kilter_door_aws::sigv4::chunked::{ChunkError, Chunks};
use libfuzzer_sys::fuzz_target;

type Read = Result<(Vec<u8>, Vec<(String, String)>), ChunkError>;

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut chunks = Chunks::new(None, false);
    let mut data = Vec::new();
    for piece in pieces {
        chunks.push(piece)?.iter().for_each(|part| data.extend_from_slice(part));
    }
    Ok((data, chunks.finish()?))
}

fuzz_target!(|input: &[u8]| {
    let Some((length, body)) = input.split_first() else { return };
    let whole = read(std::iter::once(body));
    let pieces = read(body.chunks(usize::from(*length) + 1));
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert!(whole.0.len() <= body.len());
            assert_eq!(whole, pieces);
        }
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }
});
