//! What boto3 cannot show: how archives are kept.

use super::store::Store;
use kilter_testkit::MemoryTable;
use std::{io::Read, sync::Arc};

#[test]
fn archives_come_back_in_pieces_and_go() {
    let store = Store::new(Arc::new(MemoryTable::new()));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(store.keep_archive("a", &mut &bytes[..], 4 << 20).unwrap(), 3_000_000);
    store.keep_archive("b", &mut &bytes[..7], 4 << 20).unwrap();
    assert_eq!(store.archives().unwrap(), ["a", "b"]);
    let mut back = Vec::new();
    store.archive("a").read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    store.drop_archive("a").unwrap();
    assert_eq!(store.archives().unwrap(), ["b"]);
}
