//! Any bytes as a document of S3: read or refused; what was read and is written again says the same, where it has names
//! such as S3's and letters that XML can hold.
#![no_main]

use kilter_door_aws::s3::document::{Element, parse};
use libfuzzer_sys::fuzz_target;

fn plain(element: &Element) -> bool {
    let name = !element.name.is_empty() && element.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let text = element.text.chars().all(|letter| (' '..'\u{d7ff}').contains(&letter));
    name && text && element.children.iter().all(plain)
}

fuzz_target!(|bytes: &[u8]| {
    let Some(root) = parse(bytes) else { return };
    let written = root.write();
    if plain(&root) {
        let again = parse(written.as_bytes()).expect("what was written is a document");
        assert_eq!(root.children, again.children);
    }
});
