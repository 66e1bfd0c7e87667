//! Imports run one way: each room of `src` imports only from the lines below its own in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The line of each room in the list of ARCHITECTURE.md.
fn layers() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let list =
        text.lines().skip_while(|line| line.trim() != "```rooms").skip(1).take_while(|line| line.trim() != "```");
    list.enumerate()
        .flat_map(|(layer, line)| line.split(',').map(move |room| (room.trim().to_owned(), layer)))
        .collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first segments of what follows each `crate::`, whether it is a path or a list in braces. Comments and what follows
/// `#[cfg(test)]` do not count.
fn imported(source: &str) -> Vec<String> {
    let code: String = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut names = Vec::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            names.extend(word(after));
            continue;
        };
        let (mut depth, mut starts) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                _ if starts && !c.is_whitespace() => {
                    names.extend(word(&list[at..]));
                    starts = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// The identifier at the start of `text`.
fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

#[test]
fn imports_run_one_way() {
    let (layers, src) = (layers(), root().join("src"));
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(&layer) = layers.get(&room) else {
            wrong.push(format!("{}: the room `{room}` is not in ARCHITECTURE.md", inside.display()));
            continue;
        };
        for name in imported(&fs::read_to_string(&file).unwrap()) {
            if let Some(&other) = layers.get(&name).filter(|_| name != room) {
                seen += 1;
                if other <= layer {
                    wrong.push(format!("{}: `{room}` imports `{name}`, which is not below it", inside.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} imports between rooms were found");
}

/// The libraries of the program around the library, and the rooms that may name each.
const OF_THE_PROGRAM: [(&str, &[&str]); 7] = [
    ("axum", &["monitor"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("prometheus_client", &["monitor"]),
    ("tracing_subscriber", &["cli"]),
];

#[test]
fn the_library_names_nothing_of_the_command_line() {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&file).unwrap();
        let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
        for word in code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')) {
            if let Some((library, rooms)) = OF_THE_PROGRAM.iter().find(|(library, _)| *library == word) {
                used.insert(*library);
                if !rooms.contains(&room.as_str()) {
                    wrong.push(format!("{}: names `{library}`", inside.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len(), OF_THE_PROGRAM.len(), "the list has a library that is not used");
}

/// The public modules of `src/lib.rs`.
const PUBLIC: [&str; 5] = ["cli", "memory", "picture", "settings", "status"];

#[test]
fn examples_and_documents_use_what_is_public() {
    let mut files = vec![root().join("README.md"), root().join("src/main.rs")];
    rust_files(&root().join("examples"), &mut files);
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for name in imported(&text.replace("oodstream::", "crate::")) {
            seen += 1;
            let is_item = name.starts_with(char::is_uppercase);
            assert!(is_item || PUBLIC.contains(&name.as_str()), "{}: `{name}` is not public", file.display());
        }
    }
    assert!(seen > 10, "only {seen} names were found");
}

#[test]
fn lists_paths_and_comments_are_parsed() {
    let source = "use crate::{Error, frame::{Plane, Range},\n gst};\n// crate::cli\nlet x = crate::model::Views;\n\
                  #[cfg(test)]\nmod tests { use crate::cli; }";
    assert_eq!(imported(source), ["Error", "frame", "gst", "model"]);
}
