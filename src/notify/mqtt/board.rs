//! The retained topics of a run: availability, the state of each live stream, and what Home Assistant reads to find
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::lock::lock;
use crate::ood::alarm::{Event, EventType};

/// The last value of each retained topic.
#[derive(Debug)]
pub(in crate::notify) struct Board {
    topic: String,
    /// Where Home Assistant looks for devices; none: nothing is announced.
    discovery: Option<String>,
    streams: Mutex<BTreeMap<String, State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Identities of the alarms that go on.
    alarms: BTreeSet<String>,
    /// The last line of an event.
    event: Option<Arc<str>>,
    /// It is not what the broker has.
    changed: bool,
}

/// A topic and its value.
pub(super) type Retained = (String, String);

impl Board {
    /// The board of live `streams`, below `topic`.
    pub fn new(topic: &str, discovery: &str, streams: &[String]) -> Self {
        let streams = streams.iter().map(|stream| (stream.clone(), State::default())).collect();
        let discovery = Some(discovery.trim_matches('/').to_owned()).filter(|prefix| !prefix.is_empty());
        Self { topic: topic.to_owned(), discovery, streams: Mutex::new(streams) }
    }

    /// Takes an event, written as `line`.
    pub fn event(&self, event: &Event, line: &Arc<str>) {
        let mut streams = self.lock();
        let Some(state) = streams.get_mut(&event.stream) else { return };
        if event.kind == EventType::End {
            state.alarms.remove(&event.id);
        } else if event.alarm {
            state.alarms.insert(event.id.clone());
        }
        state.event = Some(Arc::clone(line));
        state.changed = true;
    }

    /// Topic of the events.
    pub(super) fn events(&self) -> String {
        format!("{}/events", self.topic)
    }

    /// Topic of `online` or `offline`.
    pub(super) fn availability(&self) -> String {
        format!("{}/availability", self.topic)
    }

    /// Everything that a broker needs to know at first.
    pub(super) fn whole(&self) -> Vec<Retained> {
        let mut all = Vec::new();
        let mut streams = self.lock();
        if let Some(prefix) = &self.discovery {
            all.extend(streams.keys().flat_map(|stream| self.announcement(prefix, stream)));
        }
        all.push((self.availability(), "online".to_owned()));
        for (stream, state) in streams.iter_mut() {
            all.extend(self.state(stream, state));
        }
        all
    }

    /// What has changed since the last time.
    pub(super) fn changes(&self) -> Vec<Retained> {
        let mut streams = self.lock();
        let changed = streams.iter_mut().filter(|(_, state)| state.changed);
        changed.flat_map(|(stream, state)| self.state(stream, state)).collect()
    }

    fn state(&self, stream: &str, state: &mut State) -> Vec<Retained> {
        state.changed = false;
        let alarm = if state.alarms.is_empty() { "OFF" } else { "ON" };
        let mut topics = vec![(format!("{}/{stream}/alarm", self.topic), alarm.to_owned())];
        if let Some(line) = &state.event {
            topics.push((format!("{}/{stream}/event", self.topic), line.to_string()));
        }
        topics
    }

    /// What Home Assistant makes a device with two entities of.
    fn announcement(&self, prefix: &str, stream: &str) -> [Retained; 2] {
        let device = format!("oodstream_{}_{}", plain(&self.topic), plain(stream));
        let topic = |name: &str| format!("{}/{stream}/{name}", self.topic);
        let common = |id: &str, name: &str| {
            json!({
                "name": name,
                "unique_id": format!("{device}_{id}"),
                "availability_topic": self.availability(),
                "device": {
                    "identifiers": [device],
                    "name": stream,
                    "manufacturer": "oodstream",
                    "sw_version": env!("CARGO_PKG_VERSION"),
                },
                "origin": { "name": "oodstream", "sw_version": env!("CARGO_PKG_VERSION") },
            })
        };
        let alarm = with(common("alarm", "Alarm"), json!({ "device_class": "safety", "state_topic": topic("alarm") }));
        let severity = with(
            common("severity", "Severity"),
            json!({
                "state_topic": topic("event"),
                "value_template": "{{ (value_json.severity * 100) | round(0) }}",
                "unit_of_measurement": "%",
                "json_attributes_topic": topic("event"),
                "icon": "mdi:road-variant",
            }),
        );
        [
            (format!("{prefix}/binary_sensor/{device}/alarm/config"), alarm.to_string()),
            (format!("{prefix}/sensor/{device}/severity/config"), severity.to_string()),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        lock(&self.streams)
    }
}

fn with(mut value: Value, more: Value) -> Value {
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// `text` as a part of a discovery topic: letters, digits, `_` and `-`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
