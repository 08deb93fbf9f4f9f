use std::fs;
use std::path::Path;

use super::TARGETS;

#[test]
fn corpora_replay() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("corpus of {name}: {error}"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for file in files {
            println!("{name}: {}", file.display());
            target(&fs::read(&file).expect("a readable file"));
        }
    }
}

#[test]
fn every_target_has_its_binary_and_no_corpus_is_left_over() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(here.join("Cargo.toml")).expect("the manifest");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} has no binary");
    }
    for corpus in fs::read_dir(here.join("corpus")).expect("corpora") {
        let name = corpus.expect("an entry").file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name:?} is no target");
    }
}
