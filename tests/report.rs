//! The report in a browser: curves, tables, the values under the pointer, and a silent console.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::path::Path;
use std::process::Command;

use alcyon::nn::data;
use alcyon::prelude::*;
use alcyon::train::{Budget, Plan, Record, Run, Shuffled, Supervised, Trainer, report};

/// Browsers that can be asked for the page as they see it.
const BROWSERS: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// What a browser makes of a page: its document, and what it says on the console.
fn open(browser: &str, page: &Path) -> (String, String) {
    let own = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--v=0", "--window-size=1280,900", "--dump-dom"])
        .arg(format!("--user-data-dir={}", own.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = text(output.stderr);
    let said = said.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (text(output.stdout), said)
}

/// A run of a few epochs, written down.
fn run(name: &str, folder: &Path) -> Run {
    let (train, test) = data::iris().unwrap();
    let mut model = Mlp::new(&[4, 8, 3], &mut Rng::new(0));
    let mut optimizer = alcyon::optim::build(name, None).unwrap();
    let mut record = Record::new(folder, name, vec![("optimizer".into(), name.into())]);
    let plan = Plan { budget: Budget::epochs(4), ..Plan::default() };
    Trainer::new(&mut model, &mut *optimizer, &Supervised::classification(), plan)
        .unwrap()
        .observe(&mut record)
        .run(&Shuffled::new(Loader::new(&train, 16).unwrap(), 0), &Loader::new(&test, 16).unwrap())
        .unwrap();
    Run::read(folder).unwrap()
}

#[test]
fn a_browser_finds_curves_and_tables_and_has_nothing_to_complain_about() {
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = BROWSERS.iter().find(there) else {
        eprintln!("SKIPPED: no browser among {}", BROWSERS.join(", "));
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let runs = ["adafisher", "kfac"].map(|name| run(name, &dir.path().join(name)));
    let page = dir.path().join("report.html");
    report::write(&page, "Iris", &runs).unwrap();

    let (document, said) = open(browser, &page);
    assert_eq!(said, "");
    // The script has run: it counts the figures when it is done.
    assert!(document.contains("data-ready=\"3\""), "loss, accuracy and rate");
    assert!(
        document.contains("<table id=\"results\">") && document.contains("<table id=\"settings\">")
    );
    assert!(document.matches("class=\"line run-1\"").count() > 4);
    assert!(document.contains("heat vector") && document.contains("heat matrix"));
    assert!(document.contains("id=\"tip\" hidden"));

    // A pointer in the middle of the first figure is shown the values there.
    let pointing = "<script>const chart = document.querySelector('.chart svg');\
        const box = chart.getBoundingClientRect();\
        const at = { clientX: box.left + box.width / 2, clientY: box.top + 30 };\
        chart.dispatchEvent(new PointerEvent('pointermove', at));</script></body>";
    let text = fs::read_to_string(&page).unwrap();
    let pointed = dir.path().join("pointed.html");
    fs::write(&pointed, text.replace("</body>", pointing)).unwrap();
    let (document, said) = open(browser, &pointed);
    assert_eq!(said, "");
    assert!(!document.contains("id=\"tip\" hidden"));
    assert!(document.contains("kfac · training") && document.contains("adafisher · held out"));

    // The console is heard: a page with a mistake in its script is noticed.
    let broken = dir.path().join("broken.html");
    fs::write(&broken, text.replace("const read =", "const read == ")).unwrap();
    let (document, said) = open(browser, &broken);
    assert!(said.contains("SyntaxError") && !document.contains("data-ready"), "{said}");
}
