//! Events at a broker, while it is there, away, and back.

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::broker::{Broker, Subscriber};
use support::common::Place;
use support::live::{free_port, http, metric, until};
use support::onnx;
use support::running::Live;

/// An event that never ends, with five messages a second.
const BALL: &str = "run test://ball?live=1&width=160&height=96 -o none --method max-logit --threshold 1.5 \
                    --set events.settle_s=0 --set events.road_gate=false --set events.update_s=0.2";

fn place() -> Place {
    let place = Place::new();
    onnx::white_is_unknown(64, 32).save(&place.path("model.onnx"));
    fs::write(place.path("model.toml"), "[input]\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n").unwrap();
    place
}

fn lines(place: &Place, name: &str) -> Vec<String> {
    fs::read_to_string(place.path(name)).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

/// State and reason of the first output of messages.
fn output(port: u16) -> (String, String) {
    let health: Value = serde_json::from_str(&http(port, "GET", "/healthz").1).unwrap_or_default();
    let text = |key: &str| health["outputs"][0][key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

#[test]
fn every_event_arrives_once_although_the_broker_goes_away() {
    let place = place();
    let Some(mut broker) = Broker::new(&place, "allow_anonymous true") else { return };
    broker.start();
    let subscriber = Subscriber::start(broker.port, "road/cams/events");
    let http_port = free_port();
    let name = format!("mqtt://127.0.0.1:{}/road/cams", broker.port);
    let mut run = Live::start(
        &place,
        &format!("{BALL} -o {name} -o events:e.jsonl -o snapshots:shots --http {http_port} --json r.json"),
    );
    until("messages arrive", || subscriber.seen().len() > 5);
    assert_eq!(output(http_port).0, "up");
    // The state of the stream for who comes later.
    assert_eq!(broker.retained("road/cams/availability", 1)[0].1, "online");
    until("the alarm is on", || broker.retained("road/cams/test/alarm", 1)[0].1 == "ON");
    let devices = broker.retained("homeassistant/#", 2);
    for (topic, config) in &devices {
        assert!(topic.ends_with("/config") && topic.contains("/oodstream_road_cams_test/"), "{topic}");
        let config: Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["availability_topic"], "road/cams/availability");
        assert!(config["state_topic"].as_str().unwrap().starts_with("road/cams/test/"), "{config}");
    }

    broker.stop();
    until("the output is degraded", || output(http_port).0 == "degraded");
    assert!(output(http_port).1.contains("broker"), "{:?}", output(http_port));
    let before = lines(&place, "e.jsonl").len();
    until("events go on", || lines(&place, "e.jsonl").len() > before + 5);
    let waiting = format!("oodstream_messages_waiting{{output=\"{name}\"}}");
    assert!(metric(http_port, &waiting) >= 5.0);
    assert_eq!(metric(http_port, &format!("oodstream_message_output_up{{output=\"{name}\"}}")), 0.0);
    broker.start();
    until("the output is up again", || output(http_port).0 == "up");
    until("nothing waits", || metric(http_port, &waiting) <= 1.0);
    run.stop(130);
    assert_eq!(broker.retained("road/cams/availability", 1)[0].1, "offline");

    let written = lines(&place, "e.jsonl");
    until("the last one is there", || subscriber.seen().len() >= written.len());
    assert_eq!(subscriber.seen(), written);
    let kinds: Vec<Value> = written.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds.iter().any(|event| event["type"] == "end" && event["snapshot"].is_string()), "{written:?}");
    let log = run.log();
    assert_eq!((log.matches("broker").count(), log.matches("works again").count()), (1, 1), "once per outage: {log}");
    let report: Value = serde_json::from_str(&fs::read_to_string(place.path("r.json")).unwrap()).unwrap();
    assert_eq!(report["messages"][0]["sent"], written.len());
    assert_eq!(report["messages"][0]["dropped"], 0);
}

#[test]
fn a_run_starts_without_its_broker_and_delivers_when_it_comes() {
    let place = place();
    let Some(mut broker) = Broker::new(&place, "allow_anonymous true") else { return };
    let http_port = free_port();
    let run = Live::start(
        &place,
        &format!("{BALL} -o mqtt://127.0.0.1:{}/road -o events:e.jsonl --http {http_port}", broker.port),
    );
    until("there are events", || lines(&place, "e.jsonl").len() > 5);
    assert_eq!((http(http_port, "GET", "/healthz").0, output(http_port).0.as_str()), (200, "degraded"));
    // Someone who has asked before, and is away.
    broker.start();
    drop(Subscriber::start(broker.port, "road/events"));
    let subscriber = Subscriber::start(broker.port, "road/events");
    until("messages arrive", || subscriber.seen().len() > 6);
    // A run that dies says so by its last will.
    run.signal("-KILL");
    until("it is offline", || broker.retained("road/availability", 1)[0].1 == "offline");
    assert_eq!(lines(&place, "e.jsonl")[..6], subscriber.seen()[..6]);
}

#[test]
fn what_is_not_delivered_is_counted_and_an_error() {
    let place = place();
    let port = free_port();
    let arguments = format!("{BALL} -o mqtt://127.0.0.1:{port}/road --set mqtt.queue=3 --json - --for 3s");
    let report = place.run(&arguments).code(1).says(&["messages were not delivered", "3 messages wait"]).json();
    let messages = &report["messages"][0];
    assert!(messages["dropped"].as_u64().unwrap() > 3 && messages["sent"] == 0, "{messages}");
}

#[test]
fn passwords_come_from_files_and_wrong_ones_are_refused() {
    let place = place();
    let users = place.path("users");
    let Some(mut broker) = Broker::new(&place, &format!("password_file {}", users.display())) else { return };
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args(["cam", "hunter2-S3cret"]).status();
    assert!(made.unwrap().success());
    broker.start();
    let address = format!("mqtt://cam@127.0.0.1:{}/road", broker.port);
    fs::write(place.path("right"), "hunter2-S3cret\n").unwrap();
    fs::write(place.path("wrong"), "hunter3-S3cret\n").unwrap();
    let with = |file: &str| place.run(&format!("-vv {BALL} -o {address} --set mqtt.password_file={file} --for 2s"));
    let right = with("right").code(0);
    let wrong = with("wrong").code(1).says(&["refuses the user or the password"]);
    assert!(!format!("{}{}{}", right.stderr, wrong.stderr, wrong.stdout).contains("S3cret"));
    let from_environment = place
        .program()
        .args(format!("{BALL} -o {address} --for 2s").split_whitespace())
        .env("OODSTREAM_MQTT_PASSWORD", "hunter2-S3cret")
        .status();
    assert!(from_environment.unwrap().success());
    with("gone").code(1).says(&["mqtt.password_file = gone"]);
    let in_address = address.replace("cam@", "cam:hunter2-S3cret@");
    let refused = place.run(&format!("{BALL} -o {in_address}")).code(2).says(&["mqtt.password_file"]);
    assert!(!refused.stderr.contains("S3cret"));
}
