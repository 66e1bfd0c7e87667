//! `oodstream manual` through the binary: every command has a page, and completions know the options.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn manual(folder: &Path) -> Output {
    Command::new(support::binary()).arg("manual").arg(folder).output().unwrap()
}

#[test]
fn every_command_has_a_page_and_completions_know_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let made = manual(folder.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let page = |name: &str| fs::read_to_string(folder.path().join("man1").join(format!("{name}.1"))).unwrap();
    for command in ["run", "bench", "bench-kmeans", "calibrate", "eval", "model", "model-inspect", "doctor"] {
        let name = format!("oodstream-{command}");
        assert!(page(&name).contains(&format!("oodstream {}", command.replace('-', " "))), "{name}");
    }
    assert!(!folder.path().join("man1/oodstream-manual.1").exists(), "it is for those who make packages");
    let (whole, run) = (page("oodstream"), page("oodstream-run"));
    assert!(whole.contains(".SH EXAMPLES\n.nf\n") && whole.contains(".fi\n.SH VERSION"), "{whole}");
    assert!(run.contains("\\-\\-policy") && run.contains("oodstream run rtsp://"), "{run}");
    for (shell, option) in [("oodstream.bash", "--policy"), ("_oodstream", "--policy"), ("oodstream.fish", "-l policy")]
    {
        let text = fs::read_to_string(folder.path().join("completions").join(shell)).unwrap();
        assert!(text.contains(option), "{shell}");
    }
}

#[test]
fn a_file_in_place_of_the_folder_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let made = manual(file.path());
    assert_eq!(made.status.code(), Some(1));
    let message = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(message.contains(&file.path().display().to_string()), "{message}");
}
