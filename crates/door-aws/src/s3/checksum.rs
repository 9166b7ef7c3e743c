//! The checksums that S3 knows: of whole objects, of parts, and of objects made of parts.

use crate::AwsError;
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use crc::{CRC_32_ISCSI, CRC_64_NVME, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
static CRC64NVME: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As headers, elements and clients spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    pub fn of_header(header: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header().eq_ignore_ascii_case(header))
    }

    /// `ChecksumCRC32`.
    pub fn element(self) -> String {
        format!("Checksum{}", self.name())
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

enum State {
    Crc32(crc32fast::Hasher),
    Crc32c(crc::Digest<'static, u32, Table<16>>),
    Crc64Nvme(crc::Digest<'static, u64, Table<16>>),
    Digest(digest::Context),
}

/// A checksum in the making.
pub(crate) struct Hasher(State);

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            Algorithm::Crc32c => State::Crc32c(CRC32C.digest()),
            Algorithm::Crc64Nvme => State::Crc64Nvme(CRC64NVME.digest()),
            Algorithm::Sha1 => State::Digest(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Algorithm::Sha256 => State::Digest(digest::Context::new(&digest::SHA256)),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Crc32c(digest) => digest.update(bytes),
            State::Crc64Nvme(digest) => digest.update(bytes),
            State::Digest(context) => context.update(bytes),
        }
    }

    /// In base64.
    pub fn finish(self) -> String {
        match self.0 {
            State::Crc32(hasher) => STANDARD.encode(hasher.finalize().to_be_bytes()),
            State::Crc32c(digest) => STANDARD.encode(digest.finalize().to_be_bytes()),
            State::Crc64Nvme(digest) => STANDARD.encode(digest.finalize().to_be_bytes()),
            State::Digest(context) => STANDARD.encode(context.finish()),
        }
    }
}

/// Whether it is base64 of as many bytes as the algorithm has.
pub(crate) fn check_form(algorithm: Algorithm, value: &str) -> Result<(), AwsError> {
    if STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == algorithm.bytes()) {
        return Ok(());
    }
    Err(AwsError::new("InvalidRequest", format!("Value for {} header is invalid.", algorithm.header())))
}

/// The checksum of checksums: what an object of parts has, without the number of its parts. `None` where a part's
/// is not base64.
pub(crate) fn composite<'a>(algorithm: Algorithm, parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut hasher = Hasher::new(algorithm);
    for part in parts {
        hasher.update(&STANDARD.decode(part).ok()?);
    }
    Some(hasher.finish())
}

/// The checksum of the whole from those of its parts and their lengths; only CRCs can do that.
pub(crate) fn full_object<'a>(algorithm: Algorithm, parts: impl Iterator<Item = (&'a str, u64)>) -> Option<String> {
    let (polynomial, width) = match algorithm {
        Algorithm::Crc32 => (0xedb8_8320, 32),
        Algorithm::Crc32c => (0x82f6_3b78, 32),
        Algorithm::Crc64Nvme => (0x9a6c_9329_ac4b_c9b5, 64),
        Algorithm::Sha1 | Algorithm::Sha256 => return None,
    };
    let mut whole = 0;
    for (part, bytes) in parts {
        let raw = STANDARD.decode(part).ok().filter(|raw| raw.len() == width / 8)?;
        let part = raw.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        whole = shift(whole, bytes, polynomial, width) ^ part;
    }
    let bytes = whole.to_be_bytes();
    Some(STANDARD.encode(&bytes[8 - width / 8..]))
}

/// A reflected CRC after as many zero bytes: multiplication by a matrix over GF(2), which is squared for each bit of
/// the length (zlib's `crc32_combine`).
fn shift(crc: u64, bytes: u64, polynomial: u64, width: usize) -> u64 {
    // One zero bit: shift right, and the polynomial where a bit falls out.
    let mut matrix: Vec<u64> = (0..width).map(|bit| if bit == 0 { polynomial } else { 1 << (bit - 1) }).collect();
    let times = |matrix: &[u64], vector: u64| {
        (0..width).filter(|bit| vector >> bit & 1 == 1).fold(0, |sum, bit| sum ^ matrix[bit])
    };
    let square = |matrix: &[u64]| matrix.iter().map(|column| times(matrix, *column)).collect::<Vec<_>>();
    for _ in 0..3 {
        matrix = square(&matrix);
    }
    let (mut crc, mut left) = (crc, bytes);
    while left > 0 {
        if left & 1 == 1 {
            crc = times(&matrix, crc);
        }
        left >>= 1;
        if left > 0 {
            matrix = square(&matrix);
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn check_values_are_the_catalogues() {
        let of = |algorithm| {
            let raw = STANDARD.decode(super::tests::of(algorithm, b"123456789")).unwrap();
            raw.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(of(Algorithm::Crc32), "cbf43926");
        assert_eq!(of(Algorithm::Crc32c), "e3069283");
        assert_eq!(of(Algorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(of(Algorithm::Sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(of(Algorithm::Sha256), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
    }

    proptest! {
        #[test]
        fn parts_add_up(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let sums: Vec<_> = pieces.iter().map(|piece| (of(algorithm, piece), piece.len() as u64)).collect();
                let whole = full_object(algorithm, sums.iter().map(|(sum, bytes)| (sum.as_str(), *bytes)));
                prop_assert_eq!(whole, Some(of(algorithm, &pieces.concat())));
            }
        }
    }
}
