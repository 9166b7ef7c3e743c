//! The archive of a model, `model.tar.gz`: written by `kilter model train`, read by endpoints. Reading touches no disk
//! and is bounded, whatever the archive says of itself.

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use kilter_core::ports::function::{Model, Models};
use kilter_detect::{
    StateError,
    forest::{MODEL_BYTES_MAX, RandomCutForest},
};
use std::{
    io::{self, Read},
    sync::Arc,
};

/// The model file's name in the archive.
pub const MODEL_FILE: &str = "kilter-forest.bin";
/// Bytes of the archive when it is unpacked: the model file, and room for what others put beside it.
const UNPACKED_BYTES_MAX: u64 = MODEL_BYTES_MAX as u64 + (16 << 20);
/// Entries that are looked at.
const ENTRIES_MAX: usize = 100;

/// The archive of a forest.
pub fn archive(forest: &RandomCutForest) -> io::Result<Vec<u8>> {
    let file = forest.to_file();
    let mut header = tar::Header::new_ustar();
    header.set_size(file.len() as u64);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    tar.append_data(&mut header, MODEL_FILE, &file[..])?;
    tar.into_inner()?.finish()
}

/// Opens archives for endpoints.
pub struct ModelArchives;

struct Forest(RandomCutForest);

impl Models for ModelArchives {
    fn open(&self, archive: &mut dyn Read) -> Result<Arc<dyn Model>, String> {
        let file = model_file(archive)?;
        let forest = RandomCutForest::from_file(&file)
            .map_err(|error| format!("{MODEL_FILE} cannot be used: {}; expected is {EXPECTED}", in_words(error)))?;
        Ok(Arc::new(Forest(forest)))
    }
}

/// The error's own words are for what is kept of things.
fn in_words(error: StateError) -> String {
    match error {
        StateError::Empty => "it is cut short".to_owned(),
        StateError::Version { found, known } => {
            format!("it has version {found}, and this program reads version {known}: train it again")
        }
        StateError::Damaged { what } => what,
    }
}

const EXPECTED: &str = "a gzipped tar with a file that `kilter model train` made";

/// The bytes of the model file, the only ones that are kept.
fn model_file(archive: &mut dyn Read) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("the archive cannot be read: {error}; expected is {EXPECTED}");
    let mut plain = MultiGzDecoder::new(archive).take(UNPACKED_BYTES_MAX);
    let mut tar = tar::Archive::new(&mut plain);
    let mut others = Vec::new();
    // Raw: no entry changes the name or the size of the next one, and none is sparse.
    for entry in tar.entries().map_err(unreadable)?.raw(true).take(ENTRIES_MAX) {
        let entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        if name != MODEL_FILE {
            if entry.header().entry_type().is_file() {
                others.push(name.chars().take(64).collect::<String>());
            }
            continue;
        }
        let size = entry.header().entry_size().map_err(unreadable)?;
        if !entry.header().entry_type().is_file() {
            return Err(format!("{MODEL_FILE} is no plain file in the archive; expected is {EXPECTED}"));
        }
        if size > MODEL_BYTES_MAX as u64 {
            return Err(format!("{MODEL_FILE} has {size} bytes; a model file has at most {MODEL_BYTES_MAX}"));
        }
        let mut file = Vec::new();
        entry.take(size).read_to_end(&mut file).map_err(unreadable)?;
        return if file.len() as u64 == size {
            Ok(file)
        } else {
            Err(format!("the archive ends within {MODEL_FILE}; expected is {EXPECTED}"))
        };
    }
    if plain.limit() == 0 {
        return Err(format!("no {MODEL_FILE} within the first {UNPACKED_BYTES_MAX} bytes of the unpacked archive"));
    }
    let found = if others.is_empty() { "no file".to_owned() } else { others.join(", ") };
    Err(format!("the archive holds {found:.300}, and no {MODEL_FILE}; expected is {EXPECTED}"))
}

impl Model for Forest {
    fn features(&self) -> usize {
        self.0.parameters().features
    }

    fn score(&self, point: &[f64]) -> f64 {
        self.0.score(point).expect("the port's caller gives as many finite numbers as there are features")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_detect::forest::Parameters;
    use std::io::Write;

    fn forest() -> RandomCutForest {
        let mut forest = RandomCutForest::new(Parameters { features: 2, trees: 20, samples: 64 }, 1).unwrap();
        for i in 0..200u32 {
            forest.learn(&[f64::from(i % 7), f64::from(i % 11)]);
        }
        forest
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(plain).unwrap();
        gzip.finish().unwrap()
    }

    fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_path(name).unwrap();
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        gzip(&tar.into_inner().unwrap())
    }

    fn open(bytes: &[u8]) -> Result<Arc<dyn Model>, String> {
        ModelArchives.open(&mut &bytes[..])
    }

    #[test]
    fn an_archive_scores_as_its_forest() {
        let forest = forest();
        let model = open(&archive(&forest).unwrap()).unwrap();
        assert_eq!(model.features(), 2);
        assert_eq!(model.score(&[3.0, 50.0]).to_bits(), forest.score(&[3.0, 50.0]).unwrap().to_bits());
        let file = forest.to_file();
        let regular = tar::EntryType::Regular;
        let beside = tar(&[("readme", regular, b"x"), ("./kilter-forest.bin", regular, &file)]);
        assert!(open(&beside).is_ok());
    }

    #[test]
    fn what_is_no_model_is_refused_and_said() {
        let file = forest().to_file();
        let regular = tar::EntryType::Regular;
        let whole = archive(&forest()).unwrap();
        for (bytes, why) in [
            (b"not gzip".to_vec(), "cannot be read"),
            (gzip(b"not tar, and as long as a header has to be".repeat(20).as_slice()), "cannot be read"),
            (gzip(b""), "holds no file"),
            (whole[..whole.len() / 2].to_vec(), "expected is a gzipped tar"),
            (
                tar(&[("model.onnx", regular, b"x"), ("code/inference.py", regular, b"y")]),
                "model.onnx, code/inference.py",
            ),
            (tar(&[(MODEL_FILE, regular, b"pickle")]), "does not begin as model files do"),
            (tar(&[(MODEL_FILE, tar::EntryType::Symlink, b"")]), "no plain file"),
            (tar(&[("x/kilter-forest.bin", regular, &file)]), "and no kilter-forest.bin"),
        ] {
            let said = open(&bytes).err().unwrap();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn hostile_archives_are_bounded() {
        // A header that claims more than the file may have.
        let mut header = tar::Header::new_ustar();
        header.set_path(MODEL_FILE).unwrap();
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        assert!(open(&gzip(header.as_bytes())).err().unwrap().contains("at most"));
        header.set_size(1_000);
        header.set_cksum();
        assert!(open(&gzip(header.as_bytes())).err().unwrap().contains("ends within"));
        // A bomb: more unpacked bytes than are read.
        header.set_path("zeros").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
        bomb.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..UNPACKED_BYTES_MAX >> 20 {
            bomb.write_all(&zeros).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "it is small");
        let said = open(&bomb).err().unwrap();
        assert!(said.contains("within the first") || said.contains("cannot be read"), "{said}");
        // Many entries.
        let many: Vec<_> = (0..1_000).map(|_| ("a", tar::EntryType::Regular, &b""[..])).collect();
        assert!(open(&tar(&many)).err().unwrap().contains("and no kilter-forest.bin"));
    }
}
