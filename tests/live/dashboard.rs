//! The Grafana dashboard: each of its queries, answered by a real Prometheus that scrapes a real run.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::camera::{Camera, CameraOptions};
use support::common::Place;
use support::live::{free_port, http, until};
use support::running::Live;

fn tool(name: &str) -> Option<PathBuf> {
    let fetched = support::repository().join("target/tools").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|folder| folder.join(name));
    std::iter::once(fetched).chain(places).find(|place| place.is_file())
}

/// Killed on drop.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let (Some(prometheus), Some(promtool)) = (tool("prometheus"), tool("promtool")) else {
        println!("skipped: there is no Prometheus (scripts/tools.sh)");
        return;
    };
    let place = Place::new();
    let camera = Camera::start(CameraOptions { width: 160, height: 96, ..CameraOptions::default() });
    let (port, at) = (free_port(), free_port());
    let mut run = Live::start(
        &place,
        &format!(
            "run test://ball?live=1&width=160&height=96 {} -o hls:hls-{{name}} -o exec:true --http {port}",
            camera.address()
        ),
    );
    until("it is up", || http(port, "GET", "/healthz").0 == 200);
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: oodstream\n    static_configs:\n      - targets: \
         ['127.0.0.1:{port}']\n"
    );
    fs::write(place.path("prometheus.yml"), config).unwrap();
    let checked = Command::new(&promtool).args(["check", "config"]).arg(place.path("prometheus.yml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let _prometheus = Prometheus(
        Command::new(prometheus)
            .arg(format!("--config.file={}", place.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", place.path("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{at}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let answers = |query: &str| {
        let server = format!("http://127.0.0.1:{at}");
        let output = Command::new(&promtool).args(["query", "instant", "-o", "json", &server, query]).output().unwrap();
        let lines = serde_json::from_slice::<Value>(&output.stdout).ok()?;
        Some(lines.as_array()?.len())
    };
    until("it scrapes both streams", || {
        answers("count(rate(oodstream_frames_out_total[10s]) > 0) == 2").is_some_and(|lines| lines == 1)
    });

    let text = fs::read_to_string(support::repository().join("deploy/grafana/oodstream.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let now = query.replace("$__rate_interval", "10s").replace("$stream", ".*");
            let lines = answers(&now).unwrap_or_else(|| panic!("{}: {now} is no query", panel["title"]));
            assert!(lines > 0, "{}: {now} has no answer", panel["title"]);
            asked.extend(now.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    // Every metric of the run is on the dashboard.
    let (_, text) = http(port, "GET", "/metrics");
    let metrics: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(metrics.len() > 15, "{metrics:?}");
    let optional = ["oodstream_packets_reordered"];
    for metric in metrics.iter().filter(|metric| !optional.contains(metric)) {
        let is_shown = asked.iter().any(|word| word.starts_with(*metric));
        assert!(is_shown, "{metric} is on no panel");
    }
    run.stop(130);
}
